"""From a model to its dimensions and zero-invariant groups, and the choice of which to drop."""

from onnx_oto.settings import AnalysisOptions
from onnx_oto.zigs.analysis import Analysis, Dimension, Use, analyse
from onnx_oto.zigs.choose import Choice, choose
from onnx_oto.zigs.groups import Group, group_slices, zero_dropped
from onnx_oto.zigs.learning import Parameters, parameters, trainable
from onnx_oto.zigs.scores import SCORES, score
from onnx_oto.zigs.why import reason, why

__all__ = [
    "SCORES",
    "Analysis",
    "AnalysisOptions",
    "Choice",
    "Dimension",
    "Group",
    "Parameters",
    "Use",
    "analyse",
    "choose",
    "group_slices",
    "parameters",
    "reason",
    "score",
    "trainable",
    "why",
    "zero_dropped",
]
