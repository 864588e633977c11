"""One rule per operator: lanes, zero behaviour, recorded sizes, MACs. Nothing else in the package knows operators."""

from onnx_oto.ops import elementwise, index, linear, norm, pool, reduce, resample, views
from onnx_oto.ops.registry import RULES, apply

__all__ = ["RULES", "apply", "elementwise", "index", "linear", "norm", "pool", "reduce", "resample", "views"]
