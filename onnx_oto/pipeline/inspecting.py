"""`inspect`: the analysis under its public names."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict
from typing import Any

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.surgery import standing
from onnx_oto.zigs import Dimension
from onnx_oto.zigs import why as chain


def inspection(opened: Opened, why: str | None = None) -> dict[str, Any]:
    """Return what is prunable, what is frozen and why, and the channel permutations that a cut cannot fold.

    why: only dimensions that match this pattern, each with the chain of nodes that tie it to what froze it.
    """
    analysis = opened.analysis
    shown = [d for d in analysis.dimensions if why is None or _matches(d, why)]
    if why is not None and not shown:
        raise UsageError(f"--why '{why}' matches no dimension or parameter of the model")
    entries = [_dimension(d) for d in shown]
    if why is not None:
        for dimension, entry in zip(shown, entries, strict=True):
            entry["chain"] = chain(analysis, dimension)
    return {
        "schema": SCHEMA,
        "model": opened.path.name,
        "params": analysis.params,
        "macs": analysis.macs,
        "prunable_params": analysis.prunable_params,
        "lanes": sum(d.size for d in analysis.prunable),
        "dimensions": entries,
        "permutations": [asdict(each) for each in standing(analysis)],
    }


def _matches(dimension: Dimension, pattern: str) -> bool:
    names = (dimension.name, *(use.param for use in dimension.uses))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _dimension(dimension: Dimension) -> dict[str, Any]:
    return {
        "name": dimension.name,
        "size": dimension.size,
        "prunable": dimension.prunable,
        "reason": dimension.reason or None,
        "constraints": list(dimension.constraints),
        "uses": [{"param": u.param, "axis": u.axis, "role": u.role} for u in dimension.uses],
    }
