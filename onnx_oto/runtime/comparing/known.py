"""What inference knows of a model that is to be run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx

from onnx_oto.errors import ModelError
from onnx_oto.model import Graph, graph, normalise
from onnx_oto.model.graph.tensors import bits_per_element
from onnx_oto.model.implied import implied_sizes
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.runtime.comparing.inputs import Sizes, Slot


@dataclass(frozen=True)
class Known:
    """A model as analysis sees it. axes: the names of open axes (see `Slot`), by the symbols of its sizes."""

    view: Graph
    axes: Mapping[str, str]

    @cached_property
    def _sizes(self) -> list[str]:
        every = (size for shape in self.view.shapes.values() for size in shape or ())
        return list(dict.fromkeys(size for size in every if isinstance(size, str)))

    def is_empty(self, sizes: Sizes) -> bool:
        """Say whether some tensor would have no elements: kernels that divide by a size bring the process down then."""
        at = self._at(sizes)
        return any(value_at(size, at) <= 0 for size in self._sizes)

    def largest(self, sizes: Sizes) -> int:
        """Return the bytes of the largest tensor at these sizes, as far as its shape is known."""
        at = self._at(sizes)
        known = {size: max(value_at(size, at), 1) for size in self._sizes}
        return max(
            (
                bits * math.prod(known[size] if isinstance(size, str) else size for size in shape) // 8
                for shape, bits in self._shapes
            ),
            default=0,
        )

    @cached_property
    def _shapes(self) -> list[tuple[tuple[int | str, ...], int]]:
        """Every shape that holds an open size, once, with the bits of an element."""
        found: dict[tuple[int | str, ...], int] = {}
        for name, shape in self.view.shapes.items():
            if shape and None not in shape and any(isinstance(size, str) for size in shape):
                key = tuple(size for size in shape if size is not None)
                kind = self.view.dtypes.get(name)
                found[key] = max(found.get(key, 0), bits_per_element(kind) if kind else 0)
        return list(found.items())

    def implied(self) -> dict[str, int]:
        """Return the sizes of open axes that the graph says (see `implied_sizes`)."""
        found = implied_sizes(self.view)
        return {axis: found[symbol] for symbol, axis in self.axes.items() if symbol in found}

    def _at(self, sizes: Sizes) -> Estimated:
        named = {symbol: sizes[axis] for symbol, axis in self.axes.items() if axis in sizes}
        return Estimated(named, self.view.about)


def look_at(model: onnx.ModelProto, inputs: Sequence[Slot]) -> Known | None:
    """Return what is known of a model, in normal form or not; None where it cannot be read. It is not modified."""
    try:
        is_raw = model.functions or any(node.op_type == "Constant" for node in model.graph.node)
        view = graph(normalise(model) if is_raw else model)
    except ModelError:  # a runtime may take it all the same
        return None
    return known_of(view, inputs)


def known_of(view: Graph, inputs: Sequence[Slot]) -> Known:
    """Return what is known of a model that was looked at already."""
    pairs = [pair for slot in inputs for pair in zip(view.shape(slot.name) or (), slot.dims, strict=False)]
    axes = {size: dim for size, dim in pairs if isinstance(size, str) and isinstance(dim, str)}
    return Known(view, axes)
