"""Whatever fails after the last step, the trained weights are there, and the error says where."""

from __future__ import annotations

import shlex
from importlib import import_module

import onnx
import pytest

from onnx_oto.errors import DataError, DivergedError, OtoError, StorageError
from onnx_oto.model import load
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.prune import compact_zeros
from onnx_oto.pipeline.train import train
from onnx_oto.training import EpochEnded, Stepped

OPTIONS = TrainOptions(sparsity=0.5, epochs=30, batch=16, lr=0.05, keep=["b2*"])
WAY_ON = "the trained weights are in '{place}': cut them with `onnx-oto compact {quoted} -o compact.onnx --keep 'b2*'`"


PLACES = {
    "finish": ("train", "finish"),
    "cut": ("finishing", "cut_and_verify"),
    "result": ("train", "write_json"),
}
"""Functions of the pipeline that fail: module and name."""


def refuse(error: BaseException):
    def fail(*arguments: object, **named: object) -> None:
        raise error

    return fail


class Breaking:
    """An observer that raises at the end of the last epoch, or at another event."""

    def __init__(self, error: BaseException, kind: type = EpochEnded, before: int = 0) -> None:
        self.error, self.kind, self.before = error, kind, before

    def notice(self, event: object) -> None:
        if isinstance(event, self.kind) and event.step == event.total - self.before:
            raise self.error


@pytest.mark.parametrize("place", [*PLACES, "evaluation", "last step"])
@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (DataError("bad sample"), DataError, "bad sample"),
        (OSError(28, "No space left on device"), StorageError, "No space left on device"),
        (ValueError("oh"), OtoError, "ValueError: oh (a defect of onnx-oto)"),
        (MemoryError(), OtoError, "MemoryError"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_weights_outlive_what_fails_after_the_last_step(
    place, error, raised, text, model, data, tmp_path, monkeypatch
):
    run, said, observer = tmp_path / "run", [], None
    if place in ("evaluation", "last step"):
        observer = Breaking(error, EpochEnded if place == "evaluation" else Stepped)
    else:
        module, name = PLACES[place]
        monkeypatch.setattr(import_module(f"onnx_oto.pipeline.{module}"), name, refuse(error))
    with pytest.raises(raised) as caught:
        train(model, data, run, OPTIONS, observer=observer, say=said.append)
    trained = run / "trained.onnx"
    way_on = WAY_ON.format(place=trained, quoted=shlex.quote(str(trained)))
    if raised is KeyboardInterrupt:
        assert said[-1] == way_on
    else:
        assert str(caught.value).startswith(text)
        assert str(caught.value).endswith(f"; {way_on}")
    monkeypatch.undo()
    assert load(trained)
    assert compact_zeros(trained, tmp_path / "compact.onnx", OPTIONS).summary.removed > 0


def test_the_weights_are_those_of_the_last_step(model, data, tmp_path):
    train(model, data, tmp_path / "good", OPTIONS)
    with pytest.raises(OtoError):
        train(model, data, tmp_path / "bad", OPTIONS, observer=Breaking(ValueError("oh"), Stepped))
    good, bad = (onnx.load(tmp_path / run / "trained.onnx") for run in ("good", "bad"))
    assert good == bad


def test_before_the_last_step_nothing_is_rescued(model, data, tmp_path):
    with pytest.raises(ValueError, match="oh"):
        train(model, data, tmp_path / "run", OPTIONS, observer=Breaking(ValueError("oh"), Stepped, before=1))
    assert not (tmp_path / "run" / "trained.onnx").exists()


def test_before_the_last_step_it_is_said_how_the_run_goes_on(model, data, tmp_path):
    broken = Breaking(StorageError("cannot write 'm'"), Stepped, before=1)
    way = r"cannot write 'm'; when that is mended, go on with `onnx-oto resume .*/run`"
    with pytest.raises(StorageError, match=way):
        train(model, data, tmp_path / "run", OPTIONS, observer=broken)


def test_before_the_first_step_it_is_not(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_oto.pipeline.train.before_the_first_step", refuse(StorageError("cannot write")))
    with pytest.raises(StorageError, match=r"^cannot write$"):
        train(model, data, tmp_path / "run", OPTIONS)
    assert not (tmp_path / "run").exists()


def test_what_diverged_is_not_rescued(model, data, tmp_path):
    """The last checkpoint before that is kept."""
    error = DivergedError("training diverged")
    with pytest.raises(
        DivergedError, match=r"^training diverged; the last checkpoint before it is in .*last-good\.npz'$"
    ):
        train(model, data, tmp_path / "run", OPTIONS, observer=Breaking(error, Stepped))
    assert not (tmp_path / "run" / "trained.onnx").exists()


def test_weights_that_cannot_be_written_either(model, data, tmp_path, monkeypatch):
    full = StorageError("cannot write: No space left on device")
    monkeypatch.setattr("onnx_oto.pipeline.finishing.save", refuse(full))
    monkeypatch.setattr("onnx_oto.pipeline.rescue.save", refuse(full))
    with pytest.raises(StorageError, match=r"could not be written .*; those of .* are in .*checkpoint\.npz'"):
        train(model, data, tmp_path / "run", OPTIONS)
