"""What becomes of states (see `layout.Block`) in elementwise functions, computed once where they are one value."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np

from onnx_oto.lanes.layout import FloatArray, thin, thin_values

State = Callable[..., FloatArray]
"""What an elementwise function makes of states."""

_REMEMBERED: set[State] = set()
_MOST = 4096


def remembered(state: State) -> State:
    """Return a function of states that is made once: what it makes of one value each is computed once as well."""
    _REMEMBERED.add(state)
    return state


def result_of(state: State, states: Sequence[FloatArray], poisoning: Sequence[FloatArray]) -> FloatArray:
    """Return what `state`, which is elementwise, makes of states, with poison (see `finite_or_poison`).

    Where all are `thin` it is asked about one position. poisoning: the states whose infinity is handed on.
    """
    values = thin_values(states)
    given = values if poisoning is states else thin_values(poisoning)
    if values is not None and given is not None:
        if state in _REMEMBERED:
            found = _known(state, _packing(len(values)).pack(*values), len(values))
        else:
            found = _of_one(state, values)
        if found is not None:
            return thin(_finite_or_poison(given, found), states[0].shape)
    with np.errstate(all="ignore"):
        return finite_or_poison(poisoning, state(*states))


def _of_one(state: State, values: Sequence[float]) -> float | None:
    """Return what `state` makes of one value each, None if that is not one value."""
    with np.errstate(all="ignore"):
        found = state(*[np.array([value]) for value in values])
    return float(found.item()) if found.size == 1 else None


@lru_cache(maxsize=_MOST)
def _known(state: State, values: bytes, count: int) -> float | None:
    return _of_one(state, _packing(count).unpack(values))


@cache
def _packing(count: int) -> struct.Struct:
    """Return how values are written so that equal bytes are equal values: NaN is, and minus zero is not zero."""
    return struct.Struct(f"={count}d")


def _finite_or_poison(inputs: Sequence[float], value: float) -> float:
    return math.inf if math.isinf(value) or any(map(math.isinf, inputs)) else value


def is_unknown(state: FloatArray) -> bool:
    """Return whether nothing is known of any position, and there are some."""
    values = thin_values((state,))
    return math.isnan(values[0]) if values is not None else bool(state.size and np.isnan(state).all())


def finite_or_poison(inputs: Sequence[FloatArray], value: FloatArray) -> FloatArray:
    """Return `value` with inf (poison) where it is infinite or an input was poison; NaN stays: nothing is known."""
    result: FloatArray = np.empty(inputs[0].shape)
    result[...] = value
    poison = np.isinf(result)
    for state in inputs:
        poison |= np.isinf(state)
    result[poison] = np.inf
    return result
