"""Positions of several axes, taken some rows at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from onnx_oto.model.graph.tensors import write_array
from onnx_oto.surgery import weights

SHAPE = (7, 6, 2, 3)
KEPT = {0: [0, 2, 3, 6], 1: [1, 4], 2: [1]}


@pytest.mark.parametrize("axes", [order for n in (1, 2, 3) for order in itertools.permutations(KEPT, n)])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("part", [0, 1, 500, 1 << 18])
def test_positions_are_those_that_numpy_takes(
    axes: tuple[int, ...], kind: type[np.generic], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PART", part)
    whole = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(kind)
    odd = np.frombuffer(b"x" + whole.tobytes(), np.uint8)[1:].view(kind).reshape(SHAPE)
    wanted = whole
    for axis in axes:
        wanted = wanted.take(KEPT[axis], axis=axis)
    taken = weights._taken(odd, [(axis, np.array(KEPT[axis])) for axis in axes])
    assert taken.dtype == wanted.dtype
    np.testing.assert_array_equal(taken, wanted)


def test_no_row_may_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PART", 0)
    taken = weights._taken(np.ones((4, 3), np.float32), [(0, np.zeros(0, np.int64)), (1, np.array([1, 2]))])
    assert taken.shape == (0, 2)


@pytest.mark.parametrize("cut", [slice(None), slice(1, None), slice(None, 2), slice(None, None, -1)])
def test_what_is_written_is_what_an_array_shows_of_its_bytes(cut: slice) -> None:
    shown = np.frombuffer(np.arange(12, dtype=np.float32).tobytes(), np.float32).reshape(3, 4)[cut]
    for array in (shown, shown.T):
        tensor = TensorProto()
        write_array(array, "w", tensor)
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), array)
