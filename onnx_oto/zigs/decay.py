"""Which parameters weight decay is not for: norms and biases, by how nodes read them and not by their names."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_oto.model.view import Graph
from onnx_oto.zigs.analysis import Analysis

_WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "TransposeMatMul", "FusedGemm"), (0, 1)),
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv", "FusedConv"), (1,)),
    "Attention": (1,),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Einsum": tuple(range(8)),
    "Gather": (0,),
}
"""Inputs that are multiplied and summed over, or looked up in, by operator."""
_VECTORS = {"LSTM": (3, 7), "GRU": (3,), "RNN": (3,)}
"""Inputs of recurrent operators that hold a vector for each direction: biases and peepholes."""
_MOVING = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Identity"})


def undecayed(analysis: Analysis) -> frozenset[str]:
    """Return the parameters that are scalars or vectors in their role.

    Biases, scales and shifts of norms, slopes: at most one axis is longer than 1, wherever it stands ([C], [C, 1, 1],
    [1, C]). Weights of layers are not among them, even those of a single input or output; nor are embeddings and
    position tables. Of what several nodes read, one that reads a weight decides.
    """
    reads = list(_reads(analysis.graph))
    weights = {name for name, op, index in reads if index in _WEIGHTS.get(op, ())}
    vectors = {name for name, op, index in reads if index in _VECTORS.get(op, ())}
    return frozenset(
        name
        for name, tensor in analysis.graph.initializers.items()
        if name not in weights and (name in vectors or sum(size > 1 for size in tensor.dims) <= 1)
    )


def _reads(view: Graph) -> Iterator[tuple[str, str, int]]:
    """Yield the parameter, operator and input index of every read, also of a parameter that was moved about before."""
    source = {name: name for name in view.initializers}
    for node in view.nodes:
        for index, name in enumerate(node.inputs):
            if name in source:
                yield source[name], node.op, index
        if node.op in _MOVING and node.inputs[0] in source:
            source[node.outputs[0]] = source[node.inputs[0]]
