"""Operators that training cannot pass through, each with the reason and the way out."""

from __future__ import annotations

from onnx_oto.gradients.graph.lowering.lowerings import refuse

refuse(
    "its body is a graph of its own, which training enters in loops of few, known trips alone: export the model with "
    "fixed lengths and branches, or leave what feeds it untrained",
    *("If", "Loop", "Scan", "SequenceMap"),
)
refuse(
    "training knows tensors, no sequences and optional values: use Concat, Split and Gather instead",
    *(
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceInsert",
        "SequenceErase",
        "SequenceAt",
        "SplitToSequence",
    ),
    *("ConcatFromSequence", "Optional", "OptionalGetElement"),
)
refuse(
    "a quantised model is not trained: train the float model and quantise the result",
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
    *("com.microsoft::DynamicQuantizeLSTM", "com.microsoft::DynamicQuantizeMatMul"),
    *("com.microsoft::MatMulIntegerToFloat", "com.microsoft::MatMulNBits", "com.microsoft::DequantizeLinear"),
)
refuse(
    "reading regions has no gradient here: read them by GridSample, or leave what feeds it untrained",
    *("RoiAlign", "MaxRoiPool"),
)
refuse(
    "a spectrum has no gradient here: write it as MatMul with its cosines and sines (Conv for a short-time one), or "
    "leave what feeds it untrained",
    *("DFT", "STFT"),
)
refuse(
    "what stands in ai.onnx.ml has no gradient: train what follows it, or a network in its place",
    *("ai.onnx.ml::TreeEnsemble", "ai.onnx.ml::TreeEnsembleClassifier", "ai.onnx.ml::TreeEnsembleRegressor"),
    *("ai.onnx.ml::SVMClassifier", "ai.onnx.ml::SVMRegressor"),
)
refuse(
    "a deformable convolution has no gradient here: read by GridSample and multiply, or use a plain Conv",
    "DeformConv",
)
refuse(
    "a determinant has no gradient here: write it out for small matrices, or leave what feeds it untrained",
    "Det",
)
refuse(
    "the size of its output depends on its values: leave what feeds it untrained, or use another operator",
    "Unique",
)
refuse("it draws at random: put its probabilities in its place, or a Dropout", "Bernoulli")
refuse("its numbers would depend on what is trained: make them constants", "MelWeightMatrix")
refuse("its length would depend on what is trained: make its bounds constants", "Range")
