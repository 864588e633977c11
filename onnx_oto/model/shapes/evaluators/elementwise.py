"""Ops that compute element by element, with symbols where a result is exactly a symbolic size."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes import dims
from onnx_oto.model.shapes.values import Value, argument, evaluates, fits, is_known, lift


@evaluates("Where")
def _where(node: Node, values: Sequence[Value | None]) -> Value | None:
    condition, yes, no = values
    if condition is None or yes is None or no is None:
        return None
    if not fits(np.broadcast_shapes(condition.shape, yes.shape, no.shape)):
        return None
    if is_known(condition) and yes.dtype != object and no.dtype != object:
        return np.where(condition.astype(bool), yes, no)

    def choose(test: Any, a: Any, b: Any) -> Any:
        if test is None:
            return a if a == b else None
        return a if test else b

    return lift(choose, condition, yes, no)


@evaluates("Cast")
def _cast(node: Node, values: Sequence[Value | None]) -> Value | None:
    if values[0] is None:
        return None
    kind = onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"])
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

    return lift(convert, values[0])


@evaluates("CastLike")
def _cast_like(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, like = values
    if data is None or data.dtype == object:
        return None
    if like is None or like.dtype == object:
        return data  # the walk gives it the element type that inference found
    return data.astype(like.dtype)


Operation = Callable[[Any, Any], Any]


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.add(_whole(a), _whole(b))
    return None if a is None or b is None else a + b


def _sub(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.subtract(_whole(a), _whole(b))
    return None if a is None or b is None else a - b


def _mul(a: Any, b: Any) -> Any:
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.multiply(_whole(a), _whole(b))
    return None if a is None or b is None else a * b


def _div(a: Any, b: Any) -> Any:
    """Return a quotient of floats, exact where sizes are divided."""
    if a is None or b is None or b == 0:
        return None
    if isinstance(a, str) or isinstance(b, str):
        return None if _fractional(a) or _fractional(b) else dims.divide(_whole(a), _whole(b))
    return a / b


def _integer_div(a: Any, b: Any) -> Any:
    return None if a is None or b is None or b == 0 else dims.truncated(_whole(a), _whole(b))


def _mod(a: Any, b: Any) -> Any:
    """Return the remainder of sizes, which are not negative: both kinds of Mod agree on them."""
    if a is None or b is None or b == 0 or _fractional(a) or _fractional(b):
        return None
    a, b = _whole(a), _whole(b)
    if not (dims.grows(a) and dims.grows(b)):
        return None
    return dims.subtract(a, dims.multiply(b, dims.quotient(a, b)))


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """Compare two elements; with sizes, where it is the same for every value of their symbols."""

    def compare(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        if not (isinstance(a, str) or isinstance(b, str)):
            return test(a, b)
        if _fractional(a) or _fractional(b):
            return None
        apart = dims.subtract(_whole(a), _whole(b))
        if isinstance(apart, int):
            return test(apart, 0)
        if dims.least(apart) > 0:
            return test(1, 0)
        return test(-1, 0) if dims.least(dims.multiply(-1, apart)) > 0 else None

    return compare


def _extreme(
    pick: Callable[[Any, Any], Any], symbolic: Callable[[dims.Dim, dims.Dim], dims.Dim]
) -> Operation:
    def choose(a: Any, b: Any) -> Any:
        if isinstance(a, str) or isinstance(b, str):
            return None if _fractional(a) or _fractional(b) else symbolic(_whole(a), _whole(b))
        return None if a is None or b is None else pick(a, b)

    return choose


_MIN, _MAX = _extreme(min, dims.smallest), _extreme(max, dims.largest)


def _and(a: Any, b: Any) -> Any:
    if a is False or b is False:
        return False
    return None if a is None or b is None else bool(a and b)


def _or(a: Any, b: Any) -> Any:
    if a is True or b is True:
        return True
    return None if a is None or b is None else bool(a or b)


def _xor(a: Any, b: Any) -> Any:
    return None if a is None or b is None else bool(a) != bool(b)


_BINARY: dict[str, Operation] = {
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
    "Xor": _xor,
    "Mod": _mod,
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
    "Xor": np.logical_xor,
}


@evaluates(*_BINARY)
def _binary(node: Node, values: Sequence[Value | None]) -> Value | None:
    a, b = values
    if a is None or b is None:
        return None
    if not fits(np.broadcast_shapes(a.shape, b.shape)):
        return None
    if a.dtype == object or b.dtype == object:
        return lift(_BINARY[node.op], a, b)
    with np.errstate(all="ignore"):
        if node.op in _TYPED:
            return np.asarray(_TYPED[node.op](a, b))
        if node.op == "Div":
            return np.asarray(a / b) if a.dtype.kind == "f" else None
        return lift(_BINARY[node.op], a, b)


@evaluates("Div", integers=True)
def _integer_division(node: Node, values: Sequence[Value | None]) -> Value | None:
    """Quotients of integers are rounded towards zero."""
    a, b = values
    if a is None or b is None or not fits(np.broadcast_shapes(a.shape, b.shape)):
        return None
    return lift(_integer_div, a, b) if b.dtype == object or np.all(b != 0) else None


@evaluates("Min", "Max")
def _min_max(node: Node, values: Sequence[Value | None]) -> Value | None:
    found = [value for value in values if value is not None]
    if len(found) < len(values) or not fits(np.broadcast_shapes(*(value.shape for value in found))):
        return None
    result = found[0]
    for value in found[1:]:
        if result.dtype == object or value.dtype == object:
            result = lift(_MIN if node.op == "Min" else _MAX, result, value)
        else:
            result = (np.minimum if node.op == "Min" else np.maximum)(result, value)
    return result


@evaluates("Not")
def _not(node: Node, values: Sequence[Value | None]) -> Value | None:
    return None if values[0] is None else lift(lambda item: None if item is None else not item, values[0])


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
        return lift(_abs, values[0])
    return lift(lambda item: dims.multiply(-1, item) if isinstance(item, str) else item and -item, values[0])


@evaluates("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(node: Node, values: Sequence[Value | None]) -> Value | None:
    """Reduce a vector to one element; other forms are left to the reference implementation."""
    data = values[0]
    if data is None or data.ndim != 1 or data.size == 0 or data.dtype.kind == "f":
        return None
    axes = argument(node, values, 1, "axes", [0] if not node.attrs.get("noop_with_empty_axes", 0) else None)
    if axes is None or [axis % 1 for axis in axes] != [0]:
        return None
    combine = {"ReduceProd": _mul, "ReduceSum": _add, "ReduceMax": _MAX, "ReduceMin": _MIN}[node.op]
    total = data.flat[0] if data.dtype == object else data.flat[0].item()
    for item in data.astype(object).flat[1:]:
        total = combine(total, item)
        if dims.overflows(total):
            return None
    result = np.empty((1,) if node.attrs.get("keepdims", 1) else (), object)
    result[...] = total
    return result


def _abs(item: Any) -> Any:
    if isinstance(item, str):
        return item if dims.least(item) >= 0 else None
    return None if item is None else abs(item)


def _fractional(item: Any) -> bool:
    return isinstance(item, float) and not item.is_integer()


def _whole(item: Any) -> dims.Dim:
    return item if item is None or isinstance(item, str) else int(item)


def _all_whole(value: Value) -> bool:
    return all(not _fractional(item) for item in value.flat)
