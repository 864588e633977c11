"""Evaluation of shape arithmetic on partly known values, one function per op.

A value is an array. With a numeric or bool dtype every element is known. With object dtype an element is an
int, float or bool (known), a str (it equals that symbolic size, see `dims`) or None (unknown). Exporters
compute Reshape targets by Shape -> Gather -> Concat and the like; these functions follow such chains with
sizes like 'N' left open.

A function gets the node and its input values (None: nothing known) and returns the first output's value or
None, except `Split`, which returns a list. Adding an op is one function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from onnx_oto.model import dims
from onnx_oto.model.node import Node

Value: TypeAlias = "np.ndarray"
Evaluator: TypeAlias = "Callable[[Node, Sequence[Value | None]], Value | list[Value] | None]"

MAX_ELEMENTS = 16384
EVALUATORS: dict[str, Evaluator] = {}


def evaluates(*ops: str) -> Callable[[Evaluator], Evaluator]:
    """Register an evaluator for ops of the standard domain."""

    def register(function: Evaluator) -> Evaluator:
        EVALUATORS.update(dict.fromkeys(ops, function))
        return function

    return register


def is_known(value: Value | None) -> bool:
    """Say whether every element is a number."""
    if value is None:
        return False
    return value.dtype != object or not any(item is None or isinstance(item, str) for item in value.flat)


def integers(value: Value | None) -> list[int] | None:
    """Return the elements as ints when all are known, else None."""
    if value is None or not is_known(value):
        return None
    return [int(item) for item in value.flat]


def sizes(value: Value | None) -> list[dims.Dim] | None:
    """Return the elements of a vector as sizes (int, symbol or None), None when there is no value."""
    if value is None:
        return None
    return [item if item is None or isinstance(item, str) else int(item) for item in value.flat]


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


@evaluates("Identity")
def _identity(node: Node, values: Sequence[Value | None]) -> Value | None:
    return values[0]


@evaluates("Gather")
def _gather(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, indices = values[0], values[1]
    if data is None or indices is None or not is_known(indices):
        return None
    return _as_array(np.take(data, indices.astype(np.int64), axis=node.attrs.get("axis", 0)), data.dtype)


@evaluates("Concat")
def _concat(node: Node, values: Sequence[Value | None]) -> Value | None:
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    return np.concatenate(_alike(found), axis=node.attrs.get("axis", 0))


@evaluates("Unsqueeze")
def _unsqueeze(node: Node, values: Sequence[Value | None]) -> Value | None:
    axes = argument(node, values, 1, "axes")
    if values[0] is None or axes is None:
        return None
    return np.expand_dims(values[0], tuple(axes))


@evaluates("Squeeze")
def _squeeze(node: Node, values: Sequence[Value | None]) -> Value | None:
    given = "axes" in node.attrs or bool(node.input(1))
    axes = argument(node, values, 1, "axes")
    if values[0] is None or (given and axes is None):
        return None
    return np.squeeze(values[0], axis=None if axes is None else tuple(axes))


@evaluates("Slice")
def _slice(node: Node, values: Sequence[Value | None]) -> Value | None:
    data = values[0]
    starts, ends = argument(node, values, 1, "starts"), argument(node, values, 2, "ends")
    if data is None or starts is None or ends is None:
        return None
    axes = argument(node, values, 3, "axes", list(range(len(starts))))
    steps = argument(node, values, 4, "steps", [1] * len(starts))
    if axes is None or steps is None:
        return None
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = onnx_slice(data.shape[axis], start, end, step)
    return data[tuple(index)]


def onnx_slice(size: int, start: int, end: int, step: int) -> slice:
    """Return the Python slice that means the same as an ONNX slice of an axis of this size."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(start + size if start < 0 else start, 0), high)
    end = min(max(end + size if end < 0 else end, low), size)
    return slice(start, None if end < 0 else end, step)


@evaluates("Reshape")
def _reshape(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, shape = values[0], argument(node, values, 1, "shape")
    if data is None or shape is None:
        return None
    if not node.attrs.get("allowzero", 0):
        shape = [data.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return data.reshape(shape)


@evaluates("Transpose")
def _transpose(node: Node, values: Sequence[Value | None]) -> Value | None:
    return None if values[0] is None else np.transpose(values[0], node.attrs.get("perm"))


@evaluates("Flatten")
def _flatten(node: Node, values: Sequence[Value | None]) -> Value | None:
    if values[0] is None:
        return None
    axis = node.attrs.get("axis", 1)
    axis += values[0].ndim if axis < 0 else 0
    return values[0].reshape(int(np.prod(values[0].shape[:axis])), -1)


@evaluates("Expand")
def _expand(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, shape = values[0], integers(values[1])
    if data is None or shape is None:
        return None
    result = np.broadcast_shapes(data.shape, tuple(shape))
    return np.broadcast_to(data, result) if _fits(result) else None


@evaluates("Tile")
def _tile(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, repeats = values[0], integers(values[1])
    if data is None or repeats is None or not _fits([*data.shape, *repeats]):
        return None
    return np.tile(data, repeats)


@evaluates("ConstantOfShape")
def _constant_of_shape(node: Node, values: Sequence[Value | None]) -> Value | None:
    shape = integers(values[0])
    if shape is None or not _fits(shape):
        return None
    fill = node.attrs.get("value", np.zeros(1, np.float32))
    return np.full(shape, fill.reshape(-1)[0], fill.dtype)


@evaluates("Range")
def _range(node: Node, values: Sequence[Value | None]) -> Value | None:
    if not all(is_known(value) for value in values):
        return None
    start, limit, delta = (value.reshape(-1)[0] for value in values if value is not None)
    if delta == 0 or not _fits([max(0, int((limit - start) / delta))]):
        return None
    return np.arange(start, limit, delta, dtype=start.dtype)


@evaluates("Split")
def _split(node: Node, values: Sequence[Value | None]) -> list[Value] | None:
    data = values[0]
    if data is None:
        return None
    axis = node.attrs.get("axis", 0)
    parts, size = len(node.outputs), data.shape[axis]
    chunk = -(-size // parts)
    equal = [min(chunk, size - chunk * i) for i in range(parts)]
    lengths = argument(node, values, 1, "split", equal)
    if lengths is None or sum(lengths) != size:
        return None
    return list(np.split(data, np.cumsum(lengths)[:-1], axis=axis))


@evaluates("Where")
def _where(node: Node, values: Sequence[Value | None]) -> Value | None:
    condition, yes, no = values
    if condition is None or yes is None or no is None:
        return None
    if is_known(condition) and yes.dtype != object and no.dtype != object:
        return np.where(condition.astype(bool), yes, no)

    def choose(test: Any, a: Any, b: Any) -> Any:
        if test is None:
            return a if a == b else None
        return a if test else b

    return _lift(choose, condition, yes, no)


@evaluates("Cast")
def _cast(node: Node, values: Sequence[Value | None]) -> Value | None:
    if values[0] is None:
        return None
    kind = _np_dtype(node.attrs["to"])
    if values[0].dtype != object:
        if values[0].dtype.kind not in "iufb" or kind.kind not in "iufb":
            return None
        with np.errstate(all="ignore"):
            return values[0].astype(kind)
    number: Callable[[Any], Any] = {"b": bool, "i": int, "u": int}.get(kind.kind, float)

    def convert(item: Any) -> Any:
        if isinstance(item, str):
            return None if kind.kind == "b" else item
        return None if item is None else number(item)

    return _lift(convert, values[0])


@evaluates("CastLike")
def _cast_like(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, like = values
    if data is None or like is None or data.dtype == object or like.dtype == object:
        return None
    return data.astype(like.dtype)


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return a if b == 0 else b if a == 0 else None
    return None if a is None or b is None else a + b


def _sub(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return 0 if a == b else a if b == 0 else None
    return None if a is None or b is None else a - b


def _mul(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.multiply(_whole(a), _whole(b))
    return None if a is None or b is None else a * b


def _div(a: Any, b: Any) -> Any:
    if a is None or b is None or b == 0:
        return None
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.divide(_whole(a), _whole(b))
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """Compare two elements; a symbol is >= 0, so it can be told from a negative number."""

    def compare(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        if isinstance(a, str) and isinstance(b, str):
            return test(0, 0) if a == b else None
        if isinstance(a, str):
            return test(0, b) if b < 0 else None
        if isinstance(b, str):
            return test(a, 0) if a < 0 else None
        return test(a, b)

    return compare


def _extreme(pick: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def choose(a: Any, b: Any) -> Any:
        if a is None or b is None or isinstance(a, str) or isinstance(b, str):
            return a if a == b else None
        return pick(a, b)

    return choose


def _and(a: Any, b: Any) -> Any:
    if a is False or b is False:
        return False
    return None if a is None or b is None else bool(a and b)


def _or(a: Any, b: Any) -> Any:
    if a is True or b is True:
        return True
    return None if a is None or b is None else bool(a or b)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Equal": _compare(operator.eq),
    "Greater": _compare(operator.gt),
    "GreaterOrEqual": _compare(operator.ge),
    "Less": _compare(operator.lt),
    "LessOrEqual": _compare(operator.le),
    "And": _and,
    "Or": _or,
}
_TYPED: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}


@evaluates(*_BINARY)
def _binary(node: Node, values: Sequence[Value | None]) -> Value | None:
    a, b = values
    if a is None or b is None:
        return None
    if not _fits(np.broadcast_shapes(a.shape, b.shape)):
        return None
    if a.dtype == object or b.dtype == object:
        return _lift(_BINARY[node.op], a, b)
    with np.errstate(all="ignore"):
        if node.op != "Div":
            return np.asarray(_TYPED[node.op](a, b))
        if a.dtype.kind == "f":
            return np.asarray(a / b)
        return _lift(_div, a, b) if np.all(b != 0) else None


@evaluates("Min", "Max")
def _min_max(node: Node, values: Sequence[Value | None]) -> Value | None:
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    result = found[0]
    for value in found[1:]:
        if result.dtype == object or value.dtype == object:
            result = _lift(_extreme(min if node.op == "Min" else max), result, value)
        else:
            result = (np.minimum if node.op == "Min" else np.maximum)(result, value)
    return result


@evaluates("Not")
def _not(node: Node, values: Sequence[Value | None]) -> Value | None:
    return None if values[0] is None else _lift(lambda item: None if item is None else not item, values[0])


@evaluates("Floor", "Ceil", "Round")
def _round(node: Node, values: Sequence[Value | None]) -> Value | None:
    """A symbol is a whole number already."""
    if values[0] is None or values[0].dtype == object:
        return values[0] if values[0] is not None and _all_whole(values[0]) else None
    return np.asarray({"Floor": np.floor, "Ceil": np.ceil, "Round": np.rint}[node.op](values[0]))


@evaluates("Neg", "Abs")
def _sign(node: Node, values: Sequence[Value | None]) -> Value | None:
    if values[0] is None:
        return None
    if values[0].dtype != object:
        return np.asarray(np.negative(values[0]) if node.op == "Neg" else np.abs(values[0]))
    if node.op == "Abs":
        return _lift(lambda item: item if item is None or isinstance(item, str) else abs(item), values[0])
    return _lift(lambda item: None if item is None or isinstance(item, str) else -item, values[0])


@evaluates("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(node: Node, values: Sequence[Value | None]) -> Value | None:
    """Reduce a vector to one element; other forms are left to the reference implementation."""
    data = values[0]
    if data is None or data.ndim != 1 or data.size == 0 or data.dtype.kind == "f":
        return None
    axes = argument(node, values, 1, "axes", [0] if not node.attrs.get("noop_with_empty_axes", 0) else None)
    if axes is None or [axis % 1 for axis in axes] != [0]:
        return None
    combine = {"ReduceProd": _mul, "ReduceSum": _add, "ReduceMax": _extreme(max), "ReduceMin": _extreme(min)}[
        node.op
    ]
    total = data.flat[0] if data.dtype == object else data.flat[0].item()
    for item in data.astype(object).flat[1:]:
        total = combine(total, item)
    result = np.empty((1,) if node.attrs.get("keepdims", 1) else (), object)
    result[...] = total
    return result


def _lift(function: Callable[..., Any], *arrays: Value) -> Value:
    result = np.frompyfunc(function, len(arrays), 1)(*(array.astype(object) for array in arrays))
    return _as_array(result, np.dtype(object))


def _as_array(result: Any, dtype: np.dtype[Any]) -> Value:
    """Undo numpy's habit of returning the element itself where the result has no axes."""
    if isinstance(result, np.ndarray):
        return result
    scalar = np.empty((), dtype)
    scalar[()] = result
    return scalar


def _alike(values: list[Value]) -> list[Value]:
    return (
        [value.astype(object) for value in values]
        if any(value.dtype == object for value in values)
        else values
    )


def _fits(shape: Sequence[int]) -> bool:
    total = 1
    for size in shape:
        total *= size
    return 0 <= total <= MAX_ELEMENTS


def _fractional(item: Any) -> bool:
    return isinstance(item, float) and not item.is_integer()


def _whole(item: Any) -> dims.Dim:
    return item if item is None or isinstance(item, str) else int(item)


def _all_whole(value: Value) -> bool:
    return all(not _fractional(item) for item in value.flat)


def _np_dtype(data_type: int) -> np.dtype[Any]:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(data_type)
