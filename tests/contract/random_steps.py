"""The steps random models are made of. A step returns False when nothing in the sketch fits it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .random_graphs import Sketch

Step = Callable[[Sketch], bool]
STEPS: list[Step] = []


def step(weight: int = 1) -> Callable[[Step], Step]:
    """Register a step; it is chosen `weight` times as often as others."""

    def register(function: Step) -> Step:
        STEPS.extend([function] * weight)
        return function

    return register


ACTIVATIONS = (
    "Relu",
    "Tanh",
    "Sigmoid",
    "LeakyRelu",
    "Softplus",
    "Elu",
    "HardSwish",
    "Softsign",
    "Abs",
    "Exp",
    "Erf",
)


@step(4)
def activation(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    op = s.choice(ACTIVATIONS)
    if op == "Exp":  # not of a large number
        x = s.node("Tanh", [x], s.shapes[x])
    s.keep(s.node(op, [x], s.shapes[x]))
    return True


@step(5)
def conv(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    out, kernel = s.choice((2, 4, 6, 8)), s.choice((1, 3))
    inputs = [x, s.weight(out, c, kernel, kernel)] + ([s.weight(out, name="b")] if s.maybe(2) else [])
    s.keep(s.node("Conv", inputs, (n, out, h, w), pads=[kernel // 2] * 4))
    return True


@step(2)
def grouped_conv(s: Sketch) -> bool:
    x = s.tensor(4, least=4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    groups = s.choice([g for g in (2, 3, 4) if c % g == 0] or [c])
    out = groups * s.choice((1, 2, 3))
    inputs = [x, s.weight(out, c // groups, 3, 3), s.weight(out, name="b")]
    s.keep(s.node("Conv", inputs, (n, out, h, w), group=groups, pads=[1] * 4))
    return True


@step(2)
def depthwise(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    out = c * s.choice((1, 1, 2))
    s.keep(s.node("Conv", [x, s.weight(out, 1, 3, 3)], (n, out, h, w), group=c, pads=[1] * 4))
    return True


@step()
def conv_transpose(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][2] > 8:
        return False
    n, c, h, w = s.shapes[x]
    groups = s.choice([g for g in (1, 1, 2) if c % g == 0])
    out = s.choice((1, 2, 3))
    inputs = [x, s.weight(c, out, 2, 2), s.weight(out * groups, name="b")]
    s.keep(s.node("ConvTranspose", inputs, (n, out * groups, 2 * h, 2 * w), strides=[2, 2], group=groups))
    return True


@step(2)
def batch_norm(s: Sketch) -> bool:
    x = s.choice([s.tensor(4), s.tensor(2)])
    if x is None:
        return False
    c = s.shapes[x][1]
    vectors = [s.weight(c, name=n) for n in ("s", "b", "m", "var")]
    s.keep(s.node("BatchNormalization", [x, *vectors], s.shapes[x]))
    return True


@step()
def instance_norm(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or s.shapes[x][2] * s.shapes[x][3] < 8:
        return False
    c = s.shapes[x][1]
    vectors = [s.weight(c, name="s"), s.weight(c, name="b")]
    s.keep(s.node("InstanceNormalization", [x, *vectors], s.shapes[x], epsilon=0.1))
    return True


@step(2)
def layer_norm(s: Sketch) -> bool:
    x = s.choice([s.tensor(3), s.tensor(2)])
    if x is None:
        return False
    c = s.shapes[x][-1]
    vectors = [s.weight(c, name="s")] + ([s.weight(c, name="b")] if s.maybe(2) else [])
    s.keep(s.node("LayerNormalization", [x, *vectors], s.shapes[x], epsilon=0.1))
    return True


@step()
def channels_last_norm(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None:
        return False
    n, c, h, w = s.shapes[x]
    t = s.node("Transpose", [x], (n, h, w, c), perm=[0, 2, 3, 1])
    vectors = [s.weight(c, name="s"), s.weight(c, name="b")]
    t = s.node("LayerNormalization", [t, *vectors], (n, h, w, c), epsilon=0.1)
    s.keep(s.node("Transpose", [t], (n, c, h, w), perm=[0, 3, 1, 2]))
    return True


@step(5)
def two_operands(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    y = s.tensor(like=s.shapes[x])
    assert y is not None
    op = s.choice(("Add", "Add", "Add", "Mul", "Mul", "Sub", "Max", "Min"))
    s.keep(s.node(op, [x, y], s.shapes[x]))
    return True


@step(2)
def divided(s: Sketch) -> bool:
    """x / (1 + |y|), or x / (1 + exp(-y)): the divisor is never near zero."""
    x = s.tensor()
    if x is None:
        return False
    shape = s.shapes[x]
    y = s.tensor(like=shape)
    assert y is not None
    bottom = s.node("Add", [s.node("Abs", [y], shape), s.scalar(1.0)], shape)
    s.keep(s.node("Div", [x, bottom], shape))
    return True


@step(2)
def parameter_operand(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    c = s.channels(x)
    wide = (1, c, 1, 1) if len(s.shapes[x]) == 4 else (c,)
    op = s.choice(("Add", "Mul", "Sub", "Max", "PRelu"))
    s.keep(s.node(op, [x, s.weight(*wide, name="p")], s.shapes[x]))
    return True


@step()
def scalar_operand(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    op = s.choice(("Add", "Mul", "Sub", "Max", "Min"))
    s.keep(s.node(op, [x, s.scalar(s.choice((0.0, 0.5, -1.0)))], s.shapes[x]))
    return True


@step()
def masked(s: Sketch) -> bool:
    x = s.tensor()
    if x is None:
        return False
    shape = s.shapes[x]
    y = s.tensor(like=shape)
    assert y is not None
    mask = s.node("Greater", [x, s.scalar(0.1)], shape)
    other = s.choice([y, s.scalar(0.0), s.scalar(0.25)])
    s.keep(s.node("Where", [mask, x, other], shape))
    return True


@step(2)
def gate(s: Sketch) -> bool:
    """Squeeze and excitation."""
    x = s.tensor(4)
    if x is None:
        return False
    n, c, *_ = s.shapes[x]
    pooled = s.node("GlobalAveragePool", [x], (n, c, 1, 1))
    a = s.node("Relu", [s.node("Conv", [pooled, s.weight(3, c, 1, 1)], (n, 3, 1, 1))], (n, 3, 1, 1))
    b = s.node("Conv", [a, s.weight(c, 3, 1, 1), s.weight(c, name="b")], (n, c, 1, 1))
    s.keep(s.node("Mul", [x, s.node("Sigmoid", [b], (n, c, 1, 1))], s.shapes[x]))
    return True


@step(3)
def pool(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or min(s.shapes[x][2:]) < 2:
        return False
    n, c, h, w = s.shapes[x]
    op = s.choice(("MaxPool", "AveragePool"))
    if s.maybe(2):
        attributes = {"count_include_pad": 1} if op == "AveragePool" and s.maybe(2) else {}
        s.keep(s.node(op, [x], (n, c, h, w), kernel_shape=[3, 3], pads=[1] * 4, **attributes))
    else:
        s.keep(s.node(op, [x], (n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2]))
    return True


@step()
def resized(s: Sketch) -> bool:
    x = s.tensor(4)
    if x is None or max(s.shapes[x][2:]) > 6:
        return False
    n, c, h, w = s.shapes[x]
    scales = s.constant([1, 1, 2, 2], np.float32)
    s.keep(s.node("Resize", [x, "", scales], (n, c, 2 * h, 2 * w), mode="nearest"))
    return True


@step(3)
def linear(s: Sketch) -> bool:
    x = s.choice([s.tensor(3), s.tensor(2)])
    if x is None:
        return False
    *front, c = s.shapes[x]
    out = s.choice((2, 4, 8, 12))
    if len(front) == 1 and s.maybe(2):
        y = s.node("Gemm", [x, s.weight(out, c), s.weight(out, name="b")], (*front, out), transB=1, alpha=0.5)
    else:
        y = s.node("MatMul", [x, s.weight(c, out)], (*front, out))
    s.keep(y)
    return True
