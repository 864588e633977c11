"""Einsum as Transpose, Reshape and MatMul."""

from __future__ import annotations

import string
from typing import NamedTuple

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register


class _Operand(NamedTuple):
    """A tensor whose axes carry one label each."""

    name: str
    labels: str


@register("Einsum")
def einsum(node: Site) -> Outcome:
    """Operands are joined two at a time; labels that nothing later needs are summed away at once."""
    terms, output = _parse(node)
    sizes = _sizes(node, terms)
    operands = [
        _diagonal(node, _Operand(name, term), sizes) for name, term in zip(node.inputs, terms, strict=True)
    ]
    result = _reduced(node, operands[0], {*output, *"".join(terms[1:])})
    for position, operand in enumerate(operands[1:], start=2):
        needed = {*output, *"".join(terms[position:])}
        other = _reduced(node, operand, {*needed, *result.labels})
        result = _joined(node, result, other, needed, sizes)
    result = _reduced(node, result, set(output))
    return (
        _ordered(node, result, output).name if result.labels != output else node.emit("Identity", result.name)
    )


def _parse(node: Site) -> tuple[list[str], str]:
    """Return one label string per operand and for the output, an ellipsis replaced by labels of its own."""
    equation = node.attribute("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted(set(left) - {",", "."})
        right = ("..." if "..." in left else "") + "".join(c for c in letters if left.count(c) == 1)
    free = [c for c in string.ascii_letters if c not in equation]
    ranks = [
        len(node.shape(name)) - len(t.replace("...", "")) for name, t in zip(node.inputs, terms, strict=True)
    ]
    hidden = max((rank for rank, term in zip(ranks, terms, strict=True) if "..." in term), default=0)
    batch = "".join(free[:hidden])
    terms = [
        term.replace("...", batch[len(batch) - rank :] if rank else "")
        for term, rank in zip(terms, ranks, strict=True)
    ]
    return terms, right.replace("...", batch)


def _sizes(node: Site, terms: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, term in zip(node.inputs, terms, strict=True):
        for label, size in zip(term, node.shape(name), strict=True):
            if sizes.setdefault(label, size) != size:
                raise UnsupportedError(
                    f"label {label!r} has sizes {sizes[label]} and {size}: expand the operand first"
                )
    return sizes


def _diagonal(node: Site, operand: _Operand, sizes: dict[str, int]) -> _Operand:
    """Return the operand with one axis per label: of axes [n, n] seen as [n n], every (n + 1)-th element."""
    name, labels = operand
    for label in sorted(set(labels)):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            others = [axis for axis in range(len(labels)) if axis not in (first, second)]
            labels = "".join(labels[axis] for axis in others) + label
            flat = node.reshape(
                node.emit("Transpose", name, perm=[*others, first, second]),
                [*(sizes[other] for other in labels[:-1]), sizes[label] ** 2],
            )
            start, end, axis, step = 0, sizes[label] ** 2, len(others), sizes[label] + 1
            name = node.emit("Slice", flat, *(node.ints([value]) for value in (start, end, axis, step)))
    return _Operand(name, labels)


def _reduced(node: Site, operand: _Operand, needed: set[str]) -> _Operand:
    axes = [axis for axis, label in enumerate(operand.labels) if label not in needed]
    if not axes:
        return operand
    kept = "".join(label for label in operand.labels if label in needed)
    return _Operand(node.reduce("ReduceSum", operand.name, axes, keepdims=0), kept)


def _ordered(node: Site, operand: _Operand, labels: str) -> _Operand:
    if operand.labels == labels:
        return operand
    order = [operand.labels.index(label) for label in labels]
    return _Operand(node.emit("Transpose", operand.name, perm=order), labels)


def _joined(node: Site, a: _Operand, b: _Operand, needed: set[str], sizes: dict[str, int]) -> _Operand:
    """Return sum over shared, no longer needed labels of a * b: [batch, m, k] x [batch, k, n]."""
    shared = [label for label in a.labels if label in b.labels]
    batch = "".join(label for label in shared if label in needed)
    inner = "".join(label for label in shared if label not in needed)
    rows = "".join(label for label in a.labels if label not in shared)
    columns = "".join(label for label in b.labels if label not in shared)

    def size(labels: str) -> int:
        result = 1
        for label in labels:
            result *= sizes[label]
        return result

    left = node.reshape(_ordered(node, a, batch + rows + inner).name, (size(batch), size(rows), size(inner)))
    right = node.reshape(
        _ordered(node, b, batch + inner + columns).name, (size(batch), size(inner), size(columns))
    )
    product = node.emit("MatMul", left, right)
    labels = batch + rows + columns
    return _Operand(node.reshape(product, [sizes[label] for label in labels]), labels)
