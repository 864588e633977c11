"""A loss as a graph of its own, in what a backend differentiates: then it is appended to a model's."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.facts import Covers
from onnx_oto.gradients.graph.lowering import Lowered, lower
from onnx_oto.gradients.graph.lowering.engine import listed
from onnx_oto.losses import LOSS, Loss, Target, attach


def lowered_loss(
    model: onnx.ModelProto,
    loss: Loss,
    outputs: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    samples: int,
    covers: Covers,
) -> tuple[Lowered, dict[str, Target]]:
    """Return a loss that reads `outputs` of a model, tensors of these static shapes, and its targets by name.

    Graph inputs are the outputs, then what the loss is fed; its tensors have names that the model has not. Raises
    UnsupportedError for outputs that do not suit it, and for what training cannot pass in a loss of one's own.
    """
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(outputs, shapes, strict=True)
    ]
    end = helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, [])
    alone = helper.make_model(helper.make_graph([], "loss", given, [end]), opset_imports=model.opset_import)
    alone.ir_version = model.ir_version
    targets = attach(alone, loss, outputs, shapes, samples)
    found = lower(alone, outputs, covers, prefix=f"{LOSS}.lowered")
    if found.refusals:
        raise UnsupportedError(f"training cannot handle the loss {loss.name!r}: {listed(found.refusals, 1)}")
    return found, targets
