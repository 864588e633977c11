"""Very many of something small, or one thing that is very long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from hostile_corpus import wire
from hostile_corpus.case import ANY, INSPECT, PRUNE, Build, Case, pair
from hostile_corpus.placing import carrier, write

Part = Callable[[int], bytes]

FEW = 10
_TENSOR = numpy_helper.from_array(np.ones(2, np.float32))
_VALUE = helper.make_tensor_value_info("", TensorProto.FLOAT, ["N", 4]).type.SerializeToString()


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for name, (part, in_graph, count) in _MANY.items():
        for words in (PRUNE, INSPECT) if count == 10**6 else (PRUNE,):
            hostile, twin = _many(part, in_graph, count), _many(part, in_graph, FEW)
            yield pair("sizes", f"{name}-{count}-{words[0]}", hostile, twin, words, ANY)
    for name, part in _LONG.items():
        yield pair("sizes", f"{name}-100mb", _long(part, 10**8), _long(part, 10), PRUNE, ANY)


def _many(part: Part, in_graph: bool, count: int) -> Build:
    def build(folder: Path) -> None:
        parts = b"".join(part(i) for i in range(count))
        write(folder, carrier().SerializeToString() + (wire.in_graph([parts]) if in_graph else parts))

    return build


def _relu(i: int) -> bytes:
    return wire.field(wire.GRAPH_NODE, wire.node("Relu", [f"n{i - 1}" if i else "d"], [f"n{i}"]))


def _dead(i: int) -> bytes:
    return wire.field(wire.GRAPH_NODE, wire.node("Identity", ["d"], [f"n{i}"]))


def _parallel(i: int) -> bytes:
    """Return a reader of d that is an output."""
    shown = wire.field(wire.GRAPH_OUTPUT, wire.field(1, f"n{i}") + wire.field(2, _VALUE_OF_D))
    return wire.field(wire.GRAPH_NODE, wire.node("Neg", ["d"], [f"n{i}"])) + shown


_VALUE_OF_D = helper.make_tensor_value_info("", TensorProto.FLOAT, ["N", 16]).type.SerializeToString()


def _initializer(i: int) -> bytes:
    return wire.field(wire.GRAPH_INITIALIZER, _TENSOR.SerializeToString() + wire.field(8, f"i{i}"))


def _constant(i: int) -> bytes:
    value = wire.field(1, "value") + wire.field(5, _TENSOR.SerializeToString()) + wire.field(20, 4)
    return wire.field(wire.GRAPH_NODE, wire.node("Constant", [], [f"c{i}"], [value]))


def _input(i: int) -> bytes:
    return wire.field(wire.GRAPH_INPUT, wire.field(1, f"in{i}") + wire.field(2, _VALUE))


def _stored(i: int) -> bytes:
    return wire.field(wire.GRAPH_VALUE, wire.field(1, f"v{i}") + wire.field(2, _VALUE))


def _opset(i: int) -> bytes:
    return wire.field(wire.MODEL_OPSET, wire.field(1, f"domain{i}") + wire.field(2, 1))


def _metadata(i: int) -> bytes:
    return wire.field(wire.MODEL_METADATA, wire.field(1, f"k{i}") + wire.field(2, "v"))


_MANY: dict[str, tuple[Part, bool, int]] = {
    "nodes-in-a-row": (_relu, True, 10**6),
    "nodes-in-a-row-fewer": (_relu, True, 10**5),
    "nodes-dead": (_dead, True, 10**6),
    "nodes-dead-fewer": (_dead, True, 10**5),
    "outputs": (_parallel, True, 10**5),
    "outputs-fewer": (_parallel, True, 10**4),
    "initializers": (_initializer, True, 10**5),
    "constants": (_constant, True, 10**5),
    "inputs": (_input, True, 10**5),
    "inputs-fewer": (_input, True, 10**4),
    "stored-shapes": (_stored, True, 10**5),
    "opsets": (_opset, False, 10**5),
    "metadata": (_metadata, False, 10**6),
}


def _long(part: Part, size: int) -> Build:
    return lambda folder: write(folder, carrier().SerializeToString() + part(size))


_LONG: dict[str, Part] = {
    "metadata": lambda size: wire.field(wire.MODEL_METADATA, wire.field(1, "k") + wire.field(2, "v" * size)),
    "documentation": lambda size: wire.field(6, "d" * size),
    "graph-documentation": lambda size: wire.in_graph([wire.field(10, "d" * size)]),
    "node-name": lambda size: wire.in_graph(
        [wire.field(wire.GRAPH_NODE, wire.node("Neg", ["d"], ["n"]) + wire.field(wire.NODE_NAME, "n" * size))]
    ),
    "node-documentation": lambda size: wire.in_graph(
        [
            wire.field(
                wire.GRAPH_NODE,
                wire.node("Neg", ["d"], ["n"]) + wire.field(6, "d" * size),  # documentation of a node
            )
        ]
    ),
    "unknown-field": lambda size: wire.field(999, "u" * size),
}
