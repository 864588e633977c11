"""External data are read only from regular files inside the model's folder, in ranges that fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_oto.errors import ModelError, StorageError, UsageError
from onnx_oto.model import graph, load, normalise, save

SIZE = 4096
PAYLOAD = np.arange(SIZE, dtype=np.float32)


def model_with(location: str, **entries: object) -> onnx.ModelProto:
    weight = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[SIZE], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIZE])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", SIZE])]
    body = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", inputs, outputs, [weight])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good payload in `weights.bin`, and the same file outside of it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    for place in (inside / "weights.bin", tmp_path / "outside.bin"):
        place.write_bytes(b"\0" * 64 + PAYLOAD.tobytes())
    (inside / "loop.bin").symlink_to(inside / "loop.bin")
    return inside


def put(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_good_range_is_read(folder):
    model = load(put(folder, model_with("weights.bin", offset=64, length=4 * SIZE)))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), PAYLOAD)
    assert model.graph.initializer[0].data_location == TensorProto.DEFAULT


def test_subfolders_and_inner_links_are_fine(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "link.bin").symlink_to(folder / "weights.bin")
    load(put(folder, model_with("sub/link.bin", offset=64)))


REFUSED = {
    "parent": ("../outside.bin", {}, "outside the model's folder"),
    "hidden parent": ("sub/../../outside.bin", {}, "outside the model's folder"),
    "backslash parent": ("..\\outside.bin", {}, "outside the model's folder"),
    "absolute": ("/etc/hostname", {}, "absolute path"),
    "drive": ("C:\\weights.bin", {}, "absolute path"),
    "memory address": ("*/_ORT_MEM_ADDR_/*", {}, "memory address"),
    "empty": ("", {}, "not a file name"),
    "zero byte": ("a\0b", {}, "not a file name"),
    "absent": ("absent.bin", {}, "is not there: put that file beside the model"),
    "folder": (".", {}, "not a regular file"),
    "offset beyond": ("weights.bin", {"offset": 10**9}, "beyond"),
    "offset too far": ("weights.bin", {"offset": 68}, "beyond"),
    "negative offset": ("weights.bin", {"offset": -4}, "offset"),
    "offset no number": ("weights.bin", {"offset": "0x10"}, "offset"),
    "huge offset": ("weights.bin", {"offset": 2**70}, "offset"),
    "offset with a sign": ("weights.bin", {"offset": "+64"}, "offset '\\+64' is not a size"),
    "offset with a space": ("weights.bin", {"offset": " 64"}, "offset ' 64' is not a size"),
    "offset with an underscore": ("weights.bin", {"offset": "6_4"}, "offset '6_4' is not a size"),
    "offset in other digits": ("weights.bin", {"offset": "６４"}, "offset '６４' is not a size"),
    "length with an underscore": ("weights.bin", {"length": "16_384"}, "length '16_384' is not a size"),
    "endless offset": ("weights.bin", {"offset": "9" * 5000}, "offset '9999"),
    "loop of links": ("loop.bin", {}, "cannot be read"),
    "length too small": ("weights.bin", {"length": 4}, "length 4"),
    "length too large": ("weights.bin", {"length": 4 * SIZE + 4}, "length"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("weights", [True, False])
def test_unsafe_locations_and_ranges_are_refused(name, weights, folder):
    location, entries, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        load(put(folder, model_with(location, **entries)), weights=weights)


@pytest.mark.parametrize("key", ["location", "offset"])
def test_entries_that_are_given_twice_are_refused(key, folder):
    model = model_with("weights.bin", offset=64)
    model.graph.initializer[0].external_data.add(key=key, value="weights.bin" if key == "location" else "64")
    with pytest.raises(ModelError, match=f"tensor 'w': '{key}' is given twice"):
        load(put(folder, model))


def test_checksums_are_compared_where_weights_are_read(folder):
    digest = hashlib.sha1((folder / "weights.bin").read_bytes()).hexdigest()
    for good in (digest, digest.upper()):
        load(put(folder, model_with("weights.bin", offset=64, checksum=good)))
    path = put(folder, model_with("weights.bin", offset=64, checksum="0" * 40))
    with pytest.raises(
        ModelError, match=f"tensor 'w': checksum '0+', but the SHA-1 of 'weights.bin' is {digest}"
    ):
        load(path)
    load(path, weights=False)


def test_a_model_that_is_a_loop_of_links(folder):
    (folder / "m.onnx").symlink_to(folder / "m.onnx")
    with pytest.raises(StorageError, match="cannot read"):
        load(folder / "m.onnx")


def test_links_that_lead_outside_are_refused(folder):
    (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
    (folder / "dir").symlink_to(folder.parent)
    for location in ("link.bin", "dir/outside.bin"):
        with pytest.raises(ModelError, match="leads outside"):
            load(put(folder, model_with(location, offset=64)))


def test_tensors_of_attributes_are_checked_too(folder):
    model = model_with("weights.bin", offset=64)
    constant = model.graph.node.add(op_type="Constant", output=["k"])
    bad = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[SIZE], data_location=TensorProto.EXTERNAL)
    bad.external_data.add(key="location", value="../outside.bin")
    constant.attribute.append(helper.make_attribute("value", bad))
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(put(folder, model))


def test_the_budget_counts_what_overlaps(folder):
    path = put(folder, model_with("weights.bin", offset=64))
    with pytest.raises(ModelError, match="limit"):
        load(path, max_bytes=4 * SIZE)


def test_without_weights_the_payload_stays_on_disk(folder):
    path = put(folder, model_with("weights.bin", offset=64))
    model = load(path, weights=False)
    assert model.graph.initializer[0].data_location == TensorProto.EXTERNAL
    view = graph(normalise(model))
    assert view.shapes["w"] == (SIZE,)
    assert view.constant("w") is None
    with pytest.raises(UsageError, match="'w'"):
        save(model, folder / "copy.onnx")


def test_save_moves_large_models_to_a_data_file(folder):
    model = load(put(folder, model_with("weights.bin", offset=64)))
    before = model.SerializeToString()
    save(model, folder / "big.onnx", external_above=1000)
    assert model.SerializeToString() == before
    assert (folder / "big.onnx.data").stat().st_size == 4096 + 4 * SIZE  # its mark fills a page
    assert (folder / "big.onnx").stat().st_size < 1000
    again = load(folder / "big.onnx")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(again.graph.initializer[0]), PAYLOAD)
    onnx.checker.check_model(str(folder / "big.onnx"), full_check=True)
