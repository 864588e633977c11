"""Validation data, the moving average and ending early through the whole of `train` and `resume`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto import data as datasets
from onnx_oto.data import OPENERS, Opener
from onnx_oto.errors import UsageError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare
from onnx_oto.training import Kept, Stepped

SHORT: dict[str, Any] = {
    "epochs": 12,
    "batch": 16,
    "lr": 0.1,
    "schedule": "constant",
    "sparsity": 0.4,
    "shards": 1,
}


@dataclass(frozen=True)
class SetApart:
    """An opening of which part of the test samples are validation data."""

    inner: datasets.Opening

    @property
    def train(self) -> datasets.Header:
        return self.inner.train

    @property
    def val(self) -> datasets.Header | None:
        return self.inner.test

    @property
    def test(self) -> datasets.Header:
        return self.inner.test

    def fit(self, inputs: Mapping[str, Any], targets: Mapping[str, Any], **more: Any) -> datasets.Dataset:
        found = self.inner.fit(inputs, targets, **more)
        return replace(found, val=Part(found.test, 20), test=Part(found.test, 40, 20))


@dataclass(frozen=True)
class Part:
    """Samples [first, count) of a source."""

    source: datasets.Source
    count: int
    first: int = 0

    def __len__(self) -> int:
        return self.count - self.first

    def batch(self, indices: Any, rng: np.random.Generator | None) -> datasets.Batch:
        return self.source.batch(indices + self.first, rng)


@pytest.fixture
def validated(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return data that set validation samples apart."""
    before = OPENERS["npz"]

    def opened(path: Path, *more: Any) -> Any:
        return SetApart(before.open(path, *more))

    monkeypatch.setitem(OPENERS, "npz", Opener(before.text, before.takes, opened))
    return data


class Watch:
    def __init__(self, stop_at: int = 10**9) -> None:
        self.steps = 0
        self.kept: list[Kept] = []
        self.stop_at = stop_at

    def notice(self, event: Any) -> None:
        self.steps += isinstance(event, Stepped)
        if isinstance(event, Kept):
            self.kept.append(event)

    def stop(self) -> bool:
        return self.steps >= self.stop_at


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_the_best_epoch_is_what_comes_out(model: Path, validated: Path, tmp_path: Path) -> None:
    """Where it was told: on screen, in metrics.jsonl and result.json; the test data say how good it is."""
    watch = Watch()
    result = train(model, validated, tmp_path / "run", TrainOptions(**SHORT), observer=watch)
    assert result.gain is not None
    full, small = result.gain.scores
    assert (full.samples, small.samples) == (20, 20)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert {line["split"] for line in epochs} == {"val"}
    met = [line for line in epochs if line["zeroed"] == line["target"] == 7]
    best = min(met, key=lambda line: (-line["value"], line["test_loss"], line["epoch"]))
    stored = json.loads((tmp_path / "run/result.json").read_text())["kept"]
    assert stored == {
        "epoch": best["epoch"],
        "split": "val",
        "value": best["value"],
        "averaged": False,
        "early": False,
    }
    assert lines[-1]["kind"] == "kept"
    assert lines[-1]["epoch"] == watch.kept[0].epoch == best["epoch"]
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert compare(trained, compact, seed=5).passed
    assert result.gain.summary.removed == 7
    again = Watch(best["step"])
    train(model, validated, tmp_path / "less", TrainOptions(**SHORT), observer=again, stop=again.stop)
    with np.load(tmp_path / "less/checkpoint.npz") as state:
        params = state["params"]
    flat = np.concatenate(
        [weights(tmp_path / "run/trained.onnx")[n].reshape(-1) for n in ("w1", "b1", "w2", "b2", "w3")]
    )
    assert sorted(params[params != 0].tolist()) == sorted(flat[flat != 0].tolist())


def test_the_average_is_compacted_exactly(model: Path, data: Path, tmp_path: Path) -> None:
    result = train(model, data, tmp_path / "run", TrainOptions(ema=0.95, **SHORT))
    plain = train(model, data, tmp_path / "plain", TrainOptions(**SHORT))
    assert result.gain is not None
    assert plain.gain is not None
    assert result.gain.summary.removed == plain.gain.summary.removed == 7
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert compare(trained, compact, seed=5).passed
    one, other = (weights(tmp_path / name / "trained.onnx") for name in ("run", "plain"))
    assert not np.array_equal(one["w1"], other["w1"])
    np.testing.assert_array_equal(one["w1"] == 0, other["w1"] == 0)
    assert json.loads((tmp_path / "run/result.json").read_text())["kept"]["averaged"] is True
    assert result.history.score is not None
    assert result.history.score.value == pytest.approx(result.gain.scores[0].value, abs=1e-9)


def test_training_ends_early_and_the_model_is_written(model: Path, validated: Path, tmp_path: Path) -> None:
    options = TrainOptions(**{**SHORT, "epochs": 60}, patience=3)
    result = train(model, validated, tmp_path / "run", options)
    assert result.history.kept is not None
    assert result.history.kept.early
    assert len(result.history.epochs) < 60
    assert result.gain is not None
    assert (tmp_path / "run/compact.onnx").exists()


@pytest.mark.parametrize("stop_at", [3, 40, 58, 70])
@pytest.mark.parametrize(
    "more",
    [
        {"ema": 0.9},
        {"patience": 4},
        {"ema": 0.9, "patience": 2, "mixup": 0.3, "class_weights": "balanced", "loaders": 2},
    ],
    ids=["average", "best", "all"],
)
def test_going_on_gives_the_same_bytes(
    stop_at: int, more: dict[str, Any], model: Path, validated: Path, tmp_path: Path
) -> None:
    options = TrainOptions(skip_latency=True, **SHORT, **more)
    train(model, validated, tmp_path / "whole", options)
    watch = Watch(stop_at)
    stopped = train(model, validated, tmp_path / "run", options, observer=watch, stop=watch.stop)
    if stopped.gain is None:  # else it had ended before
        resume(tmp_path / "run")
    for name in ("trained.onnx", "compact.onnx"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    kept = [json.loads((tmp_path / run / "result.json").read_text())["kept"] for run in ("run", "whole")]
    assert kept[0] == kept[1]


def test_patience_needs_validation_data(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"patience is for validation data, and none of '.*data.npz' are: set some apart"
    ):
        train(model, data, tmp_path / "run", TrainOptions(patience=2))
    assert not (tmp_path / "run").exists()
