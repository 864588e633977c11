"""Checkpoint files: bad ones, full disks, other models."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from onnx_oto.errors import OtoError, StorageError, UsageError
from onnx_oto.optim import Adam, Dense, Sgd
from onnx_oto.training import Position, load_checkpoint, restore, take_state, write_state

SIZE = 6 * 8 + 8 + 8 * 3


@pytest.fixture
def file(tmp_path: Path, make_session: Any) -> Path:
    path = tmp_path / "state.npz"
    session = make_session()
    session.steps = 7
    write_state(path, take_state(session, Dense(Sgd(), SIZE), Position(1, 2, 3, 0.5, skipped=1)))
    return path


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_alone(
    file: Path, broken: str, make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(StorageError, match=r"cannot write .*state\.npz.*No space left"):
        write_state(file, take_state(make_session(seed=4), Dense(Sgd(), SIZE), Position()))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["state.npz"]


def test_a_folder_that_is_not_there(tmp_path: Path, make_session: Any) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_state(tmp_path / "no" / "state.npz", take_state(make_session(), Dense(Sgd(), SIZE), Position()))


def test_damage_is_one_line(file: Path) -> None:
    good = file.read_bytes()
    for content in (b"", b"x" * 10, good[: len(good) // 2], good[:-30]):
        file.write_bytes(content)
        with pytest.raises(StorageError, match=r"is damaged|cannot read") as caught:
            load_checkpoint(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="No such file"):
        load_checkpoint(file.with_name("other.npz"))


def test_what_cannot_be_true_is_damage(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are read as carefully as data."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    with pytest.raises(StorageError, match=r"state\.npz' is damaged \(its arrays take \d+ bytes, 100 bytes"):
        load_checkpoint(file)


def test_another_version_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_oto.training.checkpoint.VERSION", 4)
    with pytest.raises(StorageError, match="version 3, this program reads 4"):
        load_checkpoint(file)


def test_another_model_or_optimizer_is_refused(file: Path, make_session: Any) -> None:
    session = make_session()
    with pytest.raises(OtoError, match="'mean': found nothing"):
        restore(load_checkpoint(file), session, Dense(Adam(), SIZE))
    session.slices = {"other": (0, (SIZE,))}
    with pytest.raises(UsageError, match=r"the checkpoint is of another model \(b1\)"):
        restore(load_checkpoint(file), session, Dense(Sgd(), SIZE))


def test_restoring_fills_the_arrays_of_the_session_in_place(file: Path, make_session: Any) -> None:
    """Native code is bound to their memory."""
    session = make_session(seed=8)
    params, mean = session.params, session.statistics
    mean[:] = 5
    assert restore(load_checkpoint(file), session, Dense(Sgd(), SIZE)) == Position(1, 2, 3, 0.5, skipped=1)
    assert session.params is params
    np.testing.assert_array_equal(params, make_session().params)
    np.testing.assert_array_equal(mean, np.zeros(6))
    assert session.steps == 7


class Sum:
    """A part that has a state."""

    def __init__(self, value: float) -> None:
        self.value = value

    def state(self) -> dict[str, Any]:
        return {"value": np.float64(self.value)}

    def restore(self, state: Any) -> None:
        self.value = float(state["value"])


def test_parts_with_a_state_come_back(tmp_path: Path, make_session: Any) -> None:
    path, optimizer = tmp_path / "state.npz", Dense(Sgd(), SIZE)
    parts = {"sum": Sum(0.1), "other": Sum(2)}
    write_state(path, take_state(make_session(), optimizer, Position(), parts=parts))
    parts = {"sum": Sum(0), "other": Sum(0)}
    restore(load_checkpoint(path), make_session(), optimizer, parts)
    assert {name: part.value for name, part in parts.items()} == {"sum": 0.1, "other": 2}
    for other in ({}, {"sum": Sum(0)}):
        with pytest.raises(UsageError, match="other settings"):
            restore(load_checkpoint(path), make_session(), optimizer, other)
