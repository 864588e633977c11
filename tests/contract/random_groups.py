"""Steps of random models in which positions are shared, repeated or left alone by what runs over other axes."""

from __future__ import annotations

from .random_graphs import Sketch
from .random_steps import step
from .random_views import channel_axis


@step()
def repeated_channel(s: Sketch) -> bool:
    """One channel that becomes as many as another map has, as a gate or a shift."""
    x = s.tensor()
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    size = shape[axis]
    if len(shape) == 4:
        one = s.node("Conv", [x, s.weight(1, size, 1, 1)], (shape[0], 1, *shape[2:]))
    else:
        one = s.node("MatMul", [x, s.weight(size, 1)], (*shape[:-1], 1))
    times = [size if i == axis else 1 for i in range(len(shape))]
    kind = s.pick(3)
    if kind == 0:
        wide = s.node("Tile", [one, s.constant(times)], shape)
    elif kind == 1:
        wide = s.node("Concat", [one] * size, shape, axis=axis)
    else:
        wide = s.node("Expand", [one, s.constant(times)], shape)
    s.keep(s.node(s.choice(("Mul", "Mul", "Add")), [x, s.node("Tanh", [wide], shape)], shape))
    return True


@step()
def across_tokens(s: Sketch) -> bool:
    """A convolution or pool whose window has one channel of a sequence."""
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    kind = s.pick(3)
    if kind == 0:
        out = s.choice((1, 2, 4))
        bias = [s.weight(out, name="b")] if s.maybe(3) else []
        s.keep(s.node("Conv", [x, s.weight(out, t, 1), *bias], (n, out, c), kernel_shape=[1]))
        return True
    if kind == 1:
        s.keep(s.node("Conv", [x, s.weight(t, 1, 1)], (n, t, c), group=t))
        return True
    flat = s.node("Unsqueeze", [x, s.constant([1])], (n, 1, t, c))
    op = s.choice(("MaxPool", "AveragePool", "LpPool"))
    pooled = s.node(op, [flat], (n, 1, t, c), kernel_shape=[3, 1], pads=[1, 0, 1, 0])
    s.keep(s.node("Squeeze", [pooled, s.constant([1])], (n, t, c)))
    return True


@step()
def unpooled(s: Sketch) -> bool:
    """The largest of each window, put back to its place."""
    x = s.tensor(4)
    if x is None or any(size < 2 or size % 2 for size in s.shapes[x][2:]):
        return False
    n, c, h, w = s.shapes[x]
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    small = (n, c, h // 2, w // 2)
    value, place = s.many("MaxPool", [x], [small, small], **window)
    value = s.node(s.choice(("Relu", "Tanh", "Sigmoid")), [value], small)
    s.keep(s.node("MaxUnpool", [value, place], (n, c, h, w), **window))
    return True


@step()
def compressed(s: Sketch) -> bool:
    """Some channels, by a constant condition."""
    x = s.tensor(least=3)
    if x is None:
        return False
    shape, axis = list(s.shapes[x]), channel_axis(s, x)
    chosen = [bool(s.pick(2)) for _ in range(shape[axis] - 2)] + [True, True]
    shape[axis] = sum(chosen)
    s.keep(s.node("Compress", [x, s.constant(chosen, bool)], shape, axis=axis))
    return True


@step()
def shared_keys(s: Sketch) -> bool:
    """Attention of several heads over one head of keys and values, broadcast or repeated."""
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    q = s.node("MatMul", [x, s.weight(c, 6)], (n, t, 6))
    q = s.node("Reshape", [q, s.constant([0, t, 2, 3])], (n, t, 2, 3))
    q = s.node("Transpose", [q], (n, 2, t, 3), perm=[0, 2, 1, 3])
    k, v = (s.node("MatMul", [x, s.weight(c, 3)], (n, t, 3)) for _ in range(2))
    k = s.node(
        "Unsqueeze", [s.node("Transpose", [k], (n, 3, t), perm=[0, 2, 1]), s.constant([1])], (n, 1, 3, t)
    )
    v = s.node("Unsqueeze", [v, s.constant([1])], (n, 1, t, 3))
    if s.maybe(2):
        k = s.node("Tile", [k, s.constant([1, 2, 1, 1])], (n, 2, 3, t))
        v = s.node("Expand", [v, s.constant([1, 2, 1, 1])], (n, 2, t, 3))
    scores = s.node("Softmax", [s.node("MatMul", [q, k], (n, 2, t, t))], (n, 2, t, t), axis=-1)
    y = s.node("Transpose", [s.node("MatMul", [scores, v], (n, 2, t, 3))], (n, t, 2, 3), perm=[0, 2, 1, 3])
    y = s.node("Reshape", [y, s.constant([0, t, 6])], (n, t, 6))
    s.keep(s.node("MatMul", [y, s.weight(6, c)], (n, t, c)))
    return True


@step()
def recurrent_from_a_start(s: Sketch) -> bool:
    """A recurrent layer whose first state is a parameter, the same for every sample."""
    x = s.tensor(3)
    if x is None or s.shapes[x][1] > 16:
        return False
    n, t, c = s.shapes[x]
    op, gates = s.choice((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    first = s.node("Transpose", [x], (t, n, c), perm=[1, 0, 2])
    shape = s.node("Shape", [first], (3,))
    batch = s.node("Slice", [shape, s.constant([1]), s.constant([2])], (1,))
    target = s.node("Concat", [s.constant([1]), batch, s.constant([4])], (3,), axis=0)
    start = [
        s.node("Expand", [s.weight(1, 1, 4), target], (1, n, 4)) for _ in range(2 if op == "LSTM" else 1)
    ]
    inputs = [first, s.weight(1, 4 * gates, c), s.weight(1, 4 * gates, 4), "", "", *start]
    y = s.node(op, inputs, (t, 1, n, 4), hidden_size=4)
    y = s.node("Squeeze", [y, s.constant([1])], (t, n, 4))
    s.keep(s.node("Transpose", [y], (n, t, 4), perm=[1, 0, 2]))
    return True
