"""Bodies of If, Loop and Scan laid out beside the graph around them: one list of nodes with one set of names.

What a body is given and what it gives are two nodes of a domain of our own: before the nodes of a loop's body stands
an *entry* that reads what the loop reads and makes the body's inputs, behind them the *exit*, which reads what the loop
reads and then what the bodies give, and makes the outputs. An If has an exit only. So whoever goes through the list
meets every tensor behind what it is computed from, and `nest` puts the bodies together again.

A node is laid out if every tensor of the model and every node with bodies has a name of its own, and its bodies hold no
initializers (so it is in normal form); others stay what they are: one node that captures what its bodies read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto, helper

from onnx_oto.model.graph.order import bodies, initializer_names, nested, nodes_inside

BODIES = "onnx_oto.bodies"
"""The domain of entries (LoopEntry, ScanEntry) and exits (If, Loop, Scan). No file has nodes of it."""
ENTRY = "Entry"
_ENTRY_NAME = "/onnx_oto.entry"
"""What stands behind the name of a node in that of its entry: no file has such names."""
Path = tuple[tuple[str, str], ...]
"""The bodies that a node lies in, outermost first: the name of the node that has it, and that of the attribute."""
BRANCHES = ("then_branch", "else_branch")
_NAMES = {"If": BRANCHES, "Loop": ("body",), "Scan": ("body",)}


@dataclass(eq=False, init=False)
class Placed:
    """A node of the list.

    path: the bodies it lies in. index: the position in the main graph of the node that it is, or lies in. owner: of an
    entry and an exit the node they stand for.
    """

    node: Final[NodeProto]
    path: Final[Path]
    index: Final[int]
    owner: Final[NodeProto | None]

    def __init__(self, node: NodeProto, path: Path, index: int, owner: NodeProto | None = None) -> None:
        # What is frozen for type checkers alone is made in a third of the time.
        self.node = node
        self.path = path
        self.index = index
        self.owner = owner

    @property
    def is_entry(self) -> bool:
        return self.owner is not None and self.node.op_type != self.owner.op_type


def owner_of(entry: str) -> str:
    """Return the name of the node that an entry belongs to."""
    return entry.removesuffix(_ENTRY_NAME)


Sizes = Callable[[str], "Sequence[int | None] | None"]
"""What is known of the sizes of a tensor, by name."""


def flatten(graph: GraphProto) -> list[Placed]:
    """Return the nodes of a sorted graph and of its bodies, as they are, each behind what it reads."""
    if not nested(graph.node):
        return [Placed(node, (), index) for index, node in enumerate(graph.node)]
    if not _are_unique(graph):
        return [Placed(node, (), index) for index, node in enumerate(graph.node)]
    return [placed for index, node in enumerate(graph.node) for placed in _laid_out(node, (), index)]


def _laid_out(node: NodeProto, path: Path, index: int) -> Iterator[Placed]:
    inner = _bodies(node)
    if not inner:
        yield Placed(node, path, index)
        return
    if inner[0][1].input:
        yield Placed(_entry(node, inner[0][1]), path, index, node)
    for name, body in inner:
        for each in body.node:
            yield from _laid_out(each, (*path, (node.name, name)), index)
    yield Placed(_exit(node, inner), path, index, node)


def _entry(node: NodeProto, body: GraphProto) -> NodeProto:
    made = [value.name for value in body.input]
    entry = helper.make_node(
        f"{node.op_type}{ENTRY}", list(node.input), made, name=f"{node.name}{_ENTRY_NAME}", domain=BODIES
    )
    entry.attribute.extend(_settings(node))
    entry.attribute.append(helper.make_attribute("ranks", [_rank(value) for value in body.input]))
    return entry


def _exit(node: NodeProto, inner: Iterable[tuple[str, GraphProto]]) -> NodeProto:
    given = [value.name for _, body in inner for value in body.output]
    end = helper.make_node(
        node.op_type, [*node.input, *given], list(node.output), name=node.name, domain=BODIES
    )
    end.attribute.extend(_settings(node))
    return end


def _settings(node: NodeProto) -> Iterator[AttributeProto]:
    return (attr for attr in node.attribute if attr.type != AttributeProto.GRAPH)


def _rank(value: ValueInfoProto) -> int:
    """Return the declared rank of a body's input, -1 where there is none."""
    kind = value.type.tensor_type
    return len(kind.shape.dim) if value.type.HasField("tensor_type") and kind.HasField("shape") else -1


def _bodies(node: NodeProto) -> list[tuple[str, GraphProto]]:
    """Return the bodies of a node that can be laid out, by attribute; none of any other node."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _NAMES:
        return []
    held = {attr.name: attr.g for attr in node.attribute if attr.type == AttributeProto.GRAPH}
    inner = [(name, held[name]) for name in _NAMES[node.op_type] if name in held]
    fits = len(inner) == len(held) == len(_NAMES[node.op_type]) and all(
        _fits(node, body) and not initializer_names(body) for _, body in inner
    )
    return inner if fits else []


def _fits(node: NodeProto, body: GraphProto) -> bool:
    """Return whether a body has as many inputs and outputs as its node needs it to have."""
    if node.op_type == "If":
        return not body.input and len(body.output) == len(node.output)
    if node.op_type == "Loop":
        states = len(node.input) - 2
        return (
            states >= 0
            and len(body.input) == 2 + states
            and len(body.output) == 1 + len(node.output)
            and len(node.output) >= states
        )
    scanned = next((attr.i for attr in node.attribute if attr.name == "num_scan_inputs"), 0)
    return (
        0 < scanned <= len(node.input) == len(body.input)
        and all(node.input)
        and len(body.output) == len(node.output) >= len(node.input) - scanned
    )


def _are_unique(graph: GraphProto) -> bool:
    """Return whether no two tensors of a graph and its bodies have one name, and no two nodes with bodies."""
    owners = [node.name for node in nodes_inside(graph.node) if any(bodies(node))]
    tensors = list(_defined(graph))
    return len(set(tensors)) == len(tensors) and len({"", *owners}) == len(owners) + 1


def _defined(graph: GraphProto) -> Iterator[str]:
    constants = set(initializer_names(graph))
    yield from constants
    yield from (value.name for value in graph.input if value.name not in constants)
    for node in graph.node:
        yield from filter(None, node.output)
        for body in bodies(node):
            yield from _defined(body)


class Nest:
    """Puts nodes that were laid out, and edited since, back into their bodies.

    placed: what `flatten` made of the graph. sizes: what tensors have now, for the declared inputs and outputs of
    bodies. A node that is new lies in the innermost body of which it reads something.
    """

    def __init__(self, placed: Iterable[Placed], nodes: Sequence[NodeProto], sizes: Sizes) -> None:
        self._placed: Mapping[str, Placed] = {each.node.name: each for each in placed}
        self._sizes = sizes
        self._producer = {name: node for node in nodes for name in node.output if name}
        self._nodes = {node.name: node for node in nodes}
        self._inside: dict[Path, list[NodeProto]] = {}
        for node in nodes:
            self._inside.setdefault(self._path(node), []).append(node)

    def built(self, path: Path = ()) -> list[NodeProto]:
        """Return the nodes of the main graph, or of a body, in the order they came in."""
        result = []
        for node in self._inside.get(path, ()):
            placed = self._placed.get(node.name)
            if placed is None or placed.owner is None:
                result.append(node)
            elif not placed.is_entry:
                result.append(self._rebuilt(node, placed.owner, path))
        return result

    def _path(self, node: NodeProto) -> Path:
        placed = self._placed.get(node.name)
        return max(map(self._where, node.input), key=len, default=()) if placed is None else placed.path

    def _where(self, name: str) -> Path:
        """Return the bodies that a tensor is made in."""
        node = self._producer.get(name)
        if node is None:
            return ()
        placed = self._placed.get(node.name)
        if placed is not None and placed.owner is not None and placed.is_entry:
            return (*placed.path, (placed.owner.name, "body"))
        return self._path(node)

    def _rebuilt(self, node: NodeProto, owner: NodeProto, path: Path) -> NodeProto:
        result = NodeProto()
        for field, value in owner.ListFields():
            if field.name in ("input", "output", "attribute"):
                continue
            if field.is_repeated:
                getattr(result, field.name).extend(value)
            else:
                setattr(result, field.name, value)
        own = len(owner.input)
        result.input.extend(node.input[:own])
        result.output.extend(node.output)
        given = list(node.input[own:])
        inner = dict(_bodies(owner))
        for attr in owner.attribute:
            if attr.name not in inner:
                result.attribute.add().CopyFrom(attr)
        for name, body in inner.items():
            frame = helper.make_attribute(name, GraphProto())
            outputs, given = given[: len(body.output)], given[len(body.output) :]
            self._fill(frame.g, body, outputs, owner, (*path, (owner.name, name)))
            result.attribute.append(frame)
        return result

    def _fill(
        self, frame: GraphProto, body: GraphProto, outputs: Sequence[str], owner: NodeProto, path: Path
    ) -> None:
        for text in ("name", "doc_string"):
            if body.HasField(text):
                setattr(frame, text, getattr(body, text))
        frame.metadata_props.extend(body.metadata_props)
        entry = self._nodes.get(f"{owner.name}{_ENTRY_NAME}")
        for value, name in zip(body.input, entry.output if entry is not None else (), strict=True):
            frame.input.append(self._declared(value, name))
        frame.node.extend(self.built(path))
        for value, name in zip(body.output, outputs, strict=True):
            if self._where(name) != path:  # what is computed outside becomes an output only through a node
                inner = f"{value.name}/compact_link"
                frame.node.append(helper.make_node("Identity", [name], [inner], name=inner))
                frame.output.append(self._declared(value, inner))
            else:
                frame.output.append(self._declared(value, name))

    def _declared(self, value: ValueInfoProto, name: str) -> ValueInfoProto:
        """Return the declaration of a body's input or output under its name, with the sizes that it has now."""
        result = ValueInfoProto()
        result.CopyFrom(value)
        result.name = name
        dims = result.type.tensor_type.shape.dim if result.type.HasField("tensor_type") else []
        sizes = self._sizes(value.name)
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                continue
            size = sizes[axis] if sizes is not None and len(sizes) == len(dims) else None
            dim.ClearField("value")
            if size is not None:
                dim.dim_value = size
        return result
