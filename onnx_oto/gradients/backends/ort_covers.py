"""What ONNX Runtime 1.19.2 differentiates rightly, op by op; tests and `tools/gradients` prove every entry.

The rest it has no gradient for, or a wrong one: silently off, of another shape, or written behind its memory.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from onnx_oto.gradients.backends.conditions import reduces_unknown_axes, trains_bounds
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node, read_node

_ELEMENTWISE = (
    "Abs Add Cast Cos Div Erf Exp Identity Log Max Min Mul Neg Reciprocal Relu Sigmoid Sin Sqrt Sub Tanh"
)
_LAYERS = "GlobalAveragePool LogSoftmax Softmax SoftmaxCrossEntropyLoss TopK"
_MOVES = """
    Concat Expand Flatten Gather GatherElements GatherND Reshape Squeeze Tile Trilu Unsqueeze
"""
ALWAYS = frozenset(f"{_ELEMENTWISE} {_LAYERS} {_MOVES}".split())
"""Ops that are differentiated rightly in every form."""

Condition = Callable[[Node, Facts], str | None]
CONDITIONS: dict[str, Condition] = {}
"""Ops that are differentiated rightly in some forms: what is wrong with a node, None for nothing."""


def covers(node: onnx.NodeProto, facts: Facts) -> str | None:
    """Return why the gradient of a node as it stands would be missing or wrong, None when it is right."""
    seen = read_node(node, 0, {})
    op = f"{seen.domain}::{seen.op}" if seen.domain else seen.op
    if op in ALWAYS:
        return None
    if op not in CONDITIONS:
        return "training has no gradient for this op; leave what feeds it untrained, or replace it"
    return CONDITIONS[op](seen, facts)


def differentiable() -> frozenset[str]:
    """Return the ops that are differentiated rightly in some form at least."""
    return ALWAYS | CONDITIONS.keys()


def _condition(*ops: str) -> Callable[[Condition], Condition]:
    def enter(function: Condition) -> Condition:
        CONDITIONS.update((op, function) for op in ops)
        return function

    return enter


@_condition("Conv")
def _conv(node: Node, facts: Facts) -> str | None:
    """its pads are written out and it is 2-D, or 1-D without groups, strides and dilations

    Not wrong, but slow: 3-D ones take two to three times as long as sums of 2-D ones, forward and back (15 instead of
    43 ms for [4, 32, 8, 16, 16] with a kernel of 3 and 32 filters, one thread), 1-D ones with dilations 1.6 times.
    """
    kernel = node.attrs.get("kernel_shape") or facts.shapes.get(node.input(1), ())[2:]
    if len(kernel) == 2:
        return _padded_by_name(node)
    if node.attrs.get("group", 1) != 1:
        return "the gradient of a grouped 1-D or 3-D convolution writes behind its memory"
    steps = (*node.attrs.get("strides", ()), *node.attrs.get("dilations", ()))
    if len(kernel) != 1 or any(step != 1 for step in steps):
        return "its gradient is slower than that of 2-D convolutions"
    return _padded_by_name(node)


@_condition("Gelu")
def _gelu(node: Node, facts: Facts) -> str | None:
    """it is the exact one"""
    if node.attrs.get("approximate", b"none") not in (b"none", "none"):
        return "the gradient is that of the exact one"
    return None


@_condition("MaxPool")
def _max_pool(node: Node, facts: Facts) -> str | None:
    """its pads are written out and smaller than its kernel, its indices in row-major order"""
    if node.attrs.get("storage_order", 0):
        return "the gradient takes its indices for row-major ones"
    kernel = node.attrs["kernel_shape"]
    if node.attrs.get("ceil_mode", 0) and _has_empty_window(node, facts):
        return _EMPTY_WINDOW
    if any(pad >= k for pad, k in zip(node.attrs.get("pads", ()), kernel * 2, strict=False)):
        return "the runtime refuses pads as large as the kernel"
    return _padded_by_name(node)


@_condition("AveragePool")
def _average_pool(node: Node, facts: Facts) -> str | None:
    """1-D or 2-D, its pads are written out, it is not dilated, and has not both ceil_mode and count_include_pad"""
    if len(node.attrs["kernel_shape"]) > 2:
        return "the gradient of a 3-D AveragePool is wrong"
    if any(step != 1 for step in node.attrs.get("dilations", ())):
        return "the gradient ignores its dilations"
    if node.attrs.get("ceil_mode", 0) and _has_empty_window(node, facts):
        return _EMPTY_WINDOW
    if node.attrs.get("ceil_mode", 0) and node.attrs.get("count_include_pad", 0):
        return "windows that ceil_mode lets reach beyond the pads are divided by the whole kernel"
    return _padded_by_name(node)


_EMPTY_WINDOW = "ceil_mode adds a window that lies in the pads altogether"


def _has_empty_window(node: Node, facts: Facts) -> bool:
    """Return whether the last window of an axis starts behind its end, or may do so."""
    size, out = (facts.shapes.get(name, ())[2:] for name in (node.input(0), node.outputs[0]))
    if not size or not out:
        return True
    steps, pads = (
        node.attrs.get(key, [default] * len(size)) for key, default in (("strides", 1), ("pads", 0))
    )
    return any((o - 1) * s >= n + p for n, o, s, p in zip(size, out, steps, pads, strict=False))


def _padded_by_name(node: Node) -> str | None:
    return None if node.attrs.get("auto_pad", "NOTSET") == "NOTSET" else "the gradient ignores its auto_pad"


@_condition("BatchNormalization")
def _batch_normalization(node: Node, facts: Facts) -> str | None:
    """it takes the statistics of the batch"""
    return None if node.attrs.get("training_mode", 0) else "the gradient takes it for one of batch statistics"


@_condition("LayerNormalization")
def _layer_normalization(node: Node, facts: Facts) -> str | None:
    """it has a bias and all three outputs, of which only the first is read"""
    complete = node.input(2) and len(node.outputs) == 3 and all(node.outputs)
    if not complete:
        return "the gradient needs its bias and all three outputs"
    read = [name for name in node.outputs[1:] if name in facts.read]
    return f"what flows back to its output {read[0]!r} would be lost" if read else None


@_condition("ReduceSum", "ReduceMean")
def _reduction(node: Node, facts: Facts) -> str | None:
    """its axes are constants, and it reduces something"""
    return reduces_unknown_axes(node, facts)


@_condition("MatMul")
def _matmul(node: Node, facts: Facts) -> str | None:
    """neither operand is a vector"""
    shapes = [facts.shapes.get(name) for name in node.inputs]
    vector = any(shape is None or len(shape) < 2 for shape in shapes)
    return "the shape of an operand is 1-D or unknown" if vector else None


@_condition("Gemm")
def _gemm(node: Node, facts: Facts) -> str | None:
    """its addend is no scalar"""
    return "the gradient of a scalar addend has the shape [1]" if _scalar(node.input(2), facts) else None


def _scalar(name: str, facts: Facts) -> bool:
    """Return whether a tensor is a scalar, or may be one."""
    return bool(name) and facts.shapes.get(name, ()) == ()


@_condition("Where")
def _where(node: Node, facts: Facts) -> str | None:
    """what it chooses from has the shape of the result, and is no scalar"""
    shape = facts.shapes.get(node.outputs[0])
    wrong = [name for name in node.inputs[1:] if name in facts.carried and facts.shapes.get(name) != shape]
    if shape is None or shape == () or wrong:
        return "the gradient of an operand that is broadcast has the wrong shape"
    return None


@_condition("Clip")
def _clip(node: Node, facts: Facts) -> str | None:
    """its bounds are not trained"""
    return trains_bounds(node, facts)


@_condition("Pow")
def _power(node: Node, facts: Facts) -> str | None:
    """its exponent is not trained, has the type of its base, and does not broadcast it"""
    x, exponent = node.inputs
    if exponent in facts.carried:
        return "the gradient of an exponent is wrong"
    shape = facts.shapes.get(node.outputs[0])
    if shape is None or facts.shapes.get(x) != shape:
        return "the gradient of a base that is broadcast has the wrong shape"
    return None if facts.dtypes.get(x) == facts.dtypes.get(exponent) else "its exponent is of another type"


@_condition("ScatterElements", "ScatterND")
def _scatter(node: Node, facts: Facts) -> str | None:
    """it has no reduction"""
    reduction = node.attrs.get("reduction", "none")
    return None if reduction == "none" else f"the gradient ignores its reduction {reduction!r}"


@_condition("Transpose")
def _transpose(node: Node, facts: Facts) -> str | None:
    """its perm is written out"""
    return None if "perm" in node.attrs else "the gradient builder reads its perm"


@_condition("Split")
def _split(node: Node, facts: Facts) -> str | None:
    """all its outputs are read"""
    read = all(name and name in facts.read for name in node.outputs)
    return None if read else "the gradient would have the wrong shape when some outputs are not read"


@_condition("Slice")
def _slice(node: Node, facts: Facts) -> str | None:
    """its steps are positive constants"""
    if not node.input(4):
        return None
    steps = facts.constants.get(node.input(4))
    if steps is None:
        return f"its steps {node.input(4)!r} are computed by the model: make them a constant"
    return None if (steps > 0).all() else "the gradient refuses negative steps"


@_condition("Pad")
def _pad(node: Node, facts: Facts) -> str | None:
    """it pads all axes with a constant that is not trained"""
    if node.attrs.get("mode", "constant") != "constant":
        return "the gradient knows constant pads only"
    if node.input(1) not in facts.constants:
        return f"its pads {node.input(1)!r} are computed by the model: make them a constant"
    if node.input(3):
        return "the gradient ignores its axes"
    return "its pad value would have no gradient" if node.input(2) in facts.carried else None
