"""The folder of a run: who may write there, and what may go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.errors import OtoError, StorageError, UsageError
from onnx_oto.model import save
from onnx_oto.pipeline.demo import demo
from onnx_oto.pipeline.folder import (
    ANSWERS,
    BEFORE,
    FILES,
    INT8,
    LOCK,
    MANIFEST,
    METRICS,
    REPORTS,
    RESULT,
    SETTINGS,
    START,
    TABLE,
    UNPACKED,
    claim,
    reclaim,
)
from onnx_oto.pipeline.options import DemoOptions, TrainOptions
from onnx_oto.pipeline.train import train

SHORT = {"epochs": 1, "batch": 16}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(folder: Path, verb: str = "train", names: tuple[str, ...] = FILES) -> None:
    """Write a folder as a run would."""
    with claim(folder, verb=verb) as run:
        run.begin()
        for name in names:
            run.place(name).write_text("old")


def test_a_run_leaves_its_files_and_says_which(tmp_path):
    finished(tmp_path / "a" / "run", names=(RESULT,))
    assert set(content(tmp_path)) == {METRICS, RESULT, MANIFEST}
    manifest = json.loads((tmp_path / "a" / "run" / MANIFEST).read_text())
    assert manifest == {"schema": 1, "verb": "train", "files": [METRICS, RESULT]}


def test_an_earlier_run_is_replaced_on_request(tmp_path):
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    for name in (".checkpoint.npz.0123abcd.tmp", ".trained.onnx.lock"):
        (tmp_path / name).write_text("of a run that was killed")
    before = content(tmp_path)
    with pytest.raises(
        UsageError, match=r"holds an earlier run: go on with it .*give another folder, or --overwrite"
    ):
        finished(tmp_path)
    assert content(tmp_path) == before
    with claim(tmp_path, verb="train", overwrite=True) as run:
        assert content(tmp_path).keys() - {LOCK} == before.keys()
        run.begin()
    assert set(content(tmp_path)) == {METRICS, MANIFEST, "notes.txt"}
    assert (tmp_path / METRICS).read_text() == ""


def test_large_models_of_an_earlier_run_go_with_their_data(model, tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_oto.model.files.saving._MIN_EXTERNAL", 1)
    run = tmp_path / "run"
    finished(run, names=("trained.onnx",))
    save(onnx.load(model), run / "trained.onnx", external_above=0)
    assert (run / "trained.onnx.data").exists()
    (run / "compact.onnx.data").write_text("somebody's")
    with claim(run, verb="train", overwrite=True) as folder:
        folder.begin()
    assert set(content(run)) == {METRICS, MANIFEST, "compact.onnx.data"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("verb", ["train", "demo"])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_what_no_run_wrote_is_never_replaced(name, verb, overwrite, tmp_path):
    (tmp_path / name).write_text("mine")
    message = f"{name}' would be replaced, but no earlier run wrote it: move it, or give another folder"
    with pytest.raises(UsageError, match=message), claim(tmp_path, verb=verb, overwrite=overwrite):
        pass
    assert content(tmp_path) == {name: b"mine"}


def test_what_was_added_after_a_run_is_never_replaced(tmp_path):
    finished(tmp_path, names=("checkpoint.npz",))
    (tmp_path / RESULT).write_text("mine")
    with (
        pytest.raises(UsageError, match=r"result\.json' would be replaced"),
        claim(tmp_path, verb="train", overwrite=True),
    ):
        pass
    assert (tmp_path / RESULT).read_text() == "mine"


def test_what_is_added_during_a_run_is_not_replaced(tmp_path):
    with claim(tmp_path, verb="train") as run:
        run.begin()
        (tmp_path / RESULT).write_text("mine")
        with pytest.raises(StorageError, match="written by somebody else during the run"):
            run.place(RESULT)


def test_what_is_added_before_a_run_begins_is_not_removed(tmp_path):
    """Between the two lie the rehearsal and the reading of the data."""
    finished(tmp_path, names=("checkpoint.npz",))
    with claim(tmp_path, verb="train", overwrite=True) as run:
        (tmp_path / RESULT).write_text("mine")
        run.begin()
        assert set(content(tmp_path)) - {LOCK} == {METRICS, MANIFEST, RESULT}
        with pytest.raises(StorageError, match="written by somebody else during the run"):
            run.place(RESULT)
    assert (tmp_path / RESULT).read_text() == "mine"


def test_runs_of_versions_without_a_manifest_are_known_by_their_metrics(tmp_path):
    finished(tmp_path)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / METRICS).write_text('{"kind": "step", "epoch": 1, "step": 10}\n')
    with pytest.raises(UsageError, match=r"run.toml' would be replaced, but no earlier run wrote it"):
        finished(tmp_path)
    for name in (
        SETTINGS,
        TABLE,
        START,
        BEFORE,
        INT8,
        *ANSWERS.values(),
        *REPORTS.values(),
    ):  # they wrote none
        (tmp_path / name).unlink()
    with pytest.raises(
        UsageError, match=r"holds an earlier run: go on with it .*give another folder, or --overwrite"
    ):
        finished(tmp_path)
    with claim(tmp_path, verb="train", overwrite=True) as run:
        run.begin()
    assert set(content(tmp_path)) == {METRICS, MANIFEST}


def test_a_demo_replaces_a_demo_and_nothing_else(tmp_path):
    finished(tmp_path / "demo", "demo")
    finished(tmp_path / "demo", "demo")
    finished(tmp_path / "run", "train")
    before = content(tmp_path / "run")
    with pytest.raises(UsageError, match="holds an earlier run that is not the demo's: give another folder"):
        demo(tmp_path / "run", DemoOptions(epochs=1))
    assert content(tmp_path / "run") == before
    with pytest.raises(UsageError, match="or --overwrite"):
        finished(tmp_path / "demo", "train")


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(OtoError), claim(tmp_path / "a" / "b", verb="train"):
        raise OtoError("refused")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError, match="cannot write to the folder"), claim(place, verb="train"):
            pass


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [OtoError("refused"), KeyboardInterrupt(), RuntimeError("a defect")])
@pytest.mark.parametrize("before", [False, True])
def test_what_a_run_wrote_stays_from_its_first_step_on(tmp_path, begun, error, before):
    folder = tmp_path / "run"
    if before:
        (folder / UNPACKED).mkdir(parents=True)
        (folder / UNPACKED / "old.npy").write_text("old")

    def work(run, stays):
        (folder / UNPACKED).mkdir(exist_ok=True)
        (folder / UNPACKED / "new.npy").write_text("new")
        if begun:
            run.begin()
            run.place(SETTINGS).write_text("")
            run.place(ANSWERS["test"]).write_text("")
        if stays:
            run.stay()
        raise error

    def left(stays):
        with pytest.raises(type(error)), claim(folder, verb="train", overwrite=True) as run:
            work(run, stays)
        return set(content(tmp_path))

    kept = begun and not isinstance(error, OtoError)
    unpacked = {"new.npy"} | ({"old.npy"} if before else set())
    written = {SETTINGS, ANSWERS["test"], METRICS, MANIFEST} if kept else set()
    assert left(stays=False) == written | (unpacked if before or kept else set())
    assert folder.exists() == (before or kept)
    written = {SETTINGS, ANSWERS["test"], METRICS, MANIFEST} if begun else set()
    assert left(stays=True) == written | unpacked


def test_a_run_that_cannot_go_on_keeps_its_files(tmp_path):
    finished(tmp_path / "run", names=(RESULT, SETTINGS))
    before = content(tmp_path)

    def work(run):
        (run.path / UNPACKED).mkdir()
        run.go_on()
        raise OtoError("refused")

    with pytest.raises(OtoError), reclaim(tmp_path / "run") as run:
        work(run)
    assert content(tmp_path) == before
    assert not (tmp_path / "run" / UNPACKED).exists()


HOLD = """
import sys
from onnx_oto.pipeline.folder import claim
with claim(sys.argv[1], verb="train") as run:
    run.begin()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_in_one_folder(model, data, tmp_path):
    """The second is refused at once; when the first is killed, the folder is free."""
    run = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    with other:
        assert other.stdout.readline().strip() == b"held"
        before = content(run)
        for start in (train_again, demo_again):
            with pytest.raises(UsageError, match=r"another run is writing to .*: wait until it has ended"):
                start(model, data, run)
        assert content(run) == before
        other.kill()
    train_again(model, data, run)
    assert LOCK not in content(run)


def train_again(model: Path, data: Path, run: Path) -> None:
    train(model, data, run, TrainOptions(overwrite=True, **SHORT))


def demo_again(model: Path, data: Path, run: Path) -> None:
    demo(run, DemoOptions(epochs=1))


NAMES = {
    "model": "trained.onnx",
    "external data": "compact.onnx.data",
    "data": "checkpoint.npz",
    "inputs": "last-good.npz",
}
"""What is read -> the file of an earlier run that it is."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("read", NAMES)
@pytest.mark.parametrize("how", ["same", "link", "name"])
def test_a_run_does_not_replace_what_it_reads(read, how, overwrite, model, data, tmp_path):
    run = tmp_path / "run"
    finished(run)
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.ones((2, 6), np.float32))
    places = {"model": model, "data": data, "inputs": inputs}
    name = NAMES[read]
    if read == "external data":
        places["model"] = run / "m.onnx"
        onnx.save(
            onnx.load(model), run / "m.onnx", save_as_external_data=True, location=name, size_threshold=0
        )
    else:
        shutil.copy(places[read], run / name)
        places[read] = run / name
        if how != "same":
            places[read] = tmp_path / "other"
            (os.symlink if how == "link" else os.link)(run / name, tmp_path / "other")
    before = content(tmp_path)
    with pytest.raises(UsageError, match=r"' would overwrite .*: give another folder"):
        train(
            places["model"],
            places["data"],
            run,
            TrainOptions(overwrite=overwrite, inputs=places["inputs"], **SHORT),
        )
    assert content(tmp_path) == before
