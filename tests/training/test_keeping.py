"""Checkpoints are taken between two steps and written beside the next ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_oto.data import Dataset
from onnx_oto.errors import StorageError
from onnx_oto.optim import Sgd
from onnx_oto.optim.base import Dense
from onnx_oto.training import Stepped, keeping, train
from onnx_oto.training.checkpoint import Position, load_checkpoint
from onnx_oto.training.keeping import Keeper, Places
from tests.training.test_loop import SIZE, recipe

WAIT = 20.0


class Slow:
    """`write_state`, but from the second one on it waits until it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may, self.calls, self._write = threading.Event(), 0, keeping.write_state
        monkeypatch.setattr(keeping, "write_state", self)

    def __call__(self, *arguments: Any, **options: Any) -> None:
        self.calls += 1
        assert self.calls == 1 or self.may.wait(WAIT)
        self._write(*arguments, **options)


def test_steps_go_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """What is written is the state that was taken, not what steps made of it since."""
    slow, path = Slow(monkeypatch), tmp_path / "s.npz"
    keeper, session, optimizer = Keeper(Places(path)), make_session(), Dense(Sgd(), SIZE)
    keeper.save(session, optimizer, Position())
    keeper.finish()
    train(session, optimizer, make_dataset(), recipe())
    expected = session.params.copy()
    keeper.save(session, optimizer, Position(step=6))
    train(session, optimizer, make_dataset(), recipe(2))
    assert not np.array_equal(session.params, expected)
    assert load_checkpoint(path).progress.step == 0
    slow.may.set()
    keeper.finish()
    assert load_checkpoint(path).progress.step == 6
    np.testing.assert_array_equal(np.load(path)["params"], expected)


def test_what_could_not_be_written_is_told_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    real, calls, steps = keeping.write_state, [], []
    failed = threading.Event()

    def full(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            failed.set()
            raise StorageError("cannot write 's.npz': No space left on device")
        real(*arguments, **options)

    class Watching:
        def notice(self, event: Any) -> None:
            if isinstance(event, Stepped):
                steps.append(event.step)
                if len(calls) > 2:
                    assert failed.wait(WAIT)

    monkeypatch.setattr(keeping, "write_state", full)
    keeper = Keeper(Places(tmp_path / "s.npz"), minutes=0)
    with pytest.raises(StorageError, match="No space left"):
        train(
            make_session(),
            Dense(Sgd(), SIZE),
            make_dataset(),
            recipe(5),
            keeper=keeper,
            observer=Watching(),
        )
    assert len(steps) <= 3
    assert load_checkpoint(tmp_path / "s.npz").progress.step == 1


def test_an_error_that_ends_training_waits_for_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    slow, path = Slow(monkeypatch), tmp_path / "s.npz"
    keeper, optimizer = Keeper(Places(path), minutes=0), Dense(Sgd(), SIZE)

    class Watching:
        def notice(self, event: Any) -> None:
            if isinstance(event, Stepped) and event.step == 2:
                threading.Timer(0.2, slow.may.set).start()
                raise RuntimeError("somebody else's fault")

    with pytest.raises(RuntimeError, match="somebody"):
        train(make_session(), optimizer, make_dataset(), recipe(), keeper=keeper, observer=Watching())
    assert load_checkpoint(path).progress.step == 1
