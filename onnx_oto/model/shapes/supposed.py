"""Shapes that nothing proves: stored value_info, and what a reader's weight says of the tensor it reads.

Behind an operator that nobody can infer (a foreign domain, a Loop) even the rank is unknown, and without a rank every
lane behind it stays. So such shapes are supposed, under four rules: only where inference gives nothing; sizes that two
tensors have in common only where the graph's inputs name them; a supposition that contradicts anything falls, and
inference starts again without it; no number that is only supposed is computed with (it would become a constant of
the normal form, which nothing compares with the original).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from onnx import ModelProto, TypeProto, ValueInfoProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.order import delete
from onnx_oto.model.shapes.dims import Shape
from onnx_oto.model.shapes.types import tensor_type, type_shape

Source: TypeAlias = tuple[str, str]
"""What was supposed: STORED, NEEDED or CARRIED (see `entered`), and of which tensor."""
Stored: TypeAlias = "Callable[[str], TypeProto | None]"
"""The type that the model file stores of a tensor, by name."""
STORED, NEEDED, CARRIED = "stored", "needed", "carried"


class Contradicted(Exception):
    """Raised when what was inferred with the help of `sources` contradicts the graph."""

    def __init__(self, sources: frozenset[Source]) -> None:
        super().__init__(sources)
        self.sources = sources


class Suppositions:
    """Which tensors' shapes rest on suppositions, and on which.

    banned: those that were contradicted. nothing: suppose nothing at all.
    """

    def __init__(self, stored: Stored, banned: Iterable[Source] = (), *, nothing: bool = False) -> None:
        self._stored = stored
        self._banned = frozenset(banned)
        self._nothing = nothing
        self._own: dict[str, list[Source]] = {}
        self._before: dict[str, tuple[str, ...]] = {}
        """By tensor: what is supposed of it, and the tensors that it was inferred from that rest on suppositions."""

    @property
    def tensors(self) -> frozenset[str]:
        """Return the tensors whose shapes rest on suppositions."""
        return frozenset(self._before)

    @property
    def used(self) -> frozenset[str]:
        """Return the tensors whose stored shapes were used."""
        return frozenset(name for sources in self._own.values() for kind, name in sources if kind == STORED)

    def under(self, name: str) -> bool:
        """Return whether the shape of a tensor rests on suppositions."""
        return name in self._before

    def of(self, *names: str) -> frozenset[Source]:
        """Return what the shapes of these tensors rest on."""
        found: set[Source] = set()
        waiting = [name for name in names if name in self._before]
        seen = set(waiting)
        while waiting:
            name = waiting.pop()
            found.update(self._own.get(name, ()))
            fresh = [source for source in self._before[name] if source not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return frozenset(found)

    def stored(self, name: str) -> TypeProto | None:
        """Return the type that the model file stores of a tensor, None if there is none to be used."""
        return self._stored(name) if self.allows(STORED, name) else None

    def allows(self, kind: str, name: str) -> bool:
        """Return whether a supposition was not contradicted yet."""
        return not self._nothing and (kind, name) not in self._banned

    def suppose(self, kind: str, name: str) -> None:
        """Remember that the shape of a tensor is supposed."""
        self._own.setdefault(name, []).append((kind, name))
        self._before.setdefault(name, ())

    def spread(self, node: Node) -> None:
        """Let the outputs of a node rest on what its inputs rest on."""
        if not self._before:
            return
        before = tuple(name for name in (*node.inputs, *node.captured) if name in self._before)
        if before:
            self._before.update((name, before) for name in node.outputs if name)


def stored_types(model: ModelProto) -> Stored:
    """Return what value_info says of tensors, by name, as far as it may be supposed.

    A named size stays if a graph input has that name too. If inputs have open sizes, a shape of numbers alone was
    written for one size of them: its rank is supposed, its numbers are not. It is read when it is asked for: of most
    tensors nobody asks.
    """
    sizes = [size for value in model.graph.input for size in type_shape(value.type) or (None,)]
    named = {size for size in sizes if isinstance(size, str)}
    is_open = any(not isinstance(size, int) for size in sizes)
    written: dict[str, list[ValueInfoProto]] = {}
    for value in model.graph.value_info:
        written.setdefault(value.name, []).append(value)

    def stored(name: str) -> TypeProto | None:
        for value in reversed(written.get(name, [])):
            shape, kind = type_shape(value.type), value.type.tensor_type.elem_type
            if shape is None or not kind:
                continue
            numbers = not is_open or any(not isinstance(size, int) for size in shape)
            kept = (size if size in named or (numbers and isinstance(size, int)) else None for size in shape)
            return tensor_type(kind, tuple(kept))
        return None

    return stored


def keep_stored(model: ModelProto, names: Iterable[str]) -> None:
    """Drop the value_info of every tensor but these, in place."""
    wanted = set(names)
    stored = model.graph.value_info
    delete(stored, [index for index, value in enumerate(stored) if value.name not in wanted])


def typed_names(model: ModelProto) -> Iterator[str]:
    """Yield the tensors of the main graph of which a model that onnx inferred knows the rank."""
    for value in model.graph.value_info:
        kind = value.type
        if not kind.HasField("tensor_type") or kind.tensor_type.HasField("shape"):
            yield value.name


def without(shapes: Mapping[str, Shape | None], names: Iterable[str]) -> dict[str, Shape | None]:
    """Return shapes without those of some tensors."""
    gone = set(names)
    return {name: shape for name, shape in shapes.items() if name not in gone}
