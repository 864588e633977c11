"""Operators that training cannot pass through, each with the reason and the way out."""

from __future__ import annotations

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.registry import Outcome, Site, key, register

_CONTROL = (
    "its body is a graph of its own, which training does not enter: export the model with fixed lengths and "
    "branches, or leave what feeds it untrained"
)
_SEQUENCE = "training knows tensors, no sequences and optional values: use Concat, Split and Gather instead"
_QUANTISED = "a quantised model is not trained: train the float model and quantise the result"
_REGIONS = "reading regions has no gradient here: read them by GridSample, or leave what feeds it untrained"
_SPECTRUM = (
    "a spectrum has no gradient here: write it as MatMul with its cosines and sines (Conv for a short-time one), "
    "or leave what feeds it untrained"
)
_TREES = "what stands in ai.onnx.ml has no gradient: train what follows it, or a network in its place"

REASONS: dict[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _CONTROL),
    **dict.fromkeys(
        (
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceInsert",
            "SequenceErase",
            "SequenceAt",
            "SplitToSequence",
        ),
        _SEQUENCE,
    ),
    **dict.fromkeys(("ConcatFromSequence", "Optional", "OptionalGetElement"), _SEQUENCE),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
        _QUANTISED,
    ),
    **dict.fromkeys(
        (
            "com.microsoft::DynamicQuantizeLSTM",
            "com.microsoft::DynamicQuantizeMatMul",
            "com.microsoft::MatMulIntegerToFloat",
            "com.microsoft::MatMulNBits",
            "com.microsoft::DequantizeLinear",
        ),
        _QUANTISED,
    ),
    **dict.fromkeys(("RoiAlign", "MaxRoiPool"), _REGIONS),
    **dict.fromkeys(("DFT", "STFT"), _SPECTRUM),
    **dict.fromkeys(
        (
            "ai.onnx.ml::TreeEnsemble",
            "ai.onnx.ml::TreeEnsembleClassifier",
            "ai.onnx.ml::TreeEnsembleRegressor",
            "ai.onnx.ml::SVMClassifier",
            "ai.onnx.ml::SVMRegressor",
        ),
        _TREES,
    ),
    "Det": "a determinant has no gradient here: write it out for small matrices, or leave what feeds it untrained",
    "DeformConv": "a deformable convolution has no gradient here: read by GridSample and multiply, or use a plain Conv",
    "Unique": "the size of its output depends on its values: leave what feeds it untrained, or use another operator",
    "Bernoulli": "it draws at random: put its probabilities in its place, or a Dropout",
    "MelWeightMatrix": "its numbers would depend on what is trained: make them constants",
    "Range": "its length would depend on what is trained: make its bounds constants",
}


@register(*REASONS)
def refused(node: Site) -> Outcome:
    """Not trained."""
    raise UnsupportedError(REASONS[key(node.proto)])
