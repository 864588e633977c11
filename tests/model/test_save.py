"""A target is either the complete new model or what it was before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.errors import StorageError
from onnx_oto.model import load, runnable_bytes, save
from onnx_oto.model.files import replace as replace_module

LARGE = "g (float[N,99] x) => (float[N,33] y) { y = MatMul(x, w) }"
TEXT = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }"


@pytest.fixture
def model(parse):
    return parse(TEXT, w=(4, 3, 3, 3))


def test_saved_models_load_again(model, tmp_path):
    save(model, tmp_path / "m.onnx")
    assert load(tmp_path / "m.onnx") == model
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


class FailingFile:
    """A file that accepts some bytes and then has no room."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def write(self, data):
        self.file.write(data[:100])
        raise OSError(28, "No space left on device")

    def __getattr__(self, name):
        return getattr(self.file, name)


def fail(*args, **kwargs):
    raise OSError(5, "Input/output error")


def open_failing(*args, **kwargs):
    return FailingFile(open(*args, **kwargs))


def broken(monkeypatch, place: str) -> None:
    if place == "write":
        monkeypatch.setattr(replace_module, "open", open_failing, raising=False)
    else:
        monkeypatch.setattr(os, place, fail)


@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
@pytest.mark.parametrize("external_above", [10**9, 100])
def test_a_failing_write_leaves_the_old_file(place, external_above, model, tmp_path, monkeypatch):
    target = tmp_path / "m.onnx"
    target.write_bytes(b"precious")
    (tmp_path / "m.onnx.data").write_bytes(b"precious too")
    with monkeypatch.context() as patch:
        broken(patch, place)
        with pytest.raises(StorageError, match=r"m\.onnx"):
            save(model, target, external_above=external_above)
    assert target.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").read_bytes() == b"precious too"


def test_the_data_file_comes_back_when_the_model_cannot_be_written(model, tmp_path, monkeypatch):
    save(model, tmp_path / "m.onnx", external_above=100)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.initializer[0].raw_data = np.full((4, 3, 3, 3), 7, np.float32).tobytes()
    replace = os.replace

    def fail_on_model(source, target):
        if Path(target).name == "m.onnx":
            fail()
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_model)
    with pytest.raises(StorageError):
        save(changed, tmp_path / "m.onnx", external_above=100)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_data_of_the_model_that_is_replaced_go_and_those_of_others_stay(parse, tmp_path):
    """The new data get another name than the old ones, which the old model needs until the new one is there."""
    model = parse(LARGE, w=(99, 33))
    target = tmp_path / "m.onnx"
    (tmp_path / "m.onnx.data").write_bytes(b"somebody's")
    for taken in ("m.onnx.1.data", "m.onnx.2.data", "m.onnx.1.data"):
        save(model, target, external_above=100)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["m.onnx", "m.onnx.data", taken])
        assert load(target).graph.initializer[0].raw_data == model.graph.initializer[0].raw_data
    save(model, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").read_bytes() == b"somebody's"


def test_data_get_the_mode_of_the_model(parse, tmp_path):
    model = parse(LARGE, w=(99, 33))
    target = tmp_path / "m.onnx"
    save(model, target)
    target.chmod(0o600)
    save(model, target, external_above=100)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600} or os.name == "nt"


def test_what_cannot_be_written_is_a_storage_error(model, tmp_path):
    with pytest.raises(StorageError):
        save(model, tmp_path / "absent" / "m.onnx")
    with pytest.raises(StorageError, match="regular file"):
        save(model, tmp_path)
    if Path("/dev/null").exists():
        with pytest.raises(StorageError, match="regular file"):
            save(model, "/dev/null")


def test_a_link_is_followed(model, tmp_path):
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    save(model, tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert load(tmp_path / "real.onnx") == model


@pytest.mark.parametrize(
    ("ir", "opset", "written"), [(8, 17, 8), (13, 17, 10), (10, 21, 10), (13, 23, 11), (11, 23, 11)]
)
def test_the_ir_version_is_clamped_where_opsets_allow(ir, opset, written, model, tmp_path):
    model.ir_version = ir
    model.opset_import[0].version = opset
    save(model, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx").ir_version == written
    assert onnx.load_from_string(runnable_bytes(model)).ir_version == written
    assert model.ir_version == ir


def test_data_that_others_wrote_stay_where_a_model_is_replaced(parse, tmp_path):
    """Another model may read them."""
    model = parse("g (float[N,40] x) => (float[N,40] y) { y = MatMul(x, w) }", w=(40, 40))
    place = tmp_path / "b.onnx"
    other = onnx.load_from_string(model.SerializeToString())  # saving takes its weights out
    onnx.save(other, place, save_as_external_data=True, location="b.onnx.data", size_threshold=0)
    before = (tmp_path / "b.onnx.data").read_bytes()
    save(model, place)
    assert (tmp_path / "b.onnx.data").read_bytes() == before
    save(model, place, external_above=0)
    assert (tmp_path / "b.onnx.1.data").exists()
    save(model, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.onnx", "b.onnx.data"]


@pytest.mark.parametrize("length", [10, 300_000])
def test_what_only_people_read_is_left_out_where_it_is_long(length, model, tmp_path):
    onnx.helper.set_model_props(model, {"notes": "n" * length})
    model.doc_string = "d" * length
    run = onnx.load_from_string(runnable_bytes(model, for_people=False))
    assert (run.graph, run.opset_import) == (model.graph, model.opset_import)
    assert bool(run.metadata_props) == bool(run.doc_string) == (length == 10)
    save(model, tmp_path / "saved.onnx")
    saved = onnx.load(tmp_path / "saved.onnx")
    assert (len(saved.metadata_props[0].value), len(saved.doc_string)) == (length, length)
