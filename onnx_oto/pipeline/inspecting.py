"""`inspect`: the analysis under its public names."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict
from typing import Any

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.lanes.quantized import quantized_weights
from onnx_oto.pipeline.kept import positions
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.surgery import standing
from onnx_oto.zigs import Analysis, Dimension, Use, choose, reason
from onnx_oto.zigs import why as chain
from onnx_oto.zigs.analysis import kept_elements
from onnx_oto.zigs.cost import count_macs

MOST = 1 - 1e-9
"""The largest share that can be asked for: one lane of every dimension and group stays."""


def inspection(opened: Opened, why: str | None = None) -> dict[str, Any]:
    """Return what is prunable, what is frozen and why, quantized weights, and permutations that a cut cannot fold.

    why: only dimensions that match this pattern, each with the chain of nodes that tie it to what froze it.
    """
    analysis = opened.analysis
    shown = [d for d in analysis.dimensions if why is None or _matches(d, why)]
    if why is not None and not shown:
        raise UsageError(f"--why '{why}' matches no dimension or parameter of the model")
    macs = count_macs(analysis)
    entries = [_dimension(opened, d) for d in shown]
    if why is not None:
        for dimension, entry in zip(shown, entries, strict=True):
            entry["chain"] = chain(analysis, dimension)
    return {
        "schema": SCHEMA,
        "model": opened.path.name,
        "params": analysis.params,
        "macs": macs.count,
        "macs_at": dict(macs.at),
        "prunable_params": analysis.prunable_params,
        "removable_params": _removable(analysis),
        "lanes": sum(d.size for d in analysis.prunable),
        "dimensions": entries,
        "quantized": quantized_weights(analysis.graph),
        "permutations": [asdict(each) for each in standing(analysis)],
        "notes": list(opened.notes),
    }


def _removable(analysis: Analysis) -> int:
    """Return how many parameter elements go when every dimension loses all the lanes that it may lose."""
    choice = choose(analysis, np.zeros(analysis.lanes.count), MOST)
    everything = kept_elements(analysis, np.ones(analysis.lanes.count, bool))
    kept = kept_elements(analysis, ~choice.drop)
    return sum(count - kept[name] for name, count in everything.items() if name not in analysis.statistics)


def _matches(dimension: Dimension, pattern: str) -> bool:
    names = (dimension.name, *(use.param for use in dimension.uses))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _dimension(opened: Opened, dimension: Dimension) -> dict[str, Any]:
    return {
        "name": dimension.name,
        "size": dimension.size,
        "prunable": dimension.prunable,
        "reason": reason(opened.analysis, dimension) or None,
        "constraints": list(dimension.constraints),
        "uses": [_use(opened, dimension, use) for use in dimension.uses],
    }


def _use(opened: Opened, dimension: Dimension, use: Use) -> dict[str, Any]:
    """Return an axis of a parameter, and which index of it belongs to which lane of the dimension, if they can go.

    origin: the tensor of the model file, where normal form has renamed, copied or moved it.
    """
    entry: dict[str, Any] = {"param": use.param, "axis": use.axis, "role": use.role}
    if dimension.prunable:
        entry["positions"] = positions(opened, use.param, use.axis, dimension.lanes)
    origin = opened.origins.of(use.param)
    if origin.name != use.param:
        entry["origin"] = origin.name
    return entry
