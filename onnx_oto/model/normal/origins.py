"""What the initializers of a normal form were in the model file: the same, a copy, or moved about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto

from onnx_oto.model.graph.node import read_node
from onnx_oto.model.shapes.reference import evaluate_constant

_MOVING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Expand", "Tile"})
_PLACEWISE = frozenset({"Cast", "CastLike", "Identity", "Mul", "Div", "Neg"})


@dataclass(frozen=True, eq=False)
class Origin:
    """The tensor of the file that an initializer came from.

    index: int64, the shape of the initializer: which element of the flattened origin stands where. None: the
    initializer is the origin itself or a copy. folded: it was computed from it (normalised, say) and has its place.
    apart: it only had the same values: one parameter of the file stands for several.
    """

    name: str
    index: np.ndarray | None = None
    folded: bool = False
    apart: bool = False


@dataclass(frozen=True, eq=False)
class Tie:
    """Initializers that hold the same parameter. elements: int64 [n], for every element of all of them, one after the
    other, which element of the parameter it is.
    """

    names: tuple[str, ...]
    elements: np.ndarray


@dataclass
class Origins:
    """Origins by the name of the initializer; a name that is missing is its own origin.

    computed: what the file computes from constants, as a model of its own (see `model.normal.folded`).
    """

    found: dict[str, Origin] = field(default_factory=dict)
    computed: ModelProto | None = None

    def of(self, name: str) -> Origin:
        """Return where an initializer came from."""
        return self.found.get(name, Origin(name))

    def copied(self, copy: str, name: str, *, apart: bool = False) -> None:
        """Remember that an initializer was copied or renamed. apart: see `Origin`."""
        origin = self.of(name)
        self.found[copy] = Origin(origin.name, origin.index, origin.folded, apart or origin.apart)

    def tied(self, sizes: Mapping[str, int]) -> tuple[Tie, ...]:
        """Return which elements of several initializers are one parameter of the file.

        sizes: of the initializers to look at, in elements. A copy is its origin, and so is what was moved about or
        looked up in it (then one initializer alone may hold an element several times). What was computed from a
        parameter is another one.
        """
        groups: dict[str, list[tuple[str, np.ndarray]]] = {}
        for name, size in sizes.items():
            origin = self.of(name)
            if not origin.folded and not origin.apart:
                index = np.arange(size) if origin.index is None else origin.index.reshape(-1)
                groups.setdefault(origin.name, []).append((name, index))
        ties = (
            Tie(tuple(n for n, _ in group), np.concatenate([i for _, i in group]))
            for group in groups.values()
        )
        return tuple(tie for tie in ties if np.unique(tie.elements).size < tie.elements.size)

    def folded(self, name: str, source: str) -> None:
        """Remember that an initializer, now called `name`, was computed from an initializer of its size."""
        origin = self.of(source)
        self.found[name] = Origin(origin.name, origin.index, folded=True, apart=origin.apart)

    def moved(self, node: NodeProto, values: Mapping[str, np.ndarray], opsets: Mapping[str, int]) -> None:
        """Follow the initializer of the result's size through a node that moves its elements or computes from them.

        values: of all initializers that the node reads, and of its output.
        """
        inputs = [values.get(name) for name in node.input]
        large = [i for i, value in enumerate(inputs) if value is not None and value.size > 1]
        plain = not node.domain and len(node.output) == 1
        result = values.get(node.output[0]) if plain else None
        if result is None or result.dtype.kind not in "fV" or not large:
            return
        same = [i for i in large if inputs[i].shape == result.shape]  # type: ignore[union-attr]
        index: np.ndarray | None = None
        if node.op_type in _MOVING and large[0] == 0:
            read, computed = 0, False
            places = self._places(node.input[0], inputs[0])
            index = (evaluate_constant(read_node(node, 0, opsets), [places, *inputs[1:]]) or [None])[0]
            if index is not None and np.unique(index).size < np.unique(places).size:
                index = None  # some of it is lost
        elif len(same) == 1:
            read, computed = same[0], node.op_type not in _PLACEWISE or len(large) > 1
            index = self._places(node.input[read], inputs[read])
        if index is not None and index.shape == result.shape:
            origin = self.of(node.input[read])
            apart = origin.apart or _was_merged(result, index)
            self.found[node.output[0]] = Origin(origin.name, index, origin.folded or computed, apart)

    def _places(self, name: str, value: np.ndarray | None) -> np.ndarray:
        shape = () if value is None else value.shape
        index = self.of(name).index
        return np.arange(int(np.prod(shape))).reshape(shape) if index is None else index


def _was_merged(values: np.ndarray, index: np.ndarray) -> bool:
    """Say whether a tensor that was moved about is what exporters merge (see `private_vectors`), each element once."""
    return bool(
        sum(size > 1 for size in values.shape) == 1
        and (values == values.flat[0]).all()
        and np.unique(index).size == index.size
    )
