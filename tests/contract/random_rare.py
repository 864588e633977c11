"""More steps of random models: what is rare in networks and easy to get wrong."""

from __future__ import annotations

from onnx import TensorProto, helper

from .random_graphs import Sketch
from .random_steps import step
from .random_views import channel_axis, resized


@step()
def computed_weight(s: Sketch) -> bool:
    """A weight that is joined, cut, scaled or permuted when the model runs."""
    x = s.choice([s.tensor(3), s.tensor(2)])
    if x is None:
        return False
    *front, c = s.shapes[x]
    kind = s.pick(5)
    if kind == 0:
        w = s.node("Concat", [s.weight(c, 150), s.weight(c, 2)], (c, 152), axis=1)
        w = s.node("Slice", [w, s.constant([148]), s.constant([999]), s.constant([1])], (c, 4))
    elif kind == 1:
        w = s.node("Transpose", [s.weight(4, c)], (c, 4), perm=[1, 0])
    elif kind == 2:
        w = s.node("Mul", [s.weight(c, 4), s.weight(4, name="p")], (c, 4))
    elif kind == 3:
        w = s.many("Split", [s.weight(c, 8), s.constant([4, 4])], [(c, 4), (c, 4)], axis=1)[s.pick(2)]
    else:
        w = s.node("Reshape", [s.weight(c, 2, 2), s.constant([c, 4])], (c, 4))
    y = s.node("MatMul", [x, w], (*front, 4))
    if s.maybe(2):
        y = s.node("Add", [y, s.weight(4, name="b")], (*front, 4))
    s.keep(y)
    return True


@step()
def half_precision(s: Sketch) -> bool:
    """There and back; the values are rounded, the lanes stay."""
    x = s.tensor()
    if x is None:
        return False
    half = s.node("Cast", [x], s.shapes[x], to=TensorProto.FLOAT16)
    s.keep(s.node("Cast", [half], s.shapes[x], to=s.dtype))
    return True


@step()
def sizes_computed(s: Sketch) -> bool:
    """Flatten or restore by shape arithmetic."""
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    shape = s.node("Shape", [x], (4,))
    if s.maybe(2):
        front = s.node("Slice", [shape, s.constant([0]), s.constant([2])], (2,))
        target = s.node("Concat", [front, s.constant([-1])], (3,), axis=0)
        flat = s.node("Reshape", [x, target], (n, c, h * w))
        flat = s.node("Softsign", [flat], s.shapes[flat])
        s.keep(s.node("Reshape", [flat, shape], (n, c, h, w)))
    else:
        pooled = s.node("GlobalAveragePool", [x], (n, c, 1, 1))
        s.keep(s.node("Expand", [pooled, shape], (n, c, h, w)))
    return True


@step()
def computed_places(s: Sketch) -> bool:
    """Positions that are gathered or overwritten, those of an axis the same for all others or not."""
    x = s.tensor()
    if x is None:
        return False
    shape = s.shapes[x]
    axis = s.pick(len(shape) - 1) + 1
    size = shape[axis]
    if s.maybe(3):
        first, last = s.constant([0]), s.constant([1])
        row = s.node("Slice", [x, first, last, s.constant([0])], (1, *shape[1:]))
        s.keep(s.node("ScatterND", [x, s.constant([[0]]), s.node("Neg", [row], s.shapes[row])], shape))
        return True
    listed = [s.pick(size) for _ in range(size)] if s.maybe(2) else list(range(size))[::-1]
    form = [size if i == axis else 1 for i in range(len(shape))]
    some = s.node("Reshape", [s.constant(listed), s.constant(form)], tuple(form))
    index = s.node("Expand", [some, s.node("Shape", [x], (len(shape),))], shape)
    gathered = s.node("GatherElements", [x, index], shape, axis=axis)
    if len(set(listed)) == size and s.maybe(2):
        gathered = s.node("ScatterElements", [x, index, gathered], shape, axis=axis)
    s.keep(gathered)
    return True


@step()
def norm_over_all(s: Sketch) -> bool:
    """A norm over all channels and positions at once, as exporters write it."""
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    flat = s.node("Reshape", [x, s.constant([0, 1, -1])], (n, 1, c * h * w))
    kind = helper.tensor_dtype_to_np_dtype(s.dtype)
    one, nil = s.constant([1.0], kind), s.constant([0.0], kind)
    normal = s.node("InstanceNormalization", [flat, one, nil], (n, 1, c * h * w), epsilon=0.1)
    back = s.node("Reshape", [normal, s.constant([-1, c, h, w])], (n, c, h, w))
    y = s.node("Mul", [back, s.weight(c, 1, 1, name="s")], (n, c, h, w))
    s.keep(s.node("Add", [y, s.weight(c, 1, 1, name="b")], (n, c, h, w)))
    return True


@step()
def scores(s: Sketch) -> bool:
    """A matrix of products between positions, or between channels, and back."""
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    other = s.node("Transpose", [x], (n, c, t), perm=[0, 2, 1])
    if s.maybe(2):
        e = s.node("MatMul", [x, other], (n, t, t))
        s.keep(s.node("MatMul", [s.node("Tanh", [e], (n, t, t)), x], (n, t, c)))
    else:
        e = s.node("MatMul", [other, x], (n, c, c))
        s.keep(s.node("MatMul", [x, s.node("Tanh", [e], (n, c, c))], (n, t, c)))
    return True


@step()
def rotary(s: Sketch) -> bool:
    """Halves of every head swapped, one negated."""
    x = s.tensor(3, least=4)
    if x is None or s.shapes[x][2] % 4:
        return False
    n, t, c = s.shapes[x]
    heads, width = s.choice(((c // 4, 4), (1, c), (2, c // 2)))
    if width % 2:
        return False
    r = s.node("Reshape", [x, s.constant([0, t, heads, width])], (n, t, heads, width))
    q = s.node("Transpose", [r], (n, heads, t, width), perm=[0, 2, 1, 3])
    half = (n, heads, t, width // 2)
    bounds = [s.constant([v]) for v in (0, width // 2, 999, 3)]
    a = s.node("Slice", [q, bounds[0], bounds[1], bounds[3]], half)
    b = s.node("Neg", [s.node("Slice", [q, bounds[1], bounds[2], bounds[3]], half)], half)
    j = s.node("Add", [q, s.node("Concat", [b, a], s.shapes[q], axis=-1)], s.shapes[q])
    back = s.node("Transpose", [j], (n, t, heads, width), perm=[0, 2, 1, 3])
    s.keep(s.node("Reshape", [back, s.constant([0, t, c])], (n, t, c)))
    return True


@step()
def grouped_queries(s: Sketch) -> bool:
    """Heads of one tensor spread over twice as many by Expand."""
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    k = s.node("MatMul", [x, s.weight(c, 4)], (n, t, 4))
    q = s.node("MatMul", [x, s.weight(c, 8)], (n, t, 8))
    r = s.node("Reshape", [k, s.constant([0, t, 2, 1, 2])], (n, t, 2, 1, 2))
    e = s.node("Expand", [r, s.constant([1, 1, 1, 2, 1])], (n, t, 2, 2, 2))
    m = s.node("Reshape", [e, s.constant([0, t, 8])], (n, t, 8))
    s.keep(s.node("Mul", [q, m], (n, t, 8)))
    return True


@step()
def one_channel(s: Sketch) -> bool:
    """A single channel taken out, or a map of one channel, as a gate or a shift of all."""
    x = s.tensor(4, least=2)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    if s.maybe(2):
        one = s.node("Gather", [x, s.constant(s.pick(c))], (n, h, w), axis=1)
        one = s.node("Unsqueeze", [one, s.constant([1])], (n, 1, h, w))
    else:
        one = s.node("Conv", [x, s.weight(1, c, 1, 1)], (n, 1, h, w))
    s.keep(s.node(s.choice(("Mul", "Add")), [x, one], (n, c, h, w)))
    return True


@step()
def vector_to_all(s: Sketch) -> bool:
    """A vector [N,C] added to every position."""
    x = s.tensor(2)
    y = s.tensor(4) if s.maybe(2) else s.tensor(3)
    if x is None or y is None:
        return False
    n, c = s.shapes[x]
    d = s.channels(y)
    z = s.node("MatMul", [x, s.weight(c, d)], (n, d))
    wide = (n, d, 1, 1) if len(s.shapes[y]) == 4 else (n, 1, d)
    z = s.node("Reshape", [z, s.constant([-1, *wide[1:]])], wide)
    s.keep(s.node(s.choice(("Add", "Mul")), [y, z], s.shapes[y]))
    return True


@step()
def along_channels(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    shape, axis = s.shapes[x], channel_axis(s, x)
    kind = s.pick(3)
    if kind == 0:
        y = s.node("CumSum", [x, s.constant(axis)], shape)
    elif kind == 1:
        y = s.many("TopK", [x, s.constant([1])], [resized(shape, axis, 1)] * 2, axis=axis)[0]
        y = s.node("Mul", [x, y], shape)
    else:
        i = s.node("ArgMax", [x], resized(shape, len(shape) - 1, 1), axis=-1)
        y = s.node("Mul", [x, s.node("Cast", [i], s.shapes[i], to=s.dtype)], shape)
    s.keep(y)
    return True


@step()
def odd_view(s: Sketch) -> bool:
    """Channels and space dealt out differently, an activation in between, and back."""
    x = s.tensor(4, least=4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    total = c * h * w
    inner = s.choice([k for k in (2, 3, 4, 9, 8) if total % k == 0] or [1])
    a = s.node("Reshape", [x, s.constant([0, inner, total // inner])], (n, inner, total // inner))
    s.keep(s.node("Reshape", [s.node("Tanh", [a], s.shapes[a]), s.constant([0, c, h, w])], (n, c, h, w)))
    return True


@step()
def einsum(s: Sketch) -> bool:
    x = s.tensor(3)
    if x is None:
        return False
    n, t, c = s.shapes[x]
    y = s.node("Einsum", [x, s.weight(c, 2, 3)], (n, 2, t, 3), equation="btc,chd->bhtd")
    y = s.node("Relu", [y], s.shapes[y])
    s.keep(s.node("Einsum", [y, s.weight(2, 3, 4)], (n, t, 4), equation="bhtd,hdo->bto"))
    return True


@step()
def recurrent(s: Sketch) -> bool:
    x = s.tensor(3)
    if x is None or s.shapes[x][1] > 16:
        return False
    n, t, c = s.shapes[x]
    op, gates = s.choice((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    both = s.maybe(2)
    d, direction = (2, "bidirectional") if both else (1, "forward")
    first = s.node("Transpose", [x], (t, n, c), perm=[1, 0, 2])
    inputs = [first, s.weight(d, 4 * gates, c), s.weight(d, 4 * gates, 4), s.weight(d, 8 * gates, name="b")]
    y = s.node(op, inputs, (t, d, n, 4), hidden_size=4, direction=direction)
    y = s.node("Transpose", [y], (n, t, d, 4), perm=[2, 0, 1, 3])
    s.keep(s.node("Reshape", [y, s.constant([0, t, 4 * d])], (n, t, 4 * d)))
    return True


@step()
def group_norm(s: Sketch) -> bool:
    """Normalisation of groups of channels written out by reshapes, as exporters do below opset 21."""
    x = s.tensor(4, least=4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    groups = s.choice([g for g in (2, 3) if c % g == 0] or [1])
    a = s.node("Reshape", [x, s.constant([0, groups, -1])], (n, groups, c // groups * h * w))
    v = [s.weight(groups, name="s"), s.weight(groups, name="b")]
    b = s.node("InstanceNormalization", [a, *v], s.shapes[a], epsilon=0.1)
    b = s.node("Reshape", [b, s.constant([0, c, h, w])], (n, c, h, w))
    s.keep(s.node("Mul", [b, s.weight(c, 1, 1, name="p")], (n, c, h, w)))
    return True
