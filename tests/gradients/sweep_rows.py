"""Random one-op models of everything but convolutions and poolings, for central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_oto.gradients import Backend

from .harness import Row

Shape = tuple[int, ...]
Draw = Callable[["Dice"], Row]
FAMILIES: dict[str, Draw] = {}
SIZES = (1, 2, 3, 3, 4)
SCATTERED = ("add", "mul", "max", "min")
UNARY = """
    Abs Celu Cos Cosh Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu Neg Relu Selu Shrink Sigmoid Sin Sinh
    Softplus Softsign Tanh ThresholdedRelu
"""
REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
"""


class Dice:
    """A source of random choices."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def shape(self, low: int = 1, high: int = 4) -> Shape:
        return tuple(self.pick(*SIZES) for _ in range(self.pick(*range(low, high + 1))))

    def part(self, shape: Shape, least: int = 0) -> Shape:
        """Return a shape that broadcasts to another one."""
        rest = shape[self.pick(*range(len(shape) - least + 1)) :]
        return tuple(self.pick(1, n, n) for n in rest)

    def axes(self, rank: int) -> list[int]:
        """Return some axes, at least one, counted from either end."""
        chosen = [axis for axis in range(rank) if self.pick(0, 1)] or [self.pick(*range(rank))]
        return [axis - self.pick(0, rank) for axis in chosen]

    def normal(self, shape: Shape) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def apart(self, shape: Shape) -> np.ndarray:
        """Return numbers that lie apart from each other and from kinks at 0, 1/2, 1, 5/2 and 3."""
        count = int(np.prod(shape))
        numbers = 0.2 * (np.arange(count) - count // 2) + 0.13
        return self.rng.permutation(numbers).reshape(shape)

    def positive(self, shape: Shape) -> np.ndarray:
        return self.rng.uniform(0.3, 2.5, shape)

    def index(self, size: int, shape: Shape) -> np.ndarray:
        return np.asarray(self.rng.integers(-size, size, shape), self.pick(np.int64, np.int32))


def family(*ops: str) -> Callable[[Callable[[str, Dice], Row]], Callable[[str, Dice], Row]]:
    def enter(function: Callable[[str, Dice], Row]) -> Callable[[str, Dice], Row]:
        for op in ops:
            FAMILIES[op] = lambda dice, op=op: function(op, dice)  # type: ignore[misc]
        return function

    return enter


def draw(op: str, seed: int) -> Row:
    """Return a random row, the same for the same arguments."""
    return FAMILIES[op](Dice(*map(ord, op), seed))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@family(*UNARY.split())
def unary(op: str, dice: Dice) -> Row:
    shape = dice.pick((1,), (3, 19), (2, 3, 5), (1, 1, 1), (2, 2, 2, 2, 2))
    return Row(op, f"y = {op}(a)", {"a": dice.apart(shape) / dice.pick(1.0, 3.0)})


@family("Log", "Sqrt", "Reciprocal", "Tan")
def positive(op: str, dice: Dice) -> Row:
    return Row(op, f"y = {op}(a)", {"a": dice.positive(dice.shape()) / 2})


@family("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
def binary(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 5)
    parts = [dice.part(shape, 1), dice.part(shape)] if dice.pick(0, 1) else [shape, dice.part(shape)]
    values = dice.apart((int(sum(np.prod(part) for part in parts)),))
    first = int(np.prod(parts[0]))
    a, b = values[:first].reshape(parts[0]), values[first:].reshape(parts[1])
    if op == "Div":
        b = np.sign(b) * (np.abs(b) + 1)
    body = f"y = {op}(a, b)" if op == "Div" or dice.pick(0, 1) else f"y = {op}(b, a)"
    if op != "Mean":
        return Row(op, body, {"a": a, "b": b})
    half = {"half": np.array(0.5, np.float32)}
    return Row(op, body, {"a": a, "b": b}, half, twin="s = Add(a, b) y = Mul(s, half)")


@family("Pow")
def power(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    exponent = dice.positive(dice.part(shape))
    trained = bool(dice.pick(0, 1))
    base = dice.positive(shape if dice.pick(0, 1) else dice.part(shape, 1))
    params = {"a": base} | ({"p": exponent} if trained else {})
    return Row(op, "y = Pow(a, p)", params, {} if trained else {"p": exponent.astype(np.float32)})


@family("Where")
def where(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    condition = dice.rng.integers(0, 2, dice.part(shape)).astype(bool)
    params = {"a": dice.normal(dice.part(shape, 1)), "b": dice.normal(dice.part(shape))}
    return Row(op, "y = Where(k, a, b)", params, {"k": condition})


@family("PRelu")
def prelu(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    return Row(op, "y = PRelu(a, s)", {"a": dice.apart(shape), "s": dice.normal(dice.part(shape, 1))})


@family("Clip")
def clip(op: str, dice: Dice) -> Row:
    bounds = {"l": np.array(-0.55), "h": np.array(0.75)}
    params = {"a": dice.apart(dice.shape())}
    constants = {key: value.astype(np.float32) for key, value in bounds.items()}
    plain = Row(op, "y = Clip(a, l, h)", params, constants)
    return Row(op, "y = Clip(a, l, h)", params | bounds, {}) if dice.pick(0, 1) else plain


@family("MatMul")
def matmul(op: str, dice: Dice) -> Row:
    batch = dice.shape(0, 2)
    m, k, n = dice.pick(1, 3), dice.pick(1, 2, 5), dice.pick(1, 4)
    a, b = (*dice.part(batch), m, k), (*dice.part(batch), k, n)
    a, b = dice.pick((a, b), (a, b), ((k,), b), (a, (k,)))
    return Row(op, "y = MatMul(a, b)", {"a": a, "b": b})


@family("Gemm")
def gemm(op: str, dice: Dice) -> Row:
    m, k, n = dice.pick(1, 3), dice.pick(1, 2, 5), dice.pick(1, 4)
    left, right = dice.pick(0, 1), dice.pick(0, 1)
    params = {"a": (k, m) if left else (m, k), "b": (n, k) if right else (k, n)}
    c = dice.pick(None, (), (1,), (n,), (m, 1), (1, n), (m, n), (1, 1))
    text = f"alpha={dice.pick(1.0, 0.5)}, beta={dice.pick(1.0, 0.3)}, transA={left}, transB={right}"
    params |= {} if c is None else {"c": c}
    return Row(op, f"y = Gemm<{text}>({', '.join(params)})", params)


@family(*REDUCTIONS.split())
def reduction(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 5)
    values = dice.positive(shape) if op in ("ReduceLogSum", "ReduceProd") else dice.apart(shape) / 3
    keep = dice.pick(0, 1)
    if dice.pick(0, 0, 1):
        return Row(op, f"y = {op}<keepdims={keep}>(a)", {"a": values}, opset=18)
    axes = dice.axes(len(shape))
    return Row(op, f"y = {op}<keepdims={keep}>(a, x)", {"a": values}, {"x": ints(*axes)}, opset=18)


@family("Softmax", "LogSoftmax")
def softmax(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = dice.pick(*range(-len(shape), len(shape)))
    return Row(op, f"y = {op}<axis={axis}>(a)", {"a": shape})


@family("LpNormalization")
def lp(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis, p = dice.pick(*range(-len(shape), len(shape))), dice.pick(1, 2)
    twin = f"n = ReduceL{p}<axes=[{axis}]>(a) y = Div(a, n)"
    return Row(op, f"y = {op}<axis={axis}, p={p}>(a)", {"a": dice.apart(shape)}, twin=twin)


@family("LayerNormalization")
def layer_norm(op: str, dice: Dice) -> Row:
    shape = (*dice.shape(1, 3), dice.pick(3, 4))
    axis = dice.pick(*range(1, len(shape))) - dice.pick(0, len(shape))
    params = {"a": shape, "s": shape[axis:]} | ({"b": shape[axis:]} if dice.pick(0, 1) else {})
    return Row(op, f"y = {op}<axis={axis}>({', '.join(params)})", params)


@family("InstanceNormalization", "GroupNormalization")
def by_channel(op: str, dice: Dice) -> Row:
    shape = (dice.pick(1, 2, 3), 4, *dice.shape(0, 2), dice.pick(2, 3))
    text, sizes = ("<num_groups=2>", (2,)) if op == "GroupNormalization" else ("", (4,))
    return Row(op, f"y = {op}{text}(a, s, b)", {"a": shape, "s": sizes, "b": sizes}, opset=18)


@family("BatchNormalization")
def batch_norm(op: str, dice: Dice) -> Row:
    shape = (dice.pick(2, 3, 5), dice.pick(1, 3), *dice.shape(0, 3))
    running = {"m": np.zeros(shape[1], np.float32), "v": np.ones(shape[1], np.float32)}
    params = {"a": shape, "s": shape[1:2], "b": shape[1:2]}
    body = f"y, n, w = {op}<training_mode=1>(a, s, b, m, v)"
    axes = [0, *range(2, len(shape))]
    column = {"to": ints(1, -1, *(1 for _ in shape[2:]))}
    twin = (
        f"m1 = ReduceMean<axes={axes}>(a) c = Sub(a, m1) q = Mul(c, c) v1 = ReduceMean<axes={axes}>(q) e = Add(v1, k) "
        "d = Sqrt(e) z = Div(c, d) s1 = Reshape(s, to) b1 = Reshape(b, to) t = Mul(z, s1) y = Add(t, b1)"
    )
    constants = running | column | {"k": np.array(1e-5, np.float32)}
    return Row(op, body, params, constants, twin=twin, runs=False)


@family("Gather")
def gather(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = dice.pick(*range(len(shape)))
    index = dice.index(shape[axis], dice.pick((), (1,), (5,), (2, 3)))
    return Row(op, f"y = Gather<axis={axis - dice.pick(0, len(shape))}>(a, i)", {"a": shape}, {"i": index})


@family("GatherElements", "ScatterElements")
def elements(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = dice.pick(*range(len(shape)))
    picked = tuple(dice.pick(*range(1, n + 1)) for n in shape)
    name = axis - dice.pick(0, len(shape))
    if op == "GatherElements":
        picked = (*shape[:axis], dice.pick(1, 2, 5), *shape[axis + 1 :])
        places = list(np.indices(picked))
        places[axis] = dice.index(shape[axis], picked)
        constants = {"i": places[axis], "n": np.stack(places, axis=-1).astype(np.int64)}
        twin = "y = GatherND(a, n)"  # the reference evaluator refuses sizes that differ along the axis
        return Row(op, f"y = {op}<axis={name}>(a, i)", {"a": shape}, constants, twin=twin)
    order = np.argsort(dice.rng.random((*picked[:axis], shape[axis], *picked[axis + 1 :])), axis=axis)
    index = np.take(order, range(picked[axis]), axis=axis)
    text = dice.pick(f"axis={name}", f'axis={name}, reduction="{dice.pick(*SCATTERED)}"')
    params = {"a": dice.apart(shape), "u": dice.apart(picked) + 0.07}
    return Row(op, f"y = {op}<{text}>(a, i, u)", params, {"i": index}, opset=18)


@family("GatherND")
def gather_nd(op: str, dice: Dice) -> Row:
    shape = dice.shape(2, 4)
    batch = dice.pick(0, 0, 1)
    depth = dice.pick(*range(1, len(shape) - batch + 1))
    lead = (*shape[:batch], dice.pick(1, 3))
    index = np.stack([dice.index(shape[batch + j], lead) for j in range(depth)], axis=-1).astype(np.int64)
    return Row(op, f"y = GatherND<batch_dims={batch}>(a, i)", {"a": shape}, {"i": index})


@family("ScatterND")
def scatter_nd(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 3)
    depth = dice.pick(*range(1, len(shape) + 1))
    places = dice.rng.permutation(int(np.prod(shape[:depth])))[: dice.pick(1, 2, 3)]
    index = np.stack(np.unravel_index(places, shape[:depth]), axis=-1).astype(np.int64)
    text = dice.pick("", f'<reduction="{dice.pick(*SCATTERED)}">')
    params = {"a": dice.apart(shape), "u": dice.apart((len(index), *shape[depth:])) + 0.07}
    return Row(op, f"y = ScatterND{text}(a, i, u)", params, {"i": index}, opset=18)


@family("Slice")
def cut(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axes = dice.axes(len(shape))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = shape[axis]
        step = dice.pick(1, 1, 2, 3, -1, -2)
        low, high = sorted(dice.rng.choice(n + 1, 2, replace=False).tolist())
        starts.append(low if step > 0 else high - 1)
        ends.append(high if step > 0 else (low - 1 if low else -n - 1))
        steps.append(step)
    constants = {"s": ints(*starts), "e": ints(*ends), "x": ints(*axes), "t": ints(*steps)}
    return Row(op, "y = Slice(a, s, e, x, t)", {"a": shape}, constants)


@family("Split")
def split(op: str, dice: Dice) -> Row:
    shape = list(dice.shape(1, 4))
    axis = dice.pick(*range(len(shape)))
    sizes = [dice.pick(1, 2, 3) for _ in range(dice.pick(1, 2, 3))]
    shape[axis] = sum(sizes)
    names = [f"y{i}" for i in range(len(sizes))]
    used = [name for name in names if dice.pick(1, 1, 0)] or names[:1]
    body = f"{', '.join(names)} = Split<axis={axis - dice.pick(0, len(shape))}>(a, s)"
    return Row(op, body, {"a": tuple(shape)}, {"s": ints(*sizes)}, outputs=tuple(used))


@family("Concat")
def concat(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = dice.pick(*range(len(shape)))
    params = {
        name: (*shape[:axis], dice.pick(1, 2, 3), *shape[axis + 1 :])
        for name in ("a", "b", "c")[: dice.pick(1, 2, 3)]
    }
    operands = [*params, *(["a"] if dice.pick(0, 1) else [])]
    return Row(op, f"y = Concat<axis={axis - dice.pick(0, len(shape))}>({', '.join(operands)})", params)


@family("Transpose")
def transpose(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 5)
    if dice.pick(0, 0, 0, 1):
        return Row(op, "y = Transpose(a)", {"a": shape})
    return Row(op, f"y = Transpose<perm={dice.rng.permutation(len(shape)).tolist()}>(a)", {"a": shape})


@family("Tile")
def tile(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    return Row(op, "y = Tile(a, h)", {"a": shape}, {"h": ints(*(dice.pick(1, 1, 2, 3) for _ in shape))})


@family("Expand")
def expand(op: str, dice: Dice) -> Row:
    wide = dice.shape(1, 5)
    narrow = dice.part(wide, 1)
    asked = [dice.pick(n, 1) if n == m else n for n, m in zip(wide[::-1], narrow[::-1], strict=False)][::-1]
    return Row(op, "y = Expand(a, h)", {"a": narrow}, {"h": ints(*wide[: len(wide) - len(narrow)], *asked)})


@family("Flatten", "Squeeze", "Unsqueeze", "Reshape")
def view(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    if op == "Flatten":
        return Row(op, f"y = Flatten<axis={dice.pick(*range(-len(shape), len(shape) + 1))}>(a)", {"a": shape})
    if op == "Reshape":
        return Row(op, "y = Reshape(a, h)", {"a": shape}, {"h": ints(*dice.pick([-1], [0, -1], [1, -1, 1]))})
    axis = dice.pick(*range(len(shape)))
    if op == "Unsqueeze":
        return Row(op, "y = Unsqueeze(a, x)", {"a": shape}, {"x": ints(axis, -1)})
    return Row(op, "y = Squeeze(a, x)", {"a": (*shape[:axis], 1, *shape[axis:])}, {"x": ints(axis)})


@family("Trilu")
def trilu(op: str, dice: Dice) -> Row:
    shape = (*dice.shape(0, 2), dice.pick(1, 3, 4), dice.pick(1, 3, 4))
    k = np.array(dice.pick(-1, 0, 1, 2))
    return Row(op, f"y = Trilu<upper={dice.pick(0, 1)}>(a, k)", {"a": shape}, {"k": k})


@family("Pad")
def pad(op: str, dice: Dice) -> Row:
    shape = tuple(n + 2 for n in dice.shape(1, 4))
    mode = dice.pick("constant", "constant", "reflect", "edge")
    pads = [dice.pick(0, 0, 1, 2) for _ in range(2 * len(shape))]
    return Row(op, f'y = Pad<mode="{mode}">(a, p)', {"a": shape}, {"p": ints(*pads)})


@family("TopK")
def topk(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = dice.pick(*range(len(shape)))
    k = dice.pick(*range(1, shape[axis] + 1))
    text = f"axis={axis - dice.pick(0, len(shape))}, largest={dice.pick(0, 1)}"
    return Row(op, f"y, i = TopK<{text}>(a, k)", {"a": dice.apart(shape)}, {"k": ints(k)})


@family("CumSum")
def cumsum(op: str, dice: Dice) -> Row:
    shape = dice.shape(1, 4)
    axis = np.array(dice.pick(*range(-len(shape), len(shape))))
    text = f"exclusive={dice.pick(0, 1)}, reverse={dice.pick(0, 1)}"
    return Row(op, f"y = CumSum<{text}>(a, x)", {"a": shape}, {"x": axis})


@family("DepthToSpace", "SpaceToDepth")
def shuffle(op: str, dice: Dice) -> Row:
    n, c, h, w, b = dice.pick(1, 2, 3), dice.pick(1, 2), dice.pick(1, 2), dice.pick(1, 3), dice.pick(1, 2, 3)
    if op == "SpaceToDepth":
        return Row(op, f"y = {op}<blocksize={b}>(a)", {"a": (n, c, h * b, w * b)})
    mode = dice.pick("DCR", "CRD")
    return Row(op, f'y = {op}<blocksize={b}, mode="{mode}">(a)', {"a": (n, c * b * b, h, w)})


@family("LRN")
def lrn(op: str, dice: Dice) -> Row:
    shape = (dice.pick(1, 2), dice.pick(1, 3, 6), *dice.shape(0, 2), dice.pick(1, 3))
    size = dice.pick(1, 3, 5)
    settings = {"alpha": 0.5, "beta": 0.75, "bias": 1.5}
    text = ", ".join(f"{key}={value}" for key, value in settings.items())
    band = np.abs(np.subtract.outer(range(shape[1]), range(shape[1]))) <= size // 2
    constants = {
        "band": band.astype(np.float32),
        "flat": ints(shape[0], shape[1], -1),
        "back": ints(*shape),
        "g": np.array(0.5 / size, np.float32),
        "bias": np.array(1.5, np.float32),
        "beta": np.array(0.75, np.float32),
    }
    twin = (
        "q = Mul(a, a) f = Reshape(q, flat) s = MatMul(band, f) r = Reshape(s, back) t = Mul(r, g) u = Add(t, bias) "
        "d = Pow(u, beta) y = Div(a, d)"
    )
    return Row(
        op, f"y = LRN<size={size}, {text}>(a)", {"a": shape}, constants, twin=twin, runs=len(shape) == 4
    )


@family("Resize")
def resize(op: str, dice: Dice) -> Row:
    shape = (dice.pick(1, 2), dice.pick(1, 2), *(dice.pick(1, 2, 3, 5) for _ in range(dice.pick(1, 2))))
    mode = dice.pick("nearest", "linear", "cubic") if len(shape) == 4 else dice.pick("nearest", "linear")
    where = dice.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    where = (
        "half_pixel" if mode == "cubic" else where
    )  # the reference evaluator differs from onnxruntime at size 1
    sizes = ints(*shape[:2], *(dice.pick(1, 2, 4, 7) for _ in shape[2:]))
    text = f'mode="{mode}", coordinate_transformation_mode="{where}"'
    return Row(op, f"y = Resize<{text}>(a, , , s)", {"a": shape}, {"s": sizes})


def errors(row: Row, backend: Backend | None = None) -> dict[str, float]:
    """Return the largest errors of the loss and of each gradient, relative to the largest entry or 1."""
    from .harness import differences, ours

    loss, original, grads = ours(row, backend)
    expected, exact = differences(row)
    result = {"loss": abs(loss - expected) / max(1.0, abs(expected))}
    if original is not None:
        result["original"] = abs(original - expected) / max(1.0, abs(expected))
    for name, gradient in exact.items():
        if grads[name].shape != gradient.shape:
            raise AssertionError(
                f"the gradient of {name} has shape {grads[name].shape}, not {gradient.shape}"
            )
        off = np.abs(grads[name] - gradient).max(initial=0.0) / max(1.0, np.abs(gradient).max(initial=0.0))
        result[name] = float(np.nan_to_num(off, nan=np.inf))
    return result
