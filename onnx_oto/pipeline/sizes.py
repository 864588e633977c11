"""The sizes of what a model reads, from the data where it leaves them open."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnx_oto import data

OPEN_SIZE = 32
"""What open sizes besides the batch are taken as while nothing is known of the data."""

Patterns = Mapping[str, tuple[int | None, ...]]


def open_inputs(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of one sample, None for open sizes, of every input that leaves more than its first axis open."""
    patterns = {
        value.name: tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim)[1:]
        for value in model.graph.input
    }
    return {name: pattern for name, pattern in patterns.items() if None in pattern}


def sizes_of(patterns: Patterns, opening: data.Opening | None) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample of these inputs as the data have it, or a guess where nothing is known of them."""
    shapes = {name: tuple(size or OPEN_SIZE for size in sizes) for name, sizes in patterns.items()}
    if opening is not None:
        shapes.update(data.sample_shapes(opening.train, patterns))
    return shapes
