"""Nodes as plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onnx import AttributeProto, ModelProto, NodeProto

from onnx_oto.model.graph.flat import Path, Placed
from onnx_oto.model.graph.order import BODIES, captured, is_plain
from onnx_oto.model.graph.tensors import to_array

_MANY = 1 << 16


@dataclass(eq=False, init=False)
class Node:
    """One node; compared and hashed by identity.

    `inputs` and `outputs` keep their positions ("" is an omitted one). `domain` is "" for ai.onnx. `attrs`
    holds ints, floats, str, lists of them, numpy arrays for tensors; graphs, sparse tensors, types and long lists of
    numbers stay as they are in the message. `index` is the position in the graph of the model it was read from (of the
    node whose body it lies in, for one of a body), `captured` the outer tensors that its bodies read, `since` the opset
    version of its domain (0 when the model does not import it). `within`: the bodies that it lies in, outermost first.
    """

    name: Final[str]
    op: Final[str]
    domain: Final[str]
    inputs: Final[tuple[str, ...]]
    outputs: Final[tuple[str, ...]]
    attrs: Final[dict[str, Any]]
    index: Final[int]
    captured: Final[tuple[str, ...]]
    since: Final[int]
    within: Final[Path]

    def __init__(
        self,
        name: str,
        op: str,
        domain: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attrs: dict[str, Any],
        index: int,
        captured: tuple[str, ...],
        since: int,
        within: Path = (),
    ) -> None:
        # What is frozen for type checkers alone is made in a third of the time.
        self.name = name
        self.op = op
        self.domain = domain
        self.inputs = inputs
        self.outputs = outputs
        self.attrs = attrs
        self.index = index
        self.captured = captured
        self.since = since
        self.within = within

    def input(self, position: int) -> str:
        """Return the name of an input, "" when it is omitted."""
        return self.inputs[position] if position < len(self.inputs) else ""


def read_opsets(model: ModelProto) -> dict[str, int]:
    """Return the opset version by domain, with "" for ai.onnx."""
    return {standard_domain(entry.domain): entry.version for entry in model.opset_import}


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard operator set a model imports, 0 without any."""
    return read_opsets(model).get("", 0)


def set_opset(model: ModelProto, version: int) -> None:
    """Stamp a model with another version of the standard operator set, in place; nothing is converted."""
    for entry in model.opset_import:
        if not standard_domain(entry.domain):
            entry.version = version


def read_nodes(model: ModelProto) -> list[Node]:
    """Return the nodes of the main graph in file order."""
    opsets = read_opsets(model)
    return [read_node(node, index, opsets) for index, node in enumerate(model.graph.node)]


def read_laid_out(
    placed: Iterable[Placed], opsets: Mapping[str, int], earlier: Iterable[tuple[Node, Placed]] = ()
) -> list[Node]:
    """Return nodes that were laid out (see `flat`) in their order.

    earlier: nodes of these messages as they were read before; their attributes must be the same still.
    """
    known = {id(each.node): node for node, each in earlier}
    return [read_node(each.node, each.index, opsets, each.path, known.get(id(each.node))) for each in placed]


def read_node(
    node: NodeProto, index: int, opsets: Mapping[str, int], within: Path = (), earlier: Node | None = None
) -> Node:
    """Return one node as a value. Raises ModelError when an attribute tensor cannot be read.

    earlier: it, as it was read when its attributes were the same.
    """
    domain = standard_domain(node.domain)
    if earlier is not None and is_plain(earlier.op) and not domain:
        attributes, has_bodies = earlier.attrs, False
    else:
        attributes, has_bodies = {}, False
        for attr in node.attribute:
            kind = attr.type
            read = _READ.get(kind)
            attributes[attr.name] = attr.tp if read is None else read(attr)
            has_bodies = has_bodies or kind in BODIES
    return Node(
        node.name,
        node.op_type,
        domain,
        tuple(node.input),
        tuple(node.output),
        attributes,
        index,
        captured(node) if has_bodies else (),
        opsets.get(domain, 0),
        within,
    )


def standard_domain(domain: str) -> str:
    """Return "" for both spellings of the standard domain."""
    return "" if domain == "ai.onnx" else domain


def attribute_value(attr: AttributeProto) -> Any:
    """Return an attribute as a Python value (see `Node`). Bytes that are no UTF-8 keep surrogate escapes."""
    read = _READ.get(attr.type)
    return attr.tp if read is None else read(attr)


def _numbers(values: Sequence[float]) -> Sequence[float]:
    """Return a repeated field as a list; as it is where it is long, for it takes a tenth of the memory (of trees)."""
    return list(values) if len(values) <= _MANY else values


_READ: dict[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.INT: lambda attr: attr.i,
    AttributeProto.FLOAT: lambda attr: attr.f,
    AttributeProto.STRING: lambda attr: attr.s.decode("utf-8", "surrogateescape"),
    AttributeProto.INTS: lambda attr: _numbers(attr.ints),
    AttributeProto.FLOATS: lambda attr: _numbers(attr.floats),
    AttributeProto.STRINGS: lambda attr: [s.decode("utf-8", "surrogateescape") for s in attr.strings],
    AttributeProto.TENSOR: lambda attr: to_array(attr.t),
    AttributeProto.TENSORS: lambda attr: [to_array(tensor) for tensor in attr.tensors],
    AttributeProto.GRAPH: lambda attr: attr.g,
    AttributeProto.GRAPHS: lambda attr: list(attr.graphs),
    AttributeProto.SPARSE_TENSOR: lambda attr: attr.sparse_tensor,
}
