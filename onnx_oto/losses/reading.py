"""Which tensor a loss reads: the one in front of a final activation that the loss contains itself.

A model may end in Softmax; cross-entropy takes logits. Reading the probabilities as logits would train a model to be
vague and make the loss on the test data another number than the loss in training. So whoever runs a model for a loss
(training, evaluation, the full and the compact one) asks `read` which tensor that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

from onnx_oto.losses.loss import Loss
from onnx_oto.model import Shape, infer
from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.node import opset_of, standard_domain
from onnx_oto.model.shapes.dims import product

_MOVES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
_OPEN_AXIS = 13  # Softmax works over one axis since opset 13, over all from `axis` on before


def read(model: onnx.ModelProto, output: str, activations: Mapping[str, int | None]) -> str:
    """Return the tensor that a loss reads for an output: the same entries in the same places, without the activation.

    activations: see `Loss.activations`. Between activation and output only nodes may lie that move entries without
    mixing the classes of different places; they are written once more behind the activation's input, in place. Any
    doubt leaves the output itself.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    moves: list[onnx.NodeProto] = []
    node = producers.get(output)
    while node is not None and node.op_type in _MOVES and not standard_domain(node.domain):
        moves.append(node)
        node = producers.get(node.input[0])
    if node is None or node.op_type not in activations or standard_domain(node.domain):
        return output
    axis = activations[node.op_type]
    if axis is not None and not _works_over(model, node, moves, output, axis):
        return output
    return _moved(model, node.input[0], moves)


def read_all(model: onnx.ModelProto, outputs: Sequence[str], loss: Loss) -> list[str]:
    """Return what a settled loss reads for each of its outputs, see `read`; each is another tensor."""
    return read_each(model, outputs, [loss.activations(at) for at in range(len(outputs))])


def read_each(
    model: onnx.ModelProto, outputs: Sequence[str], activations: Sequence[Mapping[str, int | None]]
) -> list[str]:
    """Return what is read for each of some outputs, where the loss contains these operators; each is another tensor."""
    found: list[str] = []
    for name, contained in zip(outputs, activations, strict=True):
        source = read(model, name, contained)
        found.append(_copied(model, source) if source in found else source)
    return found


def _works_over(
    model: onnx.ModelProto, node: onnx.NodeProto, moves: list[onnx.NodeProto], output: str, axis: int
) -> bool:
    """Say whether a Softmax works over that axis of the output, followed back through the moves."""
    shapes = infer(model).shapes
    place = _axis(axis, shapes.get(output))
    for move in moves:
        place = _before(move, shapes.get(move.input[0]), shapes.get(move.output[0]), place)
    shape = shapes.get(node.input[0])
    if shape is None or place is None:
        return False
    old = opset_of(model) < _OPEN_AXIS
    own = _axis(int(_attribute(node, "axis", 1 if old else -1)), shape)
    if own is None or not old:
        return own == place
    return own <= place and all(size == 1 for at, size in enumerate(shape) if at >= own and at != place)


def _before(move: onnx.NodeProto, before: Shape | None, after: Shape | None, place: int | None) -> int | None:
    """Return which axis of a move's input an axis of its output was, None where that cannot be told.

    A reshape leaves an axis as it is that has the same size and as many entries behind it.
    """
    if place is None or move.op_type == "Identity":
        return place
    if before is None or after is None:
        return None
    if move.op_type == "Transpose":
        order = _attribute(move, "perm", list(range(len(before)))[::-1])
        return int(order[place])
    behind = product(after[place + 1 :])
    same = [
        at
        for at, size in enumerate(before)
        if size == after[place] and product(before[at + 1 :]) == behind is not None
    ]
    return same[0] if same else None


def _axis(axis: int, shape: Shape | None) -> int | None:
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    return axis % len(shape)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _copied(model: onnx.ModelProto, source: str) -> str:
    """Return the name of a copy of a tensor, which is appended in place."""
    name = fresh("onnx_oto.read.", all_names(model.graph))
    model.graph.node.append(helper.make_node("Identity", [source], [name], name=name))
    return name


def _moved(model: onnx.ModelProto, source: str, moves: list[onnx.NodeProto]) -> str:
    """Return `source` behind copies of the moves, the last of which comes first."""
    taken = all_names(model.graph)
    for move in reversed(moves):
        if move.op_type == "Identity":
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(move)
        copy.input[0] = source
        source = copy.name = fresh("onnx_oto.read.", taken)
        copy.output[0] = source
        model.graph.node.append(copy)
    return source
