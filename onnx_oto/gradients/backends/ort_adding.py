"""Gradients of graphs that share a batch, added up in one buffer while they run (see `runtime/adding.py`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.calling import call, let_call
from onnx_oto.runtime.joining import ADD, ROOM, ROOM_WORDS, SETTINGS, TURN, WANTED


def add_up(model: onnx.ModelProto, wanted: Collection[str], shapes: Mapping[str, Sequence[int]]) -> None:
    """Rewrite a gradient graph in place: `<name>_grad` is no output, but added to what the input WANTED + name is.

    Threads take turns at places that are numbered as `wanted` is. shapes: of these, by name.
    """
    graph = model.graph
    made = {value.name for value in graph.output}
    gone: dict[str, str] = {}
    for place, name in enumerate(wanted):
        gradient = f"{name}_grad"
        if gradient not in made:
            continue
        settings, done = f"{gradient}.place", f"{gradient}.added"
        told = np.zeros(SETTINGS, np.int64)
        told[:3] = place, math.prod(shapes[name]), 1
        graph.initializer.append(numpy_helper.from_array(told, settings))
        graph.input.append(helper.make_tensor_value_info(WANTED + name, TensorProto.FLOAT, shapes[name]))
        graph.node.append(call(ADD, done, [ROOM, settings, TURN, gradient, WANTED + name], [done]))
        gone[gradient] = done
    graph.value_info.extend(value for value in graph.output if value.name in gone)  # calls tell no types
    kept = [value for value in graph.output if value.name not in gone]
    kept += [helper.make_tensor_value_info(done, TensorProto.FLOAT, [1]) for done in gone.values()]
    del graph.output[:]
    graph.output.extend(kept)
    let_call(model, {ROOM: ROOM_WORDS, TURN: 2})
