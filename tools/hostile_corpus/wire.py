"""Protobuf by hand, for what its library refuses to build or is slow to: appended to a file, fields merge or repeat."""

from __future__ import annotations

from collections.abc import Iterable

# Field numbers of ModelProto, GraphProto and NodeProto.
MODEL_IR, MODEL_GRAPH, MODEL_OPSET, MODEL_METADATA = 1, 7, 8, 14
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE = 1, 2, 5, 11, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_TYPE, NODE_ATTRIBUTE = 1, 2, 3, 4, 5


def varint(value: int) -> bytes:
    """Return a base-128 number.

    >>> varint(300)
    b'\\xac\\x02'
    """
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: bytes | str | int) -> bytes:
    """Return one field: a number as varint, anything else with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    payload = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def node(op: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Iterable[bytes] = ()) -> bytes:
    """Return a NodeProto."""
    return b"".join(
        [
            *(field(NODE_INPUT, name) for name in inputs),
            *(field(NODE_OUTPUT, name) for name in outputs),
            field(NODE_TYPE, op),
            *(field(NODE_ATTRIBUTE, attribute) for attribute in attributes),
        ]
    )


def graph_attribute(name: str, graph: bytes) -> bytes:
    """Return an AttributeProto that holds a graph."""
    return field(1, name) + field(6, graph) + field(20, 5)


def in_graph(parts: Iterable[bytes]) -> bytes:
    """Return what, appended to the bytes of a model, adds these fields to its graph."""
    return field(MODEL_GRAPH, b"".join(parts))
