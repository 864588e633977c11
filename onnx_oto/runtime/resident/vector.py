"""What stands for a flat array of numpy and lies on a device.

Elementwise functions of numpy work on it, in place with `out`, and so do `np.copyto` and the operators; `np.asarray`
brings a copy here. So whoever works on flat arrays by whole-array operations works on these, without knowing it: a rule
written for numpy (`optim/directions.py`) becomes a graph by being called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.resident.values import Value, number, table

if TYPE_CHECKING:
    from onnx_oto.runtime.resident.room import Room

Array = npt.NDArray[Any]

_SAME: dict[Any, str] = {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
    np.maximum: "Max",
    np.minimum: "Min",
    np.power: "Pow",
    np.negative: "Neg",
    np.absolute: "Abs",
    np.sign: "Sign",
    np.sqrt: "Sqrt",
    np.exp: "Exp",
    np.log: "Log",
    np.tanh: "Tanh",
    np.reciprocal: "Reciprocal",
    np.floor: "Floor",
    np.ceil: "Ceil",
}
"""Functions of numpy that are operators of the standard."""
_QUESTIONS: dict[Any, str] = {
    np.equal: "Equal",
    np.less: "Less",
    np.less_equal: "LessOrEqual",
    np.greater: "Greater",
    np.greater_equal: "GreaterOrEqual",
    np.logical_and: "And",
    np.logical_or: "Or",
    np.logical_not: "Not",
}
"""Those whose result is true or false."""
_BOOL = np.dtype(np.bool_)


class Vector(NDArrayOperatorsMixin):
    """An array [size] of float32, or of truth values, on a device. value: what it holds, or will."""

    def __init__(self, room: Room, value: Value, size: int) -> None:
        self.room, self.size = room, size
        self._value = value
        self._write(value)

    @classmethod
    def of(cls, room: Room, array: Array) -> Vector:
        """Return a copy of an array, [P], on the device of a room."""
        return cls(room, room.hold(array), array.size)

    @property
    def value(self) -> Value:
        """What it holds, or will."""
        return self._value

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array."""
        return (self.size,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As that of an array."""
        return self._value.dtype

    @property
    def nbytes(self) -> int:
        """As that of an array."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.size

    def settle(self, value: Value) -> None:
        """Take what was computed of the value. For the room."""
        self._value = value

    def held(self) -> Value:
        """Return its value once it is computed."""
        if not self._value.is_leaf:
            self.room.run()
        return self._value

    def take(self, value: Value) -> None:
        """Hold another value from now on."""
        self._write(value)

    def copy(self) -> Vector:
        """Return another vector of the same value; what is done to one does not touch the other."""
        return Vector(self.room, self._value, self.size)

    def beside(self, array: Array) -> Vector:
        """Return a copy of an array, float32 or of truth values, where this one is."""
        return Vector.of(self.room, np.asarray(array, _BOOL if array.dtype == _BOOL else np.float32))

    def spread(self, values: Array, labels: npt.NDArray[np.int32]) -> Vector:
        """Return values[labels], for few values [K], float32 or of truth values, and labels [P] that do not change."""
        source = table(values)
        found = Value("Gather", (source, self.room.constant(labels)), (("axis", 0),), dtype=source.dtype)
        return Vector(self.room, found, self.size)

    def sums(
        self, pairs: Sequence[tuple[Any, Any]], levels: Sequence[npt.NDArray[np.int32]]
    ) -> npt.NDArray[np.float64]:
        """Return sums of products x * y over rows of rows, float64 [pairs, R], for vectors x and y.

        levels: where the elements of each row lie, int32 [R, W], in the vectors, then in the sums of the level before;
        one behind the last of these is nothing.
        """
        gathered: dict[int, Value] = {}
        nothing = number(0.0)
        found = []
        for pair in pairs:
            for each in pair:
                if id(each) not in gathered:
                    at = self.room.constant(levels[0])
                    gathered[id(each)] = Value("Gather", (each.value, at), (("axis", 0),), rank=2)
            total = _row_sums(Value("Mul", tuple(gathered[id(each)] for each in pair), rank=2))
            for level in levels[1:]:
                padded = Value("Concat", (total, nothing), (("axis", 0),))
                rows = Value("Gather", (padded, self.room.constant(level)), (("axis", 0),), rank=2)
                total = _row_sums(rows)
            found.append(total)
        return np.array(self.room.run(found), np.float64)

    def square_norm(self) -> float:
        """Return <x, x>, summed in float32 in rows and rows of rows."""
        square = Value("Mul", (self._value, self._value))
        rows = Value("Reshape", (square,), (("shape", (-1, _row(self.size))),), rank=2)
        total = Value("ReduceSum", (_row_sums(rows),), (("axes", (0,)), ("keepdims", 1)))
        return float(self.room.run([total])[0][0])

    def add_up(self, places: npt.NDArray[np.int32], copies: npt.NDArray[np.int32], which: Array) -> None:
        """Write at `places` [n] the sum `which` [n] of those over the rows of `copies` [E, C], in place."""
        at = self.room.constant(copies)
        totals = _row_sums(Value("Gather", (self._value, at), (("axis", 0),), rank=2))
        dealt = Value("Gather", (totals, self.room.constant(which)), (("axis", 0),))
        changed = (self._value, self.room.constant(places), dealt)
        self._write(Value("ScatterElements", changed, (("axis", 0),)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return a copy of it as an array."""
        found = self.room.read(self.held())
        return found if dtype is None else found.astype(dtype, copy=False)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """See numpy. `out` and `where` are understood."""
        out, where = options.pop("out", (None,))[0], options.pop("where", True)
        name = _SAME.get(function) or _QUESTIONS.get(function)
        if name is None and function is np.square:
            name, inputs = "Mul", (inputs[0], inputs[0])
        if name is None or method != "__call__" or options or not (out is None or isinstance(out, Vector)):
            raise UnsupportedError(
                f"numpy's {function.__name__} has no form on device {self.room.device.name!r}: use --device cpu"
            )
        dtype = _BOOL if function in _QUESTIONS else np.dtype(np.float32)
        value = Value(name, tuple(self._read(each) for each in inputs), dtype=dtype)
        if out is None:
            return Vector(self.room, value, self.size)
        out.take(value if where is True else Value("Where", (self._read(where), value, out.value)))
        return out

    def __array_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any, options: Any
    ) -> Any:
        """See numpy: copyto, zeros_like and where."""
        known: dict[Any, Callable[..., Any]] = {
            np.copyto: self._copyto,
            np.zeros_like: self._zeros_like,
            np.where: self._where,
        }
        if function not in known:
            raise UnsupportedError(
                f"numpy's {function.__name__} has no form on device {self.room.device.name!r}: use --device cpu"
            )
        return known[function](*arguments, **options)

    def _copyto(self, target: Any, source: Any, where: Any = True) -> None:
        if not isinstance(target, Vector):
            np.copyto(target, np.asarray(source))
        elif where is True:
            is_array = isinstance(source, Vector | np.ndarray) and source.shape
            target.take(self._read(source) if is_array else self._filled(float(source)))
        else:
            target.take(Value("Where", (self._read(where), self._read(source), target.value)))

    def _zeros_like(self, like: Vector) -> Vector:
        return Vector(self.room, self._filled(0.0), self.size)

    def _where(self, which: Any, yes: Any, no: Any) -> Vector:
        return Vector(
            self.room, Value("Where", (self._read(which), self._read(yes), self._read(no))), self.size
        )

    def _filled(self, what: float) -> Value:
        return self.room.hold(np.full(self.size, what, np.float32))

    def _read(self, given: Any) -> Value:
        if isinstance(given, Vector):
            return given.value
        array = np.asarray(given)
        return self.beside(array).value if array.ndim else number(float(array))

    def _write(self, value: Value) -> None:
        self._value = value
        if not value.is_leaf:
            self.room.note(self)


def _row_sums(rows: Value) -> Value:
    return Value("ReduceSum", (rows,), (("axes", (1,)), ("keepdims", 0)))


def _row(size: int) -> int:
    """Return the length of rows that an array is cut into: a divisor, about as many as there are rows.

    >>> _row(64 * 64), _row(64 * 7)
    (64, 64)
    """
    row = 1
    while size % (2 * row) == 0 and row * row < size:
        row *= 2
    return row
