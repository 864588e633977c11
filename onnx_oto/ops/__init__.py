"""One rule per operator: lanes, zero behaviour, recorded sizes, MACs. Nothing else in the package knows operators."""

from onnx_oto.ops import (
    attention,
    bodies,
    concat,
    contrib,
    einsum,
    elementwise,
    gather,
    index,
    linear,
    norm,
    pool,
    recurrent,
    reduce,
    resample,
    sample,
    scatter,
    views,
)
from onnx_oto.ops.rules import RULES, apply

__all__ = [
    "RULES",
    "apply",
    "attention",
    "bodies",
    "concat",
    "contrib",
    "einsum",
    "elementwise",
    "gather",
    "index",
    "linear",
    "norm",
    "pool",
    "recurrent",
    "reduce",
    "resample",
    "sample",
    "scatter",
    "views",
]
