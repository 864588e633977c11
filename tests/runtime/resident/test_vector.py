"""Vectors on a device do what arrays of numpy do, and only what somebody sees is computed."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.devices import Device, read_device
from onnx_oto.runtime.resident import Pool, Room, Vector
from onnx_oto.runtime.resident import room as room_module

X = np.array([-1.5, 0.0, 0.25, 2.0, 3.0, -0.5, 0.0, 0.0], np.float32)
Y = np.array([0.5, 1.0, -2.0, 4.0, 3.0, -0.5, 0.1, 0.0], np.float32)


@pytest.fixture
def room() -> Room:
    return Room(read_device("CPUExecutionProvider"))


CASES: dict[str, Callable[..., object]] = {
    "sum": lambda x, y: x + y,
    "by a number": lambda x, y: x * 0.1 - 2,
    "number first": lambda x, y: 1 - np.float32(0.3) * x,
    "quotient": lambda x, y: x / (np.abs(y) + 1e-3),
    "root": lambda x, y: np.sqrt(np.square(x) + y * y),
    "sign": lambda x, y: np.sign(x) * -y,
    "extremes": lambda x, y: np.maximum(np.minimum(x, y), 0.2),
    "exponential": lambda x, y: np.exp(x) + np.tanh(y),
    "choice": lambda x, y: np.where((x > 0) & (y >= 0), x, y),
    "power": lambda x, y: np.power(np.abs(x), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_numpy_does(room: Room, name: str) -> None:
    expected = CASES[name](X, Y)
    if name == "choice":
        found = np.where(
            np.logical_and(Vector.of(room, X) > 0, Vector.of(room, Y) >= 0),
            Vector.of(room, X),
            Vector.of(room, Y),
        )
    else:
        found = CASES[name](Vector.of(room, X), Vector.of(room, Y))
    assert isinstance(found, Vector)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-9)


def test_it_is_changed_in_place_and_its_copies_are_not(room: Room) -> None:
    x = Vector.of(room, X)
    before, same = x.copy(), x
    x -= 0.5 * x
    np.multiply(x, 2.0, out=x, where=x > 0)
    expected = np.where(X > 0, X, X * 0.5)
    assert same is x
    np.testing.assert_array_equal(np.asarray(x), expected)
    np.testing.assert_array_equal(np.asarray(before), X)
    np.copyto(before, x)
    x += 1
    np.testing.assert_array_equal(np.asarray(before), expected)
    np.testing.assert_array_equal(np.asarray(x), expected + 1)


def test_copyto_goes_there_and_back(room: Room) -> None:
    x, here = Vector.of(room, X), np.zeros_like(X)
    np.copyto(here, x)
    np.testing.assert_array_equal(here, X)
    np.copyto(x, Y)
    here[:] = 7  # what went there is a copy
    np.testing.assert_array_equal(np.asarray(x), Y)
    np.copyto(x, 0.0, where=x < 0)
    np.testing.assert_array_equal(np.asarray(x), np.where(Y < 0, 0, Y))
    np.copyto(x, 3.0)
    np.testing.assert_array_equal(np.asarray(x), np.full(8, 3, np.float32))
    assert not np.asarray(np.zeros_like(x)).any()


def test_what_was_read_is_not_written_over(room: Room) -> None:
    x = Vector.of(room, X)
    seen = np.asarray(x)
    for _ in range(5):
        x += 1
        x.held()
    np.testing.assert_array_equal(seen, X)


def test_all_that_waits_is_one_run_and_what_nobody_has_is_not_computed(room: Room) -> None:
    x, y = Vector.of(room, X), Vector.of(room, Y)
    lost = x * y
    del lost
    x += y
    y *= x
    assert room.runs == 0
    np.testing.assert_array_equal(np.asarray(y), (X + Y) * Y)
    np.testing.assert_array_equal(np.asarray(x), X + Y)
    assert room.runs == 1
    (shape,) = room._sessions
    assert [part[0] for part in shape].count("Mul") == 1


def test_the_same_work_opens_no_session_and_takes_no_memory_again(room: Room) -> None:
    x, m = Vector.of(room, X), Vector.of(room, np.zeros_like(X))
    taken: list[int] = []
    for step in range(20):
        m *= 0.9
        m += x
        x -= 0.1 * (step + 1) * m
        x.held()
        gc.collect(0)
        taken.append(len(room.pool(8, np.dtype(np.float32))._free))
    assert len(room._sessions) == 1
    assert len(set(taken[3:])) == 1


def test_numbers_are_not_part_of_a_graph(room: Room) -> None:
    x = Vector.of(room, X)
    for number in (0.1, 0.2, 0.3):
        x *= number
        x.held()
    assert len(room._sessions) == 1
    np.testing.assert_array_equal(np.asarray(x), X * np.float32(0.1) * np.float32(0.2) * np.float32(0.3))


def test_little_crosses_but_what_is_asked_for(room: Room) -> None:
    x = Vector.of(room, np.ones(1 << 16, np.float32))
    sent, received = room.sent, room.received
    x -= 0.5 * x
    assert x.square_norm() == (1 << 16) / 4
    assert room.sent - sent == 4
    assert room.received - received == 4


@pytest.mark.parametrize("size", [64, 1024 * 7, 1 << 16])
def test_a_norm_is_that_of_numpy(room: Room, size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    expected = float(np.dot(x.astype(np.float64), x))
    assert Vector.of(room, x).square_norm() == pytest.approx(expected, rel=1e-6)
    x[size // 2] = np.nan
    assert np.isnan(Vector.of(room, x).square_norm())


@pytest.mark.parametrize("function", [np.arctan, np.add.reduce, np.sum, lambda x: np.add(x, 1, out=X.copy())])
def test_what_has_no_form_is_refused(room: Room, function: Callable[[Vector], object]) -> None:
    with pytest.raises(
        UnsupportedError, match=r"has no form on device 'CPUExecutionProvider': use --device cpu"
    ):
        function(Vector.of(room, X))


def test_a_device_without_memory_says_so(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was there is there: a result has a place of its own, or none."""
    x = Vector.of(room, X)
    y = x.copy()

    def full(self: Pool) -> None:
        raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 8")

    monkeypatch.setattr(Pool, "take", full)
    x += 1
    with pytest.raises(UnsupportedError, match=r"memory of device 'CPUExec.*give a smaller --batch"):
        x.held()
    np.testing.assert_array_equal(np.asarray(room.read(y.value)), X)


def test_a_provider_that_does_not_compute_says_so(room: Room) -> None:
    other = Room(Device("other", "CPUExecutionProvider", memory="cpu"))
    x = Vector.of(other, X)
    x += Vector.of(other, X[:3])  # no such sizes
    with pytest.raises(
        UnsupportedError, match=r"device 'other': CPUExec.* does not take the optimizer's step \("
    ):
        x.held()


def test_only_the_sessions_used_last_are_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "MOST_SESSIONS", 2)
    x = Vector.of(room, X)
    kinds: list[Callable[[Vector], Vector]] = [
        lambda x: x + 1,
        lambda x: x * 2,
        lambda x: x + 1,
        lambda x: x / 2,
    ]
    for kind in kinds:
        np.asarray(kind(x))
    assert [[part[0] for part in shape][2] for shape in room._sessions] == ["Add", "Div"]
    np.testing.assert_array_equal(np.asarray(x * 2), X * 2)
