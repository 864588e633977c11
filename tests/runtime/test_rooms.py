"""Tensors are made in memory that was used before, and freed with the room."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.runtime import compiled, rooms


@compiled.native()
def let_go(structure: int) -> None:
    rooms.let_go(structure)


def made(room: rooms.Room, *shape: int, kind: int = rooms.FLOATS) -> int:
    return int(rooms.tensor(room.words.ctypes.data, kind, np.array(shape)))


def test_the_last_one_given_back_is_taken_first() -> None:
    room = rooms.Room()
    one, other, small = made(room, 2, 3), made(room, 3, 2), made(room, 6, kind=rooms.BYTES)
    assert len({one, other, small}) == 3
    for each in (one, small, other):
        let_go(each)
    assert made(room, 6) == other
    assert made(room, 1, 6) == one
    assert made(room, 6, kind=rooms.BYTES) == small
    assert made(room, 6) not in (one, other, small)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 7)])
def test_structures_say_where_and_what_the_elements_are(shape: tuple[int, ...]) -> None:
    room = rooms.Room()
    words = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_int64 * 16).from_address(made(room, *shape)))
    assert words[0] % 64 == 0
    assert (words[2] & 0xFF, words[2] >> 32 & 0xFF, words[2] >> 40 & 0xFF, words[2] >> 48) == (
        len(shape),
        2,
        32,
        1,
    )
    assert tuple(words[8 : 8 + len(shape)]) == shape
    strides = [4 * stride for stride in words[12 : 12 + len(shape)]]
    assert tuple(strides) == np.empty(shape, np.float32).strides


def test_nothing_is_kept_where_nobody_says_so() -> None:
    """As when a graph is tried with zeros for every input."""
    words = np.zeros(rooms.WORDS, np.int64)
    let_go(rooms.tensor(words.ctypes.data, rooms.FLOATS, np.array([4])))
    assert not words.any()
