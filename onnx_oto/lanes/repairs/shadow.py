"""The value of removed positions when it depends on the data: a small expression over tensors of the graph.

After a mean is subtracted, every removed position of the axis holds minus the mean. That is no constant, but it is one
tensor for all of them, and what is computed from it elementwise is again one tensor. A later mean over the axis can
therefore be repaired exactly: add (n - k) times that tensor.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np

from onnx_oto.lanes.layout import Block, FloatArray
from onnx_oto.lanes.repairs.expression import Apply, Expression, Number, Tensor
from onnx_oto.model.graph.node import Node

Shadow = Expression
"""What removed positions hold; its tensors have size 1 along the labelled axis."""


def cast_shadow(
    shadows: MutableMapping[str, Shadow],
    node: Node,
    operands: Sequence[Block | None],
    states: Sequence[FloatArray],
) -> None:
    """Record the shadow of an elementwise node's output, if it can be told.

    operands: the blocks of the one labelled axis (None: the operand has size 1 there); states: what they hold at
    removed positions. The node's inputs are the operands, in order.
    """
    arguments: list[Shadow] = []
    for name, block, state in zip(node.inputs, operands, states, strict=True):
        if block is None:
            arguments.append(Tensor(name))
        elif np.isfinite(state).all() and (state == state[0]).all():
            arguments.append(Number(float(state[0]), name))
        elif name in shadows:
            arguments.append(shadows[name])
        else:
            return
    attributes = {k: v for k, v in node.attrs.items() if isinstance(v, int | float | str | list)}
    shadows[node.outputs[0]] = Apply(node.op, tuple(arguments), attributes)
