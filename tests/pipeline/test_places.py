"""A command never replaces what it reads, nor one of its outputs with another."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.model.files import saving as store
from onnx_oto.pipeline.options import CompactOptions, PruneOptions
from onnx_oto.pipeline.places import Output, require_apart
from onnx_oto.pipeline.prune import compact_zeros, prune

HOWEVER = ("as it is", "another spelling", "a link", "another name of the file")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def named(place: Path, how: str) -> Path:
    """Return another path of a file."""
    if how == "another spelling":
        return place.parent / "." / place.name
    if how in ("a link", "another name of the file"):
        other = place.with_name(f"other-{place.name}")
        (other.symlink_to if how == "a link" else other.hardlink_to)(place)
        return other
    return place


@pytest.fixture
def external(model, tmp_path) -> Path:
    """Return the path of a model whose weights lie in `w.data`."""
    onnx.save(
        onnx.load(model), tmp_path / "e.onnx", save_as_external_data=True, location="w.data", size_threshold=0
    )
    return tmp_path / "e.onnx"


def run(model: Path, output: str, place: Path, folder: Path, **options) -> None:
    """Run the command with one of its outputs at `place`, or where its data file would be that."""
    there = place
    if "data of" in output:
        there = place.with_name(place.name.removesuffix(".data").removesuffix(".1"))
    name = output.split()[-1]
    if name == "compact":
        compact_zeros(model, there, CompactOptions(**options))
    elif name == "output":
        prune(model, there, PruneOptions(**options))
    else:
        prune(model, folder / "out.onnx", PruneOptions(**options, **{name: there}))


@pytest.mark.parametrize("how", HOWEVER)
@pytest.mark.parametrize("output", ["output", "save_zeroed", "kept", "compact"])
@pytest.mark.parametrize("read", ["e.onnx", "w.data", "inputs.npz"])
def test_what_is_read_is_not_replaced(read, output, how, external, tmp_path):
    np.savez(tmp_path / "inputs.npz", x=np.ones((2, 6), np.float32))
    place = named(tmp_path / read, how)
    before = content(tmp_path)
    what = {"e": "the input model", "w": "external data of the input model", "i": "the inputs to verify on"}[
        read[0]
    ]
    with pytest.raises(UsageError, match=f"would overwrite {what}.*: give another name"):
        run(external, output, place, tmp_path, inputs=tmp_path / "inputs.npz")
    assert content(tmp_path) == before


@pytest.mark.parametrize("output", ["output", "save_zeroed", "kept"])
@pytest.mark.parametrize("there", [True, False])
def test_a_latency_table_is_not_replaced(there, output, model, tmp_path):
    """Neither one that is read nor one that is measured first and written: the output would end there."""
    table = tmp_path / "t.json"
    if there:
        table.write_text("{}")
    before = content(tmp_path)
    what = "the latency table" if there else "another output"
    with pytest.raises(UsageError, match=f"would overwrite {what}.*: give another name"):
        run(model, output, table, tmp_path, latency=0.5, table=table)
    assert content(tmp_path) == before


@pytest.mark.parametrize("data", ["big.onnx.data", "big.onnx.1.data"])
@pytest.mark.parametrize("output", ["data of output", "data of save_zeroed", "data of compact"])
def test_the_data_file_of_an_output_is_not_the_inputs(data, output, model, tmp_path):
    """Not even where the output names it already: then it would be removed with the old output."""
    onnx.save(
        onnx.load(model), tmp_path / "e.onnx", save_as_external_data=True, location=data, size_threshold=0
    )
    (tmp_path / "big.onnx").write_bytes((tmp_path / "e.onnx").read_bytes())
    before = content(tmp_path)
    with pytest.raises(UsageError, match=r"big\.onnx' would overwrite external data of the input model"):
        run(tmp_path / "e.onnx", output, tmp_path / data, tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (Output("a"), Output("./a"), "would overwrite another output, 'a'"),
        (Output("a.onnx", model=True), Output("a.onnx.data"), "another output"),
        (Output("a.onnx.data"), Output("a.onnx", model=True), "another output"),
        (Output("Grün.onnx"), Output("gru\u0308n.onnx"), "another output"),
    ],
)
def test_outputs_may_not_be_one_file(one, other, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        require_apart({}, [one, other])


def test_files_that_only_look_alike_are_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").write_text("")
    outputs = [Output("b.onnx", model=True), Output("a.onnx.data.json"), Output("b.data")]
    if not os.path.exists("A.onnx"):  # not on systems that take upper and lower case for one
        outputs.append(Output("A.onnx", model=True))
    require_apart({Path("a.onnx"): "the input model"}, outputs)


@pytest.mark.parametrize("failing", ["save_zeroed", "kept"])
def test_all_outputs_are_written_or_none(failing, model, tmp_path):
    outputs = {"output": "out.onnx", "save_zeroed": "zeroed.onnx", "kept": "kept.json"}
    for name in outputs.values():
        (tmp_path / name).write_text("old")
    before = content(tmp_path)
    outputs[failing] = "no folder/file"
    paths = {name: tmp_path / value for name, value in outputs.items()}
    with pytest.raises(StorageError, match=r"cannot write .*no folder"):
        prune(model, paths.pop("output"), PruneOptions(**paths))
    assert content(tmp_path) == before


def test_a_large_output_beside_somebody_elses_data_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "EXTERNAL_ABOVE", 10)
    monkeypatch.setattr(store, "_MIN_EXTERNAL", 10)
    (tmp_path / "out.onnx.data").write_text("mine")
    prune(model, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").read_text() == "mine"
    assert (tmp_path / "out.onnx.1.data").exists()
