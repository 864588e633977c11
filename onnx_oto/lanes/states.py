"""What becomes of states (see `layout.Block`) in elementwise functions, computed once where they are one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnx_oto.lanes.layout import FloatArray, thin, thin_values


def result_of(
    state: Callable[..., FloatArray], states: Sequence[FloatArray], poisoning: Sequence[FloatArray]
) -> FloatArray:
    """Return what `state`, which is elementwise, makes of states, with poison (see `finite_or_poison`).

    Where all are `thin` it is asked about one position. poisoning: the states whose infinity is handed on.
    """
    with np.errstate(all="ignore"):
        values, given = thin_values(states), thin_values(poisoning)
        if values is not None and given is not None:
            found = state(*[np.array([value]) for value in values])
            if found.size == 1:
                return thin(_finite_or_poison(given, float(found.item())), states[0].shape)
        return finite_or_poison(poisoning, state(*states))


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
