"""Prunable lanes as numbered ZIGs, for optimizers that know neither names nor graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.layout import IntArray
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.groups import Group, group_slices

Slices = Mapping[str, tuple[int, tuple[int, ...]]]
Entry = tuple[int, int, int, int, npt.NDArray[np.int32], bool]

_NORMS = frozenset(
    {"BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"}
)
"""Operators whose second input multiplies what they normalised."""


def zig_blocks(
    analysis: Analysis, slices: Slices, beside: Mapping[str, Sequence[str]] | None = None
) -> tuple[list[Entry], IntArray]:
    """Return (offset, outer, size, inner, zigs int32 [size], is scale) per producing parameter axis, and ZIGs' lanes.

    slices: parameter -> (offset in the flat buffer, shape). A parameter seen as [outer, size, inner] in C order
    has ZIG zigs[i] (or -1: none) at index i of the middle axis. It is a scale if a norm multiplies by it. lanes: int64
    [K], the lane of every ZIG. beside: by parameter the scales, of its shape, that the analysis does not know and that
    belong to the same ZIGs.
    """
    parts = [d.lanes for d in analysis.prunable]
    lanes = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    of_lane = np.full(analysis.lanes.count, -1, np.int32)
    of_lane[lanes] = np.arange(lanes.size, dtype=np.int32)
    scales = {node.inputs[1] for node in analysis.graph.nodes if node.op in _NORMS and len(node.inputs) > 1}
    entries: list[Entry] = []
    for piece in group_slices(analysis):
        zigs = of_lane[piece.lanes]
        if (zigs < 0).all():
            continue
        params = {
            piece.param: piece.param in scales,
            **dict.fromkeys((beside or {}).get(piece.param, ()), True),
        }
        entries.extend(
            _entry(piece, *slices[param], zigs, is_scale)
            for param, is_scale in params.items()
            if param in slices
        )
    return entries, lanes


def _entry(
    piece: Group, offset: int, shape: tuple[int, ...], zigs: npt.NDArray[np.int32], is_scale: bool
) -> Entry:
    begin, end, _ = piece.rows.indices(shape[0] if shape else 1)
    offset += begin * int(np.prod(shape[1:], dtype=np.int64))
    shape = (end - begin, *shape[1:])
    outer = int(np.prod(shape[: piece.axis], dtype=np.int64))
    inner = int(np.prod(shape[piece.axis + 1 :], dtype=np.int64))
    return offset, outer, shape[piece.axis], inner, zigs, is_scale


def lane_scores(
    analysis: Analysis, lanes: IntArray, scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return scores by lane, float64 [lanes], from scores by ZIG."""
    result = np.zeros(analysis.lanes.count)
    result[lanes] = scores
    return result
