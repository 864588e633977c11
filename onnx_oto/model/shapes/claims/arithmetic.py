"""Output shapes that follow from partly known values and from open sizes."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims.table import Claimed, broadcast, claims
from onnx_oto.model.shapes.dims import (
    Dim,
    Shape,
    add,
    divide,
    grows,
    largest,
    least,
    multiply,
    product,
    quotient,
    smallest,
    subtract,
)
from onnx_oto.model.shapes.values import argument, is_known, sizes

MOST_DENOMINATOR = 1000
"""A factor of a resize is counted as the nearest quotient with no larger denominator."""

HUGE = 2**31 - 1


@claims("Reshape")
def _reshape(node: Node, facts: Claimed) -> Shape | None:
    """One open size follows from the element count, whether it is written -1 or just unknown."""
    source = facts.shape(node, 0)
    target = facts.sizes(node, 1)
    if target is None:
        return None
    result = list(target)
    if not node.attrs.get("allowzero", 0):
        for axis, size in enumerate(target):
            if size == 0:
                result[axis] = source[axis] if source is not None and axis < len(source) else None
    open_axes = [axis for axis, size in enumerate(result) if size is None or size == -1]
    for axis in open_axes:
        result[axis] = None
    if len(open_axes) == 1 and source is not None:
        rest = product(size for axis, size in enumerate(result) if axis != open_axes[0])
        result[open_axes[0]] = divide(product(source), rest)
    return tuple(result)


@claims("Add", "Sub", "Mul", "Div", "Pow", "Where", "Sum", "Max", "Min", "Mean", "And", "Or", "Equal")
def _elementwise(node: Node, facts: Claimed) -> Shape | None:
    """A named size broadcast against one that is not known is the named one: symbols are taken not to be 1."""
    shapes = [facts.shapes.get(name) for name in node.inputs if name]
    if not shapes:
        return None
    return functools.reduce(lambda a, b: _met(a, b, facts), shapes)


def _met(a: Shape | None, b: Shape | None, facts: Claimed) -> Shape | None:
    """Return the shape that two shapes broadcast to; where two open sizes meet, a symbol: about the larger one."""
    found = broadcast(a, b)
    if a is None or b is None or found is None:
        return None

    def named(axis: int, size: Dim) -> Dim:
        """Return the size of an axis, counted from the last one."""
        pair = [shape[-axis] for shape in (a, b) if axis <= len(shape)]
        if size is not None or len(pair) < 2:
            return size
        one, other = pair
        if not isinstance(one, str) or not isinstance(other, str):
            return None
        return facts.symbols.of("broadcast", *sorted(pair, key=str), about=largest(one, other))

    return tuple(named(len(found) - place, size) for place, size in enumerate(found))


@claims("Flatten")
def _flatten(node: Node, facts: Claimed) -> Shape | None:
    source = facts.shape(node, 0)
    if source is None:
        return None
    axis = node.attrs.get("axis", 1)
    axis += len(source) if axis < 0 else 0
    return product(source[:axis]), product(source[axis:])


@claims("Expand")
def _expand(node: Node, facts: Claimed) -> Shape | None:
    target = facts.sizes(node, 1)
    return None if target is None else broadcast(facts.shape(node, 0), tuple(target))


@claims("ConstantOfShape")
def _constant_of_shape(node: Node, facts: Claimed) -> Shape | None:
    target = facts.sizes(node, 0)
    return None if target is None else tuple(target)


@claims("Tile")
def _tile(node: Node, facts: Claimed) -> Shape | None:
    source, repeats = facts.shape(node, 0), facts.sizes(node, 1)
    if source is None or repeats is None or len(source) != len(repeats):
        return None
    return tuple(multiply(size, count) for size, count in zip(source, repeats, strict=True))


@claims("Range")
def _range(node: Node, facts: Claimed) -> Shape | None:
    start, limit, delta = (facts.sizes(node, i) for i in range(3))
    if not (start and limit and delta) or not isinstance(delta[0], int) or delta[0] <= 0:
        return None
    return (quotient(add(limit[0], multiply(-1, start[0]), delta[0] - 1), delta[0]),)


@claims("TopK")
def _top_k(node: Node, facts: Claimed) -> Shape | None:
    source, count = facts.shape(node, 0), facts.sizes(node, 1)
    if source is None or count is None or len(count) != 1:
        return None
    result = list(source)
    result[node.attrs.get("axis", -1)] = count[0]
    return tuple(result)


@claims("Compress")
def _compress(node: Node, facts: Claimed) -> Shape | None:
    """As many positions as a known condition has that hold."""
    source, condition = facts.shape(node, 0), facts.value(node, 1)
    if source is None or condition is None or not is_known(condition):
        return None
    count = int(np.count_nonzero(condition))
    if "axis" not in node.attrs:
        return (count,)
    result = list(source)
    result[node.attrs["axis"]] = count
    return tuple(result)


@claims("OneHot")
def _one_hot(node: Node, facts: Claimed) -> Shape | None:
    indices, depth = facts.shape(node, 0), facts.sizes(node, 1)
    if indices is None or depth is None or len(depth) != 1:
        return None
    result = list(indices)
    axis = node.attrs.get("axis", -1)
    result.insert(axis if axis >= 0 else len(indices) + 1 + axis, depth[0])
    return tuple(result)


@claims("Concat")
def _concat(node: Node, facts: Claimed) -> Shape | None:
    """The sum of open sizes along the axis; other axes are equal, so the best known of each is taken."""
    sources = [facts.shapes.get(name) for name in node.inputs]
    found = [source for source in sources if source is not None]
    if len(found) < len(sources) or len({len(source) for source in found}) != 1 or "axis" not in node.attrs:
        return None
    axis = node.attrs["axis"] % len(found[0])
    result = [_known(column) for column in zip(*found, strict=True)]
    result[axis] = add(*(source[axis] for source in found))
    return tuple(result)


def _known(equal: tuple[Dim, ...]) -> Dim:
    ints = [size for size in equal if isinstance(size, int)]
    return ints[0] if ints else next((size for size in equal if size is not None), None)


@claims("Pad")
def _pad(node: Node, facts: Claimed) -> Shape | None:
    source = facts.shape(node, 0)
    pads = node.attrs.get("pads") or sizes(facts.value(node, 1))
    if source is None or pads is None:
        return None
    given = [None, None, None, facts.value(node, 3)]
    axes = argument(node, given, 3, "axes", list(range(len(source))))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    result = list(source)
    for position, axis in enumerate(axes):
        result[axis] = add(source[axis], pads[position], pads[position + len(axes)])
    return tuple(result)


@claims("Slice")
def _slice(node: Node, facts: Claimed) -> Shape | None:
    """Axes that a slice does not mention, or takes as a whole, keep their size."""
    source = facts.shape(node, 0)
    given = [None, *(facts.value(node, position) for position in range(1, 5))]
    starts = node.attrs.get("starts", facts.sizes(node, 1))
    ends = node.attrs.get("ends", facts.sizes(node, 2))
    if source is None or starts is None or ends is None:
        return None
    axes = argument(node, given, 3, "axes", list(range(len(starts))))
    steps = argument(node, given, 4, "steps", [1] * len(starts))
    if axes is None or steps is None:
        return None
    result = list(source)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        result[axis] = _cut(source[axis], start, end, step, facts)
    return tuple(result)


def _cut(size: Dim, start: Dim, end: Dim, step: int, facts: Claimed) -> Dim:
    if size is None or start is None or end is None:
        return None
    if step == -1 and start in (-1, size) and isinstance(end, int) and end <= -HUGE:
        return size
    if step <= 0:
        return None
    first = (
        start if isinstance(start, int) and start >= 0 and isinstance(size, str) else _position(start, size)
    )
    last = _position(end, size)
    length = subtract(last, first)
    surely = _surely_there(start, size) and _surely_there(end, size)
    if isinstance(length, str) and grows(length):
        return quotient(add(length, step - 1), step)
    if isinstance(length, int) and surely:
        return max(0, -(-length // step))
    if first == 0 and step == 1 and (isinstance(end, str) or end >= 0):
        return smallest(end, size)
    return facts.symbols.of("slice", size, start, end, step)


def _position(bound: Dim, size: Dim) -> Dim:
    """Return where a bound of a slice lies on an axis that is long enough for it, from the start of the axis."""
    if isinstance(bound, int) and isinstance(size, int):
        return min(max(bound + size if bound < 0 else bound, 0), size)
    if isinstance(bound, int) and bound < 0:
        return add(size, bound)
    if bound == size or (isinstance(bound, int) and bound >= HUGE) or least(subtract(bound, size)) >= 0:
        return size
    return bound if least(subtract(size, bound), symbol=1) >= 0 else None


def _surely_there(bound: Dim, size: Dim) -> bool:
    """Say whether an axis is long enough for a bound that counts from its end."""
    return (
        not (isinstance(bound, int) and bound < 0) or least(size, symbol=1) >= -bound or isinstance(size, int)
    )


@claims("Resize", "Upsample")
def _resize(node: Node, facts: Claimed) -> Shape | None:
    """`sizes` as given; scales as far as they are known: 1 keeps an axis."""
    source = facts.shape(node, 0)
    plain = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch" and "axes" not in node.attrs
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if source is None or not plain or crops:
        return None
    target = facts.sizes(node, 3)
    if target is not None and len(target) == len(source):
        return tuple(target)
    newer = node.op == "Resize" and node.since >= 11
    scales = facts.value(node, 2 if newer else 1) if "scales" not in node.attrs else node.attrs["scales"]
    if scales is None or len(scales) != len(source):
        return None
    return tuple(_scaled(size, scale, facts) for size, scale in zip(source, scales, strict=True))


def _scaled(size: Dim, given: float | str | None, facts: Claimed) -> Dim:
    """Return the size of an axis after scaling, None for a scale that is not a known number."""
    if given is None or isinstance(given, str):
        return None
    scale = float(given)
    if scale.is_integer():
        return multiply(size, int(scale))
    if isinstance(size, int):
        return math.floor(np.float32(size) * np.float32(scale))
    share = Fraction(scale).limit_denominator(MOST_DENOMINATOR)
    about = quotient(multiply(size, share.numerator), share.denominator)
    return None if size is None else facts.symbols.of("scale", size, scale, about=about)


@claims("DepthToSpace", "SpaceToDepth")
def _pixel_shuffle(node: Node, facts: Claimed) -> Shape | None:
    source, block = facts.shape(node, 0), node.attrs.get("blocksize", 1)
    if source is None or len(source) != 4:
        return None
    batch, channels, height, width = source
    if node.op == "DepthToSpace":
        return batch, divide(channels, block * block), multiply(height, block), multiply(width, block)
    return batch, multiply(channels, block * block), divide(height, block), divide(width, block)


@claims("Einsum")
def _einsum(node: Node, facts: Claimed) -> Shape | None:
    """One size per letter; an ellipsis is left to others."""
    equation = node.attrs.get("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) != len(node.inputs):
        return None
    found: dict[str, Dim] = {}
    for letters, name in zip(terms, node.inputs, strict=True):
        shape = facts.shapes.get(name)
        if shape is None or len(shape) != len(letters):
            return None
        for letter, size in zip(letters, shape, strict=True):
            found[letter] = size if found.get(letter) in (None, 1) else _known((found[letter], size))
    if not arrow:
        right = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    return tuple(found[letter] for letter in right) if set(right) <= set(found) else None
