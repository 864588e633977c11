"""The table of reverse mode: an operator, a function that writes its gradient. A new one is one function.

    @gradient("Sin")
    def sine(node: Back, dy: str) -> Parts:
        \"\"\"y = sin x: dx = dy cos x.\"\"\"
        return [node.emit("Mul", dy, node.emit("Cos", node.inputs[0]))]

It returns a gradient for each input, None where none flows. All that it writes is written once, however often it is
asked for, and what nobody needs is dropped: so it writes for every input, wanted or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node, read_node

Parts = Sequence[str | None]
Gradient = Callable[[Back, str], Parts]
Condition = Callable[[Node, Facts], str | None]
Form = Callable[[Back], Sequence[str]]


@dataclass(frozen=True)
class Entry:
    """A gradient.

    broadcasts: its parts have the shape of the output, and are to be summed over what was broadcast. outputs: that it
    reads. unless: says why a node has no right gradient by it, None where it has. form: writes the node itself anew, as
    what every runtime has and the gradient can use: it returns what takes the place of the outputs, and more, which the
    gradient finds as `Back.kept`. any_size: whether it does with the number of axes where sizes depend on values.
    """

    write: Gradient
    broadcasts: bool
    outputs: int
    unless: Condition | None
    form: Form | None
    any_size: bool = False


TABLE: dict[str, Entry] = {}


def gradient(
    *ops: str,
    broadcasts: bool = False,
    outputs: int = 1,
    unless: Condition | None = None,
    form: Form | None = None,
    any_size: bool = False,
) -> Callable[[Gradient], Gradient]:
    """Enter a function into the table; see `Entry`."""

    def enter(function: Gradient) -> Gradient:
        for op in ops:
            if op in TABLE:
                raise ValueError(f"op {op} has two gradients")
            TABLE[op] = Entry(function, broadcasts, outputs, unless, form, any_size)
        return function

    return enter


def covers(node: onnx.NodeProto, facts: Facts) -> str | None:
    """Return why the gradient of a node as it stands would be missing or wrong, None when it is right."""
    seen = read_node(node, 0, {})
    entry = None if seen.domain else TABLE.get(seen.op)
    if entry is None:
        return "training has no gradient for this op; leave what feeds it untrained, or replace it"
    for name in (*seen.inputs, *seen.outputs[:1]):
        enough = facts.ranks if entry.any_size else facts.shapes
        if name and name not in facts.shapes and name not in enough:
            return f"the shape of {name!r} is not known before the run: simplify the model first"
    return entry.unless(seen, facts) if entry.unless else None
