"""What one feed of a model is: its inputs, their open axes, and values for them."""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError
from onnx_oto.model.shapes.types import type_shape

Array: TypeAlias = npt.NDArray[Any]
Sizes: TypeAlias = Mapping[str, int]
"""The size of every open axis, by symbol."""

_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Slot:
    """One input that must be fed. A size is an int, or the symbol of an open axis (or arithmetic on symbols).

    An axis that the model does not name has the symbol `NAME[axis]`. words: what strings are drawn from.
    """

    name: str
    elem_type: int
    dims: tuple[int | str, ...]
    words: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of its values."""
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.elem_type))

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape at these sizes of the open axes; arithmetic below 1 gives 1."""
        return tuple(max(1, size_of(dim, sizes) or 1) for dim in self.dims)


def slots(model: onnx.ModelProto) -> tuple[Slot, ...]:
    """Return the inputs that must be fed. Raises UnsupportedError for what arrays cannot feed."""
    initializers = {t.name for t in model.graph.initializer}
    result = []
    for value in model.graph.input:
        if value.name in initializers:
            continue
        if not value.type.HasField("tensor_type"):
            raise UnsupportedError(f"input '{value.name}' is no tensor: random inputs cannot be made for it")
        kind = value.type.tensor_type
        words = words_of(model, value.name) if kind.elem_type == onnx.TensorProto.STRING else ()
        dims = (
            f"{value.name}[{axis}]" if size is None or size == 0 else size
            for axis, size in enumerate(type_shape(value.type) or ())
        )
        result.append(Slot(value.name, kind.elem_type, tuple(dims), words))
    return tuple(result)


def words_of(model: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """Return the strings that an input may hold: those that its readers list, else all that any node lists.

    So an encoder of categories meets what it knows; of a model that lists none, any strings will do.
    """
    readers = [node for node in model.graph.node if name in node.input]
    for nodes in (readers, model.graph.node):
        found = {
            text.decode("utf-8", "surrogateescape")
            for node in nodes
            for attr in node.attribute
            for text in itertools.islice(attr.strings, MOST_WORDS)
        }
        if found:
            return tuple(sorted(found))
    return ANY_WORDS


def open_axes(inputs: Sequence[Slot]) -> dict[str, bool]:
    """Return the symbols of open axes, and whether each seems to count samples.

    That is: it stands first in an input of several axes, or nothing else is open. A size such as "past + 1" is no
    axis of its own where 'past' is one.
    """
    plain = {dim for slot in inputs for dim in slot.dims if isinstance(dim, str)}
    found: dict[str, bool] = {}
    for slot in inputs:
        for axis, dim in enumerate(slot.dims):
            if isinstance(dim, str) and not _terms(dim, plain):
                found[dim] = found.get(dim, False) or (axis == 0 and len(slot.dims) > 1)
    for slot in inputs:  # a vector of lengths: one per sample
        if len(slot.dims) == 1 and any(found.values()) and slot.dims[0] in found:
            found[str(slot.dims[0])] = True
    return found


def sizes_of(inputs: Sequence[Slot], feed: Mapping[str, Array]) -> dict[str, int]:
    """Return the sizes that the open axes have in a feed."""
    axes = open_axes(inputs)
    found: dict[str, int] = {}
    for slot in inputs:
        for dim, size in zip(slot.dims, feed[slot.name].shape, strict=False):
            if dim in axes:
                found.setdefault(str(dim), size)
    return found


def size_of(dim: int | str | None, sizes: Sizes) -> int | None:
    """Return a size where the symbols have these sizes, None when it holds another symbol.

    >>> size_of("past + 2*n", {"past": 3, "n": 4}), size_of("n", {})
    (11, None)
    """
    if dim is None or isinstance(dim, int):
        return dim
    if dim in sizes:
        return sizes[dim]
    try:
        return _evaluate(ast.parse(dim, mode="eval").body, sizes)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError):
        return None


def _evaluate(node: ast.expr, sizes: Sizes) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_evaluate(node.left, sizes), _evaluate(node.right, sizes))
    return sizes[ast.unparse(node)]


def _terms(dim: str, plain: set[str]) -> bool:
    """Say whether a size is arithmetic on other open axes."""
    return size_of(dim, dict.fromkeys(plain - {dim}, 1)) is not None


MOST_WORDS = 1000
ANY_WORDS = ("a", "b", "one", "two")


class Feeder(Protocol):
    """Where the values of a feed come from."""

    def feed(self, sizes: Sizes, rng: np.random.Generator) -> dict[str, Array]:
        """Return one array per input at these sizes."""


@dataclass(frozen=True)
class Manner:
    """How random floats are drawn: normal, times `scale`; or their absolute values where `positive`."""

    name: str
    scale: float = 1.0
    positive: bool = False

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Array:
        """Return float64 values."""
        values = rng.standard_normal(shape) * self.scale
        return np.abs(values) + 1e-3 * self.scale if self.positive else np.asarray(values)


NORMAL = Manner("normal")
MANNERS = (
    NORMAL,
    Manner("positive", positive=True),
    Manner("small", 0.05),
    Manner("large", 20.0),
    Manner("tiny", 1e-3),
    Manner("huge", 400.0),
)
"""Tried in this order until outputs vary: logarithms want positive values, exponentials small ones, and what is
saturated, rounded or scaled down (pixels from 0 to 255) others again."""


@dataclass(frozen=True)
class Given:
    """Feeds cropped from examples: other sizes take the first values along an axis, or repeat them."""

    inputs: tuple[Slot, ...]
    examples: Mapping[str, Array]

    def feed(self, sizes: Sizes, rng: np.random.Generator) -> dict[str, Array]:
        """See `Feeder.feed`; nothing is random."""
        result = {}
        for slot in self.inputs:
            array = self.examples[slot.name]
            for axis, size in enumerate(slot.shape(sizes)):
                if size != array.shape[axis]:
                    array = array.take(np.arange(size), axis, mode="wrap")
            result[slot.name] = array
        return result


def random_inputs(
    model: onnx.ModelProto, rng: np.random.Generator, batch: int = 2, size: int | None = None
) -> dict[str, Array]:
    """Return one array per graph input: normal floats, integers 0 or 1, random booleans.

    Unknown first sizes become `batch`, other unknown ones `size` (equal symbols the same). size None: 224 for
    images (rank 4 and up), else 16.
    """
    bound: dict[str, int] = {}
    result = {}
    for slot in slots(model):
        for i, dim in enumerate(slot.dims):
            if isinstance(dim, str):
                bound.setdefault(dim, batch if i == 0 else size or (224 if len(slot.dims) >= 4 else 16))
        result[slot.name] = values(slot, slot.shape(bound), rng)
    return result


def values(
    slot: Slot,
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    manner: Manner = NORMAL,
    bounds: tuple[int, int] | None = None,
) -> Array:
    """Return random values of an input's type: integers within `bounds` (both included; 0 and 1 without).

    Floats are drawn in the given manner, or are whole numbers within `bounds` too; strings from the slot's words.
    """
    dtype = slot.dtype
    if slot.words:
        return np.asarray(rng.choice(np.asarray(slot.words), shape))
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu" or (bounds is not None and dtype.kind == "f"):
        low, high = bounds or (0, 1)
        return np.asarray(rng.integers(low, high, shape, endpoint=True), dtype)
    if dtype.kind == "c":
        return np.asarray(manner.draw(shape, rng) + 1j * manner.draw(shape, rng), dtype)
    return np.asarray(manner.draw(shape, rng), dtype)
