"""Which ops ONNX Runtime 1.19.2 differentiates rightly after lowering; tests prove every entry."""

from __future__ import annotations

_ELEMENTWISE = """
    Abs Add Cast Clip Cos Div Erf Exp Identity Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid Sin
    Sqrt Sub Tanh Where
"""
_LAYERS = """
    AveragePool BatchNormalization Conv Gemm GlobalAveragePool LayerNormalization LogSoftmax MatMul MaxPool
    Softmax SoftmaxCrossEntropyLoss
"""
_REDUCTIONS = "ReduceLogSumExp ReduceMean ReduceSum TopK"
_MOVES = """
    Concat Expand Flatten Gather GatherElements GatherND Pad Reshape ScatterElements ScatterND Slice Split
    Squeeze Tile Transpose Trilu Unsqueeze
"""

DIFFERENTIABLE = frozenset(f"{_ELEMENTWISE} {_LAYERS} {_REDUCTIONS} {_MOVES}".split())
