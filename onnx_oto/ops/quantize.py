"""QuantizeLinear and DequantizeLinear: floats stored, or computed with, as small integers.

    q = saturate(round(x / scale) + zero)        x = (q - zero) * scale

A zero is exact on both sides: with a scale that is positive and finite round(0 / scale) is 0, the zero point lies
within its type, so q is the zero point itself; and (zero - zero) * scale is 0. So a channel that is zero as a float
stays so through the pair, however coarse it is, and a weight that is stored as integers (codes) makes a zero channel
once its slices are set to the zero point. Scales and zero points for each channel are sliced with it, and never zeroed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from onnx_oto.lanes.align import Joined, align
from onnx_oto.lanes.layout import Block, FloatArray, IntArray, Layout, with_blocks
from onnx_oto.lanes.quantized import Code
from onnx_oto.lanes.states import finite_or_poison
from onnx_oto.lanes.trace import Role, Trace, unknown
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import NotCovered, given, inputs, rule

CODES = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32)
"""Types of codes that are sliced: of others a zero is not one bit pattern, or several lie in one byte."""
DEQUANTIZE = "DequantizeLinear"
States = Callable[[FloatArray, FloatArray], FloatArray]


@rule("QuantizeLinear", orderless=True)
def quantize(node: Node, trace: Trace) -> None:
    """q[i] = saturate(round(x[i] / scale) + zero): zero becomes the zero point, of all else nothing is known."""
    readers = trace.graph.consumers.get(node.outputs[0], [])
    # Others may compute with codes as integers, which overflow: what they make of a known one is not told here.
    is_paired = all(reader.op == DEQUANTIZE and not reader.domain for reader, _ in readers)

    def state(x: FloatArray, zero: FloatArray) -> FloatArray:
        return np.where((x == 0) & is_paired, zero, np.nan)

    _scaled(node, trace, node.outputs[0], state)


@rule("DequantizeLinear", orderless=True)
def dequantize(node: Node, trace: Trace) -> None:
    """x[i] = (q[i] - zero) * scale: the zero point becomes zero; so do codes of a weight, whose slices become that."""
    name = node.inputs[0]
    stored = name in trace.graph.initializers

    def state(q: FloatArray, zero: FloatArray) -> FloatArray:
        return np.zeros_like(q) if stored else np.where(q == zero, 0.0, np.nan)

    _scaled(node, trace, name, state)


def _scaled(node: Node, trace: Trace, codes: str, state: States) -> None:
    """Label the output of `node` as its input, tied to scales and zero points for each channel.

    codes: the tensor of integers. state: what becomes of the states of a block, given the zero points there.
    """
    x = given(inputs(node, trace)[0])
    if node.attrs.get("block_size"):
        raise NotCovered("has a scale for every block of an axis")
    if trace.graph.dtypes.get(codes) not in CODES:
        raise NotCovered("has codes that are no whole bytes of integers")
    scale, zero = (_number(node, trace, at) for at in (1, 2))
    if scale is None or (zero is None and node.input(2)):
        raise NotCovered("has a scale or zero point that is computed")
    if scale.ndim > 1 or not (np.isfinite(scale) & (scale > 0)).all():
        raise NotCovered("has a scale that is no positive number")
    if zero is not None and zero.size != scale.size:
        raise NotCovered("has other numbers of scales and zero points")
    axis = int(node.attrs.get("axis", 1)) % max(x.rank, 1)
    zeros = np.zeros(1, np.int64) if zero is None else zero.reshape(-1).astype(np.int64)
    is_whole = scale.size == 1
    operands = [x]
    if not is_whole:
        operands += [_along(trace, node.inputs[at], axis, x.rank) for at in (1, 2) if node.input(at)]
    if codes in trace.parameters and node.op == DEQUANTIZE:
        remember(trace, codes, Code(scale, zeros, None if is_whole else axis))
    aligned = align(trace, node, operands)
    blocks = []
    for group in aligned.joined:
        for block in group.operands[1:]:
            if block is not None:
                trace.assign(block, Role.BUFFER)
        own = group.operands[0]
        if own is None:
            continue
        states = aligned.states(group)[0]
        with np.errstate(all="ignore"):
            value = finite_or_poison([states], state(states, _at(zeros, group, aligned.operands[0], axis)))
        blocks.append(Block(group.keys, own.labels, value, own.source if x.constant else (), own.repeated))
    layout = replace(aligned.layout, constant=x.constant)
    trace.put(node.outputs[0], with_blocks(layout, blocks))


def _number(node: Node, trace: Trace, at: int) -> FloatArray | None:
    """Return the value of an input that is stored, None for others."""
    value = trace.graph.constant(node.inputs[at]) if node.input(at) else None
    return None if value is None else value.astype(np.float64)


def _along(trace: Trace, name: str, axis: int, rank: int) -> Layout:
    """Return the layout of a vector along one axis of a tensor."""
    vector = given(trace.layout(name))
    return replace(vector, axes=((),) * axis + vector.axes + ((),) * (rank - axis - 1), view=None)


def _at(zeros: IntArray, group: Joined, x: Layout, axis: int) -> FloatArray:
    """Return the zero points of a block's positions, NaN where they differ along another axis."""
    shape = group.first.labels.shape
    if (zeros == zeros[0]).all():
        return np.full(shape, float(zeros[0]))
    own = group.operands[0]
    if own is not None and own.keys == x.axes[axis] and own.labels.size == zeros.size:
        return zeros.astype(np.float64).reshape(shape)
    return unknown(shape)


def remember(trace: Trace, name: str, code: Code) -> None:
    """Let a weight be zeroed and measured by its scale and zero point; a second reader must agree about zero."""
    known = trace.codes.setdefault(name, code)
    if not known.has_zero_of(code):
        raise NotCovered(f"reads '{name}' with another zero point than another node does")
