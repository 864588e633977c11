"""Operators that onnxruntime adds: domain com.microsoft, and a few in the standard domain."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims.table import Claimed, broadcast, foreign
from onnx_oto.model.shapes.claims.windows import conv_shape
from onnx_oto.model.shapes.dims import Dim, Shape, divide, multiply

MS = "com.microsoft"


@foreign(MS, "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "RotaryEmbedding", "Inverse", "Trilu")
@foreign(MS, "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax")
@foreign(MS, "QuantizeLinear", like=2)
@foreign(MS, "DequantizeLinear", like=1)
@foreign("", "SimplifiedLayerNormalization", "LayerNormalization")
def _as_input(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """The first output has the shape of the first input."""
    return [facts.shape(node, 0)]


@foreign(MS, "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_norm(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """Result, mean, inverse deviation, and the sum that was normalised."""
    return [facts.shape(node, 0), None, None, facts.shape(node, 0)]


@foreign(MS, "EmbedLayerNormalization", like=2, others={1: TensorProto.INT32})
def _embed(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """Result, how many tokens count (a place per sample), and the sum that was normalised."""
    tokens, words = facts.shape(node, 0), facts.shape(node, 2)
    if tokens is None or words is None:
        return [None]
    return [(*tokens, words[-1]), tokens[:1], (*tokens, words[-1])]


@foreign(MS, "GridSample")
def _grid_sample(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """[N, C, H, W] read at the places of a grid [N, height, width, 2]."""
    source, grid = facts.shape(node, 0), facts.shape(node, 1)
    if source is None or grid is None or len(source) != len(grid):
        return [None]
    return [(*source[:2], *grid[1:-1])]


@foreign(MS, "QLinearAdd", "QLinearMul")
def _quantized_pair(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    return [broadcast(facts.shape(node, 0), facts.shape(node, 3))]


@foreign(MS, "FusedConv")
def _fused_conv(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    return [conv_shape(node, facts)]


@foreign(MS, "FusedGemm")
def _fused_gemm(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    a, b = facts.shape(node, 0), facts.shape(node, 1)
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return [None]
    return [(a[1 if node.attrs.get("transA") else 0], b[0 if node.attrs.get("transB") else 1])]


@foreign(MS, "FusedMatMul", "TransposeMatMul", "DynamicQuantizeMatMul")
@foreign(MS, "MatMulIntegerToFloat", like=2)
def _fused_matmul(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """Matrices in the last two axes; `transBatch*` moves batch axes about and is left alone."""
    a, b = facts.shape(node, 0), facts.shape(node, 1)
    moved = node.attrs.get("transBatchA") or node.attrs.get("transBatchB")
    if a is None or b is None or len(a) < 2 or len(b) < 2 or moved:
        return [None]
    batch = broadcast(a[:-2], b[:-2]) or ()
    return [(*batch, a[-1 if node.attrs.get("transA") else -2], b[-2 if node.attrs.get("transB") else -1])]


@foreign(MS, "MatMulNBits")
def _few_bits(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    source = facts.shape(node, 0)
    return [None if not source else (*source[:-1], node.attrs.get("N"))]


@foreign(MS, "Attention")
def _attention(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """[batch, tokens, value size]: one weight [in, q + k + v] makes all three."""
    source, weight = facts.shape(node, 0), facts.shape(node, 1)
    if source is None or weight is None or len(source) != 3:
        return [None]
    parts = node.attrs.get("qkv_hidden_sizes") or []
    return [(*source[:2], parts[2] if len(parts) == 3 else divide(weight[-1], 3))]


@foreign(MS, "MultiHeadAttention")
def _multi_head(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """[batch, tokens, value size]; value as [b, t, h d] or [b, h, t, d], or packed as [b, t, h, 2 or 3, d]."""
    query, key, value = (facts.shape(node, position) for position in range(3))
    if query is None:
        return [None]
    packed = query if not node.input(1) else key if not node.input(2) else None
    width: Dim = None
    if packed is not None and len(packed) == 5:
        width = multiply(packed[2], packed[4])
    elif value is not None and len(value) == 4:
        width = multiply(value[1], value[3])
    elif value is not None and len(value) == 3:
        width = value[2]
    return [(*query[:2], width)]


@foreign(MS, "GroupQueryAttention")
def _grouped_query(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """[batch, tokens, query size], then the key and value caches [batch, groups, places, head size]."""
    query, heads, groups = facts.shape(node, 0), node.attrs.get("num_heads"), node.attrs.get("kv_num_heads")
    if query is None or len(query) != 3 or not heads or not groups:
        return [None]
    size = divide(query[2], heads if node.input(1) else heads + 2 * groups)
    cache = (query[0], groups, None, size)
    return [(*query[:2], multiply(size, heads)), cache, cache]
