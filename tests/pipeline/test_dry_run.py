"""A dry run tells what a run would do, writes nothing, and refuses what a run refuses. Times are never judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnx_oto.errors import DataError, StorageError, UsageError
from onnx_oto.pipeline.dry_run import rehearse
from onnx_oto.pipeline.options import PruneOptions, TrainOptions
from onnx_oto.pipeline.prune import planned, prune
from onnx_oto.pipeline.train import train

SHORT = {"epochs": 3, "batch": 16, "shards": 1}


def below(folder: Path) -> set[str]:
    """Return all that lies in a folder."""
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*")}


def test_what_training_would_do_is_told_and_nothing_is_written(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = below(tmp_path)
    said: list[str] = []
    found = rehearse(model, data, tmp_path / "run", TrainOptions(sparsity=0.4, **SHORT), say=said.append)
    assert below(tmp_path) == before
    told = json.loads(json.dumps(found.as_json()))
    per_epoch = len(np.load(data)["x_train"]) // 16
    assert (told["steps"], told["samples_per_step"], told["shards"]) == (3 * per_epoch, 16, 1)
    assert told["dry_run"] is True
    assert told["drawn"] is True
    assert 0 < told["lanes"]["planned"] < told["lanes"]["prunable"]
    assert sum(a - b for a, b in told["widths"].values()) == told["lanes"]["planned"]
    assert told["params"]["planned"] < told["params"]["before"]
    assert told["steps_tried"] >= 1
    assert told["seconds_per_step"] > 0
    assert told["estimated_seconds"] >= found.steps * found.step
    assert any(line.startswith("plan: ") for line in said)


def test_groups_that_go_first_are_those_of_the_run(model, data, tmp_path):
    """What the optimizer refit cuts before the first step is known, not drawn: the run does the same."""
    options = TrainOptions(sparsity=0.4, from_="trained", optimizer="refit", skip_latency=True, **SHORT)
    found = rehearse(model, data, tmp_path / "run", options)
    assert found.is_drawn is False
    result = train(model, data, tmp_path / "run", options)
    assert found.plan is not None
    assert result.chosen == found.plan.choice.dropped


def test_what_a_run_refuses_is_refused(model, data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/trained.onnx").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="no earlier run wrote it"):
        rehearse(model, data, tmp_path / "run", TrainOptions(**SHORT))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="it is no folder"):
        rehearse(model, data, tmp_path / "file/run", TrainOptions(**SHORT))
    np.savez(tmp_path / "bad.npz", x_train=np.zeros((4, 5)), y_train=np.zeros(4, np.int64))
    with pytest.raises(DataError):
        rehearse(model, tmp_path / "bad.npz", tmp_path / "new", TrainOptions(**SHORT))
    assert not (tmp_path / "new").exists()


def test_a_cut_is_planned_as_it_is_made(model, tmp_path):
    options = PruneOptions(sparsity=0.4, skip_latency=True, kept=tmp_path / "kept.json")
    found = planned(model, tmp_path / "c.onnx", options)
    assert not (tmp_path / "c.onnx").exists()
    assert not (tmp_path / "kept.json").exists()
    result = prune(model, tmp_path / "c.onnx", options)
    told, made = found.as_json(), result.as_json()
    assert told["lanes"]["planned"] == made["lanes"]["removed"]
    assert told["params"]["before"] == made["params"]["before"]
    assert told["sparsity"] == made["sparsity"]


def test_an_output_without_a_folder_is_refused_before_anything_is_computed(
    model, data, tmp_path, monkeypatch
):
    def never(*_: object) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr("onnx_oto.pipeline.prune.by_data", never)
    for output in (tmp_path / "nowhere/c.onnx", tmp_path):
        with pytest.raises(StorageError, match="cannot write"):
            prune(model, output, PruneOptions(data=data))
    with pytest.raises(StorageError, match=r"cannot write .*nowhere"):
        prune(model, tmp_path / "c.onnx", PruneOptions(data=data, kept=tmp_path / "nowhere/kept.json"))
    assert below(tmp_path) & {"nowhere", "c.onnx"} == set()


def test_functions_that_write_do_not_take_it(model, data, tmp_path):
    with pytest.raises(UsageError, match="dry-run trains nothing"):
        train(model, data, tmp_path / "run", TrainOptions(dry_run=True, **SHORT))
    with pytest.raises(UsageError, match="dry-run cuts nothing"):
        prune(model, tmp_path / "c.onnx", PruneOptions(dry_run=True))
    assert below(tmp_path) == below(tmp_path) - {"run", "c.onnx"}
