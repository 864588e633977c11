"""Many products that are added up become one: the weight of a recurrent layer has a gradient of every step.

sum_t a[t]' b[t] = a' b, where a and b hold the rows of all steps. So the gradients of T steps need not lie in memory
side by side, and one large product is faster than T small ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

Shapes = Mapping[str, tuple[int, ...]]

_FEWEST = 4  # products worth joining
_GRADIENT = "_grad"  # what the gradient builder appends to the name of a tensor


def join_products(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Rewrite, in place, each sum of products over rows as one product; `shapes` are those of forward tensors."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(value.name for value in graph.output)
    gone: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        terms = [made_by[name] for name in node.input if name in made_by and reads[name] == 1]
        if node.op_type != "Sum" or len(terms) != len(node.input) or not _joinable(terms, shapes):
            nodes.append(node)
            continue
        gone.update(node.input)
        sides = []
        for index, side in enumerate("ab"):
            rows = [term.input[index] for term in terms]
            name = f"{node.output[0]}.{side}"
            sides.append(name)
            nodes.append(helper.make_node("Concat", rows, [name], name=name, axis=-2))
        joined = onnx.NodeProto()
        joined.CopyFrom(terms[0])
        joined.name = node.name
        joined.input[:] = sides
        joined.output[:] = node.output
        nodes.append(joined)
    kept = [node for node in nodes if gone.isdisjoint(node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def _joinable(terms: Sequence[onnx.NodeProto], shapes: Shapes) -> bool:
    """Return whether all are products A' B with the same attributes, of matrices that differ in their rows alone."""
    if len(terms) < _FEWEST or {term.op_type for term in terms} != {"FusedMatMul"}:
        return False
    settings = [{a.name: helper.get_attribute_value(a) for a in term.attribute} for term in terms]
    first = settings[0]
    if any(other != first for other in settings) or not first.get("transA") or first.get("transB"):
        return False
    if first.get("transBatchA") or first.get("transBatchB"):
        return False
    sides = [[_shape(name, shapes) for name in term.input] for term in terms]
    if any(shape is None or len(shape) < 2 for pair in sides for shape in pair):
        return False
    outer = [[(*shape[:-2], shape[-1]) for shape in pair if shape] for pair in sides]
    leads = {shape[:-1] for pair in outer for shape in pair}
    return len(leads) == 1 and all(pair == outer[0] for pair in outer)


def _shape(name: str, shapes: Shapes) -> tuple[int, ...] | None:
    """Return the shape of a forward tensor, or of the gradient of one."""
    return shapes.get(name, shapes.get(name.removesuffix(_GRADIENT)))
