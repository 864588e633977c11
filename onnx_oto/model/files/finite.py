"""Weights that are no finite numbers: what a model file holds of them, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_oto.model.graph.constants import constants
from onnx_oto.model.graph.order import graphs
from onnx_oto.model.graph.tensors import FLOATS, is_external, to_array

_BLOCK = 1 << 20
MOST_NAMED = 3


def count_not_finite(model: ModelProto) -> dict[str, int]:
    """Return how many values of each floating-point constant, in bodies too, are NaN or infinite; none: left out.

    What is not loaded is not looked at. A mask, of 0 and -inf alone, is meant so.
    """
    found: dict[str, int] = {}
    for tensor in (tensor for graph in graphs(model.graph) for tensor in constants(graph)):
        count = _not_finite(tensor)
        if count:
            found[tensor.name] = found.get(tensor.name, 0) + count
    return found


def _not_finite(tensor: TensorProto) -> int:
    if tensor.data_type not in FLOATS or is_external(tensor):
        return 0
    values = to_array(tensor).reshape(-1)
    count, is_mask = 0, True
    for begin in range(0, values.size, _BLOCK):
        with np.errstate(invalid="ignore"):  # a signalling NaN
            block = values[begin : begin + _BLOCK].astype(np.float64)
        count += int(np.count_nonzero(~np.isfinite(block)))
        is_mask = is_mask and bool(((block == 0) | np.isneginf(block)).all())
    return 0 if is_mask else count


def told_not_finite(found: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence about what `count_not_finite` found, none if it found nothing."""
    if not found:
        return ()
    listed = ", ".join(f"{count} of '{name}'" for name, count in list(found.items())[:MOST_NAMED])
    rest = len(found) - MOST_NAMED
    more = f" and of {rest} more" if rest > 0 else ""
    return (
        f"values that are NaN or infinite: {listed}{more}; where outputs of both models are so at the same places, "
        "they count as equal",
    )
