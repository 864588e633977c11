"""Multiply-accumulates of models with open sizes, counted at sizes that are said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx_oto.model.implied import implied_sizes
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.model.shapes.types import type_shape
from onnx_oto.zigs.analysis import Analysis

IMAGE_SIZE, LENGTH = 224, 128
"""What open sizes other than the batch are counted as: of images (rank 4 and up), and of anything else."""
MOST_GROWTH = 1024
"""How many times as much they are taken as where some tensor would be empty (sound)."""


@dataclass(frozen=True)
class Macs:
    """How many multiply-accumulates, and at which open sizes: by symbol, or input and axis where none is given."""

    count: int
    at: Mapping[str, int] = field(default_factory=dict)


def count_macs(analysis: Analysis, at: Mapping[str, int] | None = None) -> Macs:
    """Return the multiply-accumulates of one sample of a model at open sizes `at` (None: as `stated_sizes` says)."""
    at = stated_sizes(analysis) if at is None else at
    return Macs(analysis.macs_at(symbol_sizes(analysis, at)), at)


def symbol_sizes(analysis: Analysis, at: Mapping[str, int]) -> dict[str, int]:
    """Return the open sizes by symbol, as the graph names them, of those by name for people."""
    return {symbol: at[name] for name, symbol, *_ in _open(analysis)}


def stated_sizes(analysis: Analysis) -> dict[str, int]:
    """Return a size for every open axis of the inputs: 1 for the first (the batch), else `IMAGE_SIZE` or `LENGTH`.

    What the graph says comes before that. Twice as much, and so on, where a tensor of the model would be empty then:
    of the axes that are not first, or, where that does not help, of all.
    """
    found: dict[str, int] = {}
    symbols: dict[str, str] = {}
    implied = implied_sizes(analysis.graph)
    later: set[str] = set()
    for name, symbol, axis, rank in _open(analysis):
        guess = (IMAGE_SIZE if rank >= 4 else LENGTH) if axis else 1
        found.setdefault(name, implied.get(symbol, guess))
        symbols[name] = symbol
        later.update([name] if axis else [])
    free = {name for name in found if symbols[name] not in implied}
    for grows in (later & free, free):
        sizes, growth = found, 1
        while growth < MOST_GROWTH:
            if not _is_empty(analysis, {symbols[name]: n for name, n in sizes.items()}):
                return sizes
            growth *= 2
            sizes = {name: 2 * size if name in grows else size for name, size in sizes.items()}
    return found


def _is_empty(analysis: Analysis, sizes: Mapping[str, int]) -> bool:
    """Return whether a tensor would have no elements."""
    at = Estimated(sizes, analysis.graph.about)
    every = {
        size for shape in analysis.graph.shapes.values() for size in shape or () if isinstance(size, str)
    }
    return any(value_at(size, at) <= 0 for size in every)


def _open(analysis: Analysis) -> list[tuple[str, str, int, int]]:
    """Return (name for people, symbol, axis, rank of the input) of every open axis of the inputs.

    An axis of which a file says -1 or "?" is open too, and has no name.
    """
    found = []
    for value in analysis.model.graph.input:
        shape = analysis.graph.shapes.get(value.name) or ()
        for axis, (given, size) in enumerate(zip(type_shape(value.type) or (), shape, strict=False)):
            if isinstance(size, str):
                name = given if isinstance(given, str) else f"{value.name}[{axis}]"
                found.append((name, size, axis, len(shape)))
    return found
