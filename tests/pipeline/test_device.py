"""Whole runs whose parameters stay on a device, here the runtime's own provider; and threads that are stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients.session import building
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.resident import Room

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHORT: dict[str, Any] = {
    "epochs": 6,
    "batch": 16,
    "sparsity": 0.4,
    "shards": 1,
    "skip_latency": True,
    "lr": 0.05,
}
THERE: dict[str, Any] = {**SHORT, "device": "CPUExecutionProvider"}
MORE: dict[str, Any] = {"ema": 0.8, "clip_norm": 0.5, "accumulate": 2, "direction": "adamw"}


def weights(folder: Path, name: str = "trained.onnx") -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / name).graph.initializer}


@pytest.mark.parametrize("optimizer", ["dhspg"])
def test_it_comes_to_what_a_run_in_numpy_comes_to(
    model: Path, data: Path, tmp_path: Path, optimizer: str
) -> None:
    for name, options in {"here": {**SHORT, "backend": "plain"}, "there": THERE}.items():
        train(model, data, tmp_path / name, TrainOptions(optimizer=optimizer, **options, **MORE))
    found = weights(tmp_path / "there")
    for name, value in weights(tmp_path / "here").items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    shapes = [
        {name: value.shape for name, value in weights(tmp_path / run, "compact.onnx").items()}
        for run in ("here", "there")
    ]
    assert shapes[0] == shapes[1] != {name: value.shape for name, value in found.items()}


def test_a_run_goes_on_to_the_same_bytes(model: Path, data: Path, tmp_path: Path) -> None:
    """Checkpoints hold what the device does; left in the middle of an epoch and of a step."""
    options = TrainOptions(optimizer="dhspg", **THERE, **MORE)
    train(model, data, tmp_path / "whole", options)
    asked = iter(range(17))
    assert train(
        model, data, tmp_path / "left", options, stop=lambda: next(asked, None) is None
    ).history.stopped
    assert resume(tmp_path / "left") is not None
    for name in ("trained.onnx", "compact.onnx"):
        for key, value in weights(tmp_path / "whole", name).items():
            assert weights(tmp_path / "left", name)[key].tobytes() == value.tobytes(), key


def test_a_device_that_is_full_leaves_the_last_checkpoint(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, options = Room.run, TrainOptions(optimizer="dhspg", **THERE)
    runs: list[int] = []

    def run(self: Room, *asked: Any) -> Any:
        runs.append(1)
        if len(runs) == 40:
            raise UnsupportedError("the memory of device 'x' does not hold a step: give a smaller --batch")
        return real(self, *asked)

    with monkeypatch.context() as patch:
        patch.setattr(Room, "run", run)
        with pytest.raises(UnsupportedError, match="smaller --batch"):
            train(model, data, tmp_path / "run", options)
    assert (tmp_path / "run" / "checkpoint.npz").exists()
    assert resume(tmp_path / "run") is not None
    train(model, data, tmp_path / "whole", options)
    for key, value in weights(tmp_path / "whole").items():
        assert weights(tmp_path / "run")[key].tobytes() == value.tobytes(), key


def test_a_run_goes_on_with_the_threads_it_had(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cores there are then. Kernels use them, as where functions of ours cannot be called."""
    threads: list[int] = []
    monkeypatch.setattr("onnx_oto.gradients.backends.plain.backend.can_call", lambda: False)
    monkeypatch.setattr("onnx_oto.gradients.backends.plain.backend.can_join", lambda: False)
    real = building.session_of

    def noted(*given: Any, **named: Any) -> Any:
        threads.append(named["threads"])
        return real(*given, **named)

    monkeypatch.setattr(building, "session_of", noted)
    monkeypatch.setattr("onnx_oto.gradients.preparation.cores", lambda: 3)
    options = TrainOptions(backend="plain", **SHORT)
    asked = iter(range(3))
    train(model, data, tmp_path / "run", options, stop=lambda: next(asked, None) is None)
    stored = tomllib.loads((tmp_path / "run" / "run.toml").read_text(encoding="utf-8"))["train"]
    assert stored["session-threads"] == 3
    monkeypatch.setattr("onnx_oto.gradients.preparation.cores", lambda: 1)
    resume(tmp_path / "run")
    assert threads == [3, 3]
    text = (tmp_path / "run" / "run.toml").read_text(encoding="utf-8")
    (tmp_path / "run" / "run.toml").write_text(text.replace("session-threads = 3", "session-threads = 2"))
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(UsageError, match=r"session-threads is 2 in run.toml, and the run began with 3"):
        resume(tmp_path / "run")


def test_threads_are_as_many_as_were_asked_for(model: Path, data: Path, tmp_path: Path) -> None:
    train(model, data, tmp_path / "run", TrainOptions(session_threads=2, **{**SHORT, "epochs": 1}))
    stored = tomllib.loads((tmp_path / "run" / "run.toml").read_text(encoding="utf-8"))["train"]
    assert stored["session-threads"] == 2


def test_what_does_not_stay_is_told(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise UnsupportedError("device 'x' has no such memory")

    monkeypatch.setattr(building, "require_same_there", refuse)
    said: list[str] = []
    train(model, data, tmp_path / "run", TrainOptions(**{**THERE, "epochs": 1}), say=said.append)
    assert "warning: parameters and gradients cross in every step: device 'x' has no such memory" in said
