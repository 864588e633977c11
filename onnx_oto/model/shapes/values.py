"""Partly known values, and the registry of functions that evaluate shape arithmetic on them.

A value is an array. With a numeric or bool dtype every element is known. With object dtype an element is an
int, float or bool (known), a str (it equals that symbolic size, see `dims`) or None (unknown). Exporters
compute Reshape targets by Shape -> Gather -> Concat and the like; these functions follow such chains with
sizes like 'N' left open.

An evaluator gets the node and its input values (None: nothing known) and returns the first output's value or
None, except `Split`, which returns a list. It may raise ValueError, IndexError or TypeError for misfits.
Adding an op is one function in `evaluators/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from onnx_oto.model.graph.budget import elements
from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes import dims

Value: TypeAlias = "np.ndarray"
Evaluator: TypeAlias = "Callable[[Node, Sequence[Value | None]], Value | list[Value] | None]"

MAX_ELEMENTS = 16384
EVALUATORS: dict[str, Evaluator] = {}
INTEGER_EVALUATORS: dict[str, Evaluator] = {}
"""Those of operators that mean something else on integers."""


def evaluates(*ops: str, integers: bool = False) -> Callable[[Evaluator], Evaluator]:
    """Register an evaluator for ops of the standard domain; `integers`: for results of an integer type only."""

    def register(function: Evaluator) -> Evaluator:
        (INTEGER_EVALUATORS if integers else EVALUATORS).update(dict.fromkeys(ops, function))
        return function

    return register


def is_known(value: Value | None) -> bool:
    """Say whether every element is a number."""
    if value is None:
        return False
    return value.dtype != object or not any(item is None or isinstance(item, str) for item in value.flat)


def integers(value: Value | None) -> list[int] | None:
    """Return the elements as ints when all are known and whole, else None."""
    found = sizes(value)
    if found is None or not all(isinstance(item, int) for item in found):
        return None
    return [item for item in found if isinstance(item, int)]


def sizes(value: Value | None) -> list[dims.Dim] | None:
    """Return the elements of a vector as sizes (int, symbolic or None), None when there is no value."""
    return None if value is None else [_size(item) for item in value.flat]


def _size(item: Any) -> dims.Dim:
    if item is None or isinstance(item, str):
        return item
    return int(item) if float(item).is_integer() else None


def from_shape(shape: dims.Shape) -> Value:
    """Return the value that `Shape` gives for a tensor of this shape."""
    if all(isinstance(size, int) for size in shape):
        return np.array(shape, np.int64)
    value = np.empty(len(shape), object)
    value[:] = shape
    return value


def argument(
    node: Node, values: Sequence[Value | None], position: int, attr: str, default: list[int] | None = None
) -> list[int] | None:
    """Return ints given as an input (newer opsets) or an attribute (older); `default` for neither."""
    if attr in node.attrs:
        found = node.attrs[attr]
        return list(found) if isinstance(found, list) else [int(found)]
    if node.input(position):
        return integers(values[position])
    return default


def lift(function: Callable[..., Any], *arrays: Value) -> Value:
    """Return the function applied to elements, with broadcasting; the result has object dtype.

    Integers that int64 does not hold are unknown: what the operator makes of them is another number. Raises ValueError
    where the result is too large to be evaluated.
    """
    if not fits(np.broadcast_shapes(*(array.shape for array in arrays))):
        raise ValueError("too large to be evaluated")

    def bounded(*items: Any) -> Any:
        item = function(*items)
        return None if dims.overflows(item) else item

    result = np.frompyfunc(bounded, len(arrays), 1)(*(array.astype(object) for array in arrays))
    return as_array(result, np.dtype(object))


def as_array(result: Any, dtype: np.dtype[Any]) -> Value:
    """Undo numpy's habit of returning the element itself where the result has no axes."""
    if isinstance(result, np.ndarray):
        return result
    scalar = np.empty((), dtype)
    scalar[()] = result
    return scalar


def fits(shape: Sequence[int]) -> bool:
    """Say whether a shape is small enough to be evaluated. One with a negative size is no shape."""
    count = elements(shape)
    return count is not None and count <= MAX_ELEMENTS
