"""More steps of random models: those that cut, join, rearrange and reduce axes."""

from __future__ import annotations

from .random_graphs import Sketch
from .random_steps import step


def channel_axis(s: Sketch, x: str) -> int:
    """Return the channel axis: 1 of images and vectors, 2 of sequences."""
    return 2 if len(s.shapes[x]) == 3 else 1


def resized(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """Return `shape` with another size of one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


@step(4)
def concat(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    fitting = [
        t
        for t in s.tensors
        if len(s.shapes[t]) == len(shape) and resized(s.shapes[t], axis, 0) == resized(shape, axis, 0)
    ]
    parts = [x, s.choice(fitting)] + ([s.choice(fitting)] if s.maybe(3) else [])
    total = sum(s.shapes[p][axis] for p in parts)
    if total > 24:
        return False
    s.keep(
        s.node("Concat", parts, resized(shape, axis, total), axis=axis - (len(shape) if s.maybe(2) else 0))
    )
    return True


@step()
def concat_elsewhere(s: Sketch) -> bool:
    """Join along space or time, with a parameter now and then."""
    x = s.tensor(4) if s.maybe(2) else s.tensor(3)
    if x is None:
        return False
    shape, axis = s.shapes[x], 1 if len(s.shapes[x]) == 3 else 2
    if shape[axis] > 6:
        return False
    other = s.tensor(like=shape)
    if s.maybe(2):
        other = s.weight(*resized(shape, axis, 1), name="p")
    assert other is not None
    extra = 1 if other not in s.shapes else shape[axis]
    s.keep(s.node("Concat", [x, other], resized(shape, axis, shape[axis] + extra), axis=axis))
    return True


@step(3)
def split(s: Sketch) -> bool:
    x = s.tensor(least=4)
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    first = s.choice(range(1, shape[axis]))
    sizes = [first, shape[axis] - first]
    s.keep(*s.many("Split", [x, s.constant(sizes)], [resized(shape, axis, n) for n in sizes], axis=axis))
    return True


@step(2)
def sliced(s: Sketch) -> bool:
    x = s.tensor(least=3)
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    start, end, stride = s.choice(
        ((0, 2, 1), (1, 999, 1), (0, 999, 2), (-1, -999, -1), (-2, 999, 1), (1, -1, 1))
    )
    taken = len(range(*slice(start, None if end == -999 else end, stride).indices(shape[axis])))
    if taken == 0:
        return False
    inputs = [x, *(s.constant([v]) for v in (start, end, axis, stride))]
    s.keep(s.node("Slice", inputs, resized(shape, axis, taken)))
    return True


@step()
def sliced_elsewhere(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][2] < 3:
        return False
    shape = s.shapes[x]
    inputs = [x, *(s.constant(v) for v in ([0, 1], [999, -1], [1, 2]))]
    s.keep(s.node("Slice", inputs, resized(shape, 2, shape[2] - 2)))
    return True


@step(2)
def gathered(s: Sketch) -> bool:
    x = s.tensor(least=2)
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    size = s.choice((shape[axis], shape[axis], 2, shape[axis] + 1))
    indices = [s.pick(shape[axis]) for _ in range(size)] if s.maybe(2) else list(range(shape[axis]))[::-1]
    s.keep(s.node("Gather", [x, s.constant(indices)], resized(shape, axis, len(indices)), axis=axis))
    return True


@step(2)
def reordered(s: Sketch) -> bool:
    """The channels in another order; half of the time something that works on each channel alone comes behind."""
    x = s.tensor(least=3)
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    places = list(range(shape[axis]))
    order = [places.pop(s.pick(len(places))) for _ in range(shape[axis])]
    y = s.node("Gather", [x, s.constant(order)], shape, axis=axis)
    if len(shape) == 4 and s.maybe(2):
        y = s.node("Conv", [y, s.weight(shape[1], 1, 1, 1)], shape, group=shape[1])
    s.keep(y)
    return True


@step(2)
def padded(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][1] > 12:
        return False
    n, c, h, w = s.shapes[x]
    if s.maybe(2):
        pads, shape = [0, 1, 0, 0, 0, 2, 0, 0], (n, c + 3, h, w)
    else:
        pads, shape = [0, 0, 1, 0, 0, 0, 0, 1], (n, c, h + 1, w + 1)
    value = [s.scalar(s.choice((0.0, 0.5)))] if s.maybe(2) else []
    s.keep(s.node("Pad", [x, s.constant(pads), *value], shape))
    return True


@step(3)
def shuffled(s: Sketch) -> bool:
    x = s.tensor(4, least=4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    groups = s.choice([g for g in (2, 3, 4) if c % g == 0] or [1])
    front = s.choice((0, -1))
    a = s.node("Reshape", [x, s.constant([front, groups, c // groups, h, w])], (n, groups, c // groups, h, w))
    if s.maybe(4):
        a = s.node("Relu", [a], s.shapes[a])
    b = s.node("Transpose", [a], (n, c // groups, groups, h, w), perm=[0, 2, 1, 3, 4])
    s.keep(s.node("Reshape", [b, s.constant([front, c, h, w])], (n, c, h, w)))
    return True


@step()
def depth_to_space(s: Sketch) -> bool:
    x = s.tensor(4, least=4)
    if x is None or s.shapes[x][1] % 4 or s.shapes[x][2] > 6:
        return False
    n, c, h, w = s.shapes[x]
    mode = s.choice(("DCR", "CRD"))
    s.keep(s.node("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2, mode=mode))
    return True


@step()
def space_to_depth(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][2] % 2 or s.shapes[x][3] % 2 or s.shapes[x][1] > 6:
        return False
    n, c, h, w = s.shapes[x]
    s.keep(s.node("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2))
    return True


@step(2)
def flattened(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    if c * h * w > 300:
        return False
    if s.maybe(2):
        flat = s.node("Flatten", [x], (n, c * h * w))
    else:
        flat = s.node("Reshape", [x, s.constant([-1, c * h * w])], (n, c * h * w))
    s.keep(s.node("MatMul", [flat, s.weight(c * h * w, 6)], (n, 6)))
    return True


@step(2)
def averaged(s: Sketch) -> bool:
    """Means over space or time; now and then over channels, as a gate."""
    x = s.tensor()
    if x is None or len(s.shapes[x]) == 2:
        return False
    shape = s.shapes[x]
    if s.maybe(3):
        axis = channel_axis(s, x)
        op = s.choice(("ReduceMean", "ReduceL2", "ReduceMax", "ReduceMin"))
        m = s.node(op, [x], resized(shape, axis, 1), axes=[axis])
        s.keep(s.node("Mul", [x, m], shape))
        return True
    axes = [2, 3] if len(shape) == 4 else [1]
    s.keep(s.node("ReduceMean", [x], shape[:2] if len(shape) == 4 else shape[::2], axes=axes, keepdims=0))
    return True


@step(2)
def softmax(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    axis = s.choice(range(1, len(s.shapes[x])))
    y = s.node("Softmax", [x], s.shapes[x], axis=axis)
    s.keep(y if s.maybe(2) else s.node("Mul", [x, y], s.shapes[x]))
    return True


@step(2)
def to_sequence(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    a = s.node("Reshape", [x, s.constant([0, c, h * w])], (n, c, h * w))
    s.keep(s.node("Transpose", [a], (n, h * w, c), perm=[0, 2, 1]))
    return True


@step(2)
def to_image(s: Sketch) -> bool:
    x = s.tensor(2)
    if x is None:
        return False
    n, c = s.shapes[x]
    s.keep(s.node("Unsqueeze", [x, s.constant([2, 3])], (n, c, 1, 1)))
    return True


@step(4)
def attention(s: Sketch) -> bool:
    """Self-attention over time with heads split off by reshapes; the projections separate or fused."""
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    heads, width = s.choice(((2, 4), (4, 2), (2, 2), (1, 4)))
    full = heads * width
    if s.maybe(2):
        wide = s.node("MatMul", [x, s.weight(c, 3 * full)], (n, t, 3 * full))
        parts = s.many("Split", [wide], [(n, t, full)] * 3, axis=2)
    else:
        parts = [s.node("MatMul", [x, s.weight(c, full)], (n, t, full)) for _ in range(3)]
    split_shape = s.constant([s.choice((0, -1)), t, heads, width])
    views = [s.node("Reshape", [p, split_shape], (n, t, heads, width)) for p in parts]
    q, v = (s.node("Transpose", [p], (n, heads, t, width), perm=[0, 2, 1, 3]) for p in (views[0], views[2]))
    k = s.node("Transpose", [views[1]], (n, heads, width, t), perm=[0, 2, 3, 1])
    e = s.node("Softmax", [s.node("MatMul", [q, k], (n, heads, t, t))], (n, heads, t, t), axis=-1)
    o = s.node("MatMul", [e, v], (n, heads, t, width))
    o = s.node("Transpose", [o], (n, t, heads, width), perm=[0, 2, 1, 3])
    s.keep(s.node("Reshape", [o, s.constant([0, t, full])], (n, t, full)))
    return True


@step()
def tiled(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][1] > 6:
        return False
    n, c, h, w = s.shapes[x]
    times = s.choice((1, 2))
    s.keep(s.node("Tile", [x, s.constant([1, times, 1, 2])], (n, times * c, h, 2 * w)))
    return True


@step()
def expanded(s: Sketch) -> bool:
    """A pooled map spread over space again, or one channel spread over many."""
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    if s.maybe(2):
        pooled = s.node("GlobalMaxPool", [x], (n, c, 1, 1))
        s.keep(s.node("Expand", [pooled, s.constant([1, 1, h, w])], (n, c, h, w)))
    else:
        one = s.node("Conv", [x, s.weight(1, c, 1, 1)], (n, 1, h, w))
        s.keep(s.node("Expand", [one, s.constant([1, c, 1, 1])], (n, c, h, w)))
    return True
