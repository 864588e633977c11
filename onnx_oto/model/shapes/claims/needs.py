"""What an operator says of the tensor it reads first: the rank and sizes that its weight or attributes ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims.table import Claimed
from onnx_oto.model.shapes.dims import Shape, multiply

Need: TypeAlias = "Callable[[Node, Claimed], Shape | None]"
NEEDS: dict[tuple[str, str], Need] = {}
"""Rules by (domain, operator)."""
MS = "com.microsoft"


def needs(domain: str, *ops: str) -> Callable[[Need], Need]:
    """Register what these operators need their first input to be; None in it: any size."""

    def register(function: Need) -> Need:
        NEEDS.update({(domain, op): function for op in ops})
        return function

    return register


def needed(node: Node, facts: Claimed) -> Shape | None:
    """Return what the first input of a node must be, None where it may have any rank."""
    rule = NEEDS.get((node.domain, node.op))
    return None if rule is None else rule(node, facts)


@needs("", "Conv")
@needs(MS, "FusedConv")
def _conv(node: Node, facts: Claimed) -> Shape | None:
    """[N, C, ...] for a weight [O, C / groups, ...]"""
    weight = facts.shape(node, 1)
    if weight is None or len(weight) < 2:
        return None
    return None, multiply(weight[1], node.attrs.get("group", 1)), *(None,) * (len(weight) - 2)


@needs("", "ConvTranspose")
def _conv_transpose(node: Node, facts: Claimed) -> Shape | None:
    """[N, C, ...] for a weight [C, O / groups, ...]"""
    weight = facts.shape(node, 1)
    return None if weight is None or len(weight) < 2 else (None, weight[0], *(None,) * (len(weight) - 2))


@needs("", "Gemm")
@needs(MS, "FusedGemm")
def _gemm(node: Node, facts: Claimed) -> Shape | None:
    """[m, k] or, transposed, [k, m]"""
    weight = facts.shape(node, 1)
    if weight is None or len(weight) != 2:
        return None
    size = weight[1 if node.attrs.get("transB") else 0]
    return (size, None) if node.attrs.get("transA") else (None, size)


@needs("", "LSTM", "GRU", "RNN")
def _recurrent(node: Node, facts: Claimed) -> Shape | None:
    """[steps, batch, inputs] for a weight [directions, gates, inputs]"""
    weight = facts.shape(node, 1)
    return None if weight is None or len(weight) != 3 else (None, None, weight[2])


@needs(MS, "Attention")
def _attention(node: Node, facts: Claimed) -> Shape | None:
    """[batch, tokens, inputs] for a weight [inputs, all heads]"""
    weight = facts.shape(node, 1)
    return None if weight is None or len(weight) != 2 else (None, None, weight[0])


@needs("", "MaxPool", "AveragePool", "LpPool")
def _pool(node: Node, facts: Claimed) -> Shape | None:
    """[N, C, ...] with as many axes behind as the window has."""
    kernel = node.attrs.get("kernel_shape")
    return None if kernel is None else (None,) * (len(kernel) + 2)


@needs("", "DepthToSpace", "SpaceToDepth", "MaxRoiPool", "RoiAlign")
def _map(node: Node, facts: Claimed) -> Shape | None:
    """[N, C, H, W]"""
    return (None,) * 4


@needs("", "Transpose")
def _transpose(node: Node, facts: Claimed) -> Shape | None:
    """As many axes as are permuted."""
    order = node.attrs.get("perm")
    return None if order is None else (None,) * len(order)
