"""LSTM, GRU and RNN unrolled over their static length.

The products with the input are one MatMul for all steps; each step then multiplies the state by the recurrent weight.
Both directions of a bidirectional layer run in the same steps, stacked on axis 0. Letters: T steps, D directions,
N samples, I inputs, H hidden units, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

MOST_STEPS = 1024  # each step is about ten nodes forward and thirty backward

State = tuple[str, ...]  # (h,) or (h, c), each [D, N, H]


@dataclass(frozen=True)
class _Activation:
    """One of the functions that a gate may have, by its name in lower case, and its two numbers."""

    name: str
    alpha: float
    beta: float


_PLAIN = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softsign": "Softsign",
    "softplus": "Softplus",
}
_SHAPED = {"leakyrelu": "LeakyRelu", "elu": "Elu", "thresholdedrelu": "ThresholdedRelu"}
_NUMBERS: dict[str, tuple[float, ...]] = {
    "leakyrelu": (0.01,),
    "elu": (1.0,),
    "thresholdedrelu": (1.0,),
    "hardsigmoid": (0.2, 0.5),
    "affine": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
}  # the numbers that an activation takes, alpha and beta, and what they are when they are not given


@dataclass(frozen=True)
class _Run:
    """The directions that run together, their weights and functions.

    `r` is [D, H, G H], in the parts that a step multiplies by; `bias` [D, 1, H] what a GRU adds before its reset gate;
    `peepholes` are [D, 1, H] for the gates i, o, f.
    """

    node: Site
    hidden: int
    r: tuple[str, ...]
    functions: tuple[_Activation, ...]
    bias: str = ""
    peepholes: tuple[str, ...] = ()

    def activated(self, which: int, z: str) -> str:
        """Return function `which` of a gate z, clipped before if the node says so."""
        bound = self.node.attribute("clip", 0.0)
        if bound:
            low, high = (self.node.number(sign * bound, self.node.inputs[0]) for sign in (-1, 1))
            z = self.node.emit("Clip", z, low, high)
        return _activation(self.node, self.functions[which], z)

    def parted(self, z: str, *gates: int) -> list[str]:
        """Return z [D, N, gates H] in parts of so many gates each."""
        sizes = self.node.ints(self.hidden * count for count in gates)
        return self.node.emit_many("Split", [z, sizes], len(gates), axis=-1)


Step = Callable[[_Run, str, State], State]


@register("LSTM")
def lstm(node: Site) -> Outcome:
    """i, o, f = F(x W + h R + b + P c), c' = f c + i G(x W + h R + b), h' = o H(c'); o sees c' by its peephole.

    `clip` bounds the gates, not c' before H: so ONNX Runtime reads the standard's "input of activations".
    """
    return _unrolled(node, 4, ("Sigmoid", "Tanh", "Tanh"), 2, _lstm_step)


def _lstm_step(run: _Run, x: str, state: State) -> State:
    node, (h, c) = run.node, state
    i, o, f, g = run.parted(node.emit("Add", x, node.emit("MatMul", h, run.r[0])), 1, 1, 1, 1)

    def seen(z: str, cell: str, gate: int) -> str:
        if not run.peepholes:
            return z
        return node.emit("Add", z, node.emit("Mul", cell, run.peepholes[gate]))

    i = run.activated(0, seen(i, c, 0))
    if node.attribute("input_forget", 0):
        f = node.emit("Sub", node.number(1.0, node.inputs[0]), i)
    else:
        f = run.activated(0, seen(f, c, 2))
    g = run.activated(1, g)
    c = node.emit("Add", node.emit("Mul", f, c), node.emit("Mul", i, g))
    o = run.activated(0, seen(o, c, 1))
    return node.emit("Mul", o, _activation(node, run.functions[2], c)), c


@register("GRU")
def gru(node: Site) -> Outcome:
    """z, r = F(x W + h R + b), g = G(x W + (r h) R + b), h' = (1 - z) g + z h = g + z (h - g).

    With linear_before_reset g = G(x W + b + r (h R + b')).
    """
    step = _gru_step_linear if node.attribute("linear_before_reset", 0) else _gru_step
    return _unrolled(node, 3, ("Sigmoid", "Tanh"), 1, step)


def _gru_step(run: _Run, x: str, state: State) -> State:
    node, (h,) = run.node, state
    x_gates, x_new = run.parted(x, 2, 1)
    r_gates, r_new = run.r
    z, r = run.parted(run.activated(0, node.emit("Add", x_gates, node.emit("MatMul", h, r_gates))), 1, 1)
    reset = node.emit("MatMul", node.emit("Mul", r, h), r_new)
    return _mixed(run, z, run.activated(1, node.emit("Add", x_new, reset)), h)


def _gru_step_linear(run: _Run, x: str, state: State) -> State:
    node, (h,) = run.node, state
    x_gates, x_new = run.parted(x, 2, 1)
    h_gates, h_new = run.parted(node.emit("MatMul", h, run.r[0]), 2, 1)
    z, r = run.parted(run.activated(0, node.emit("Add", x_gates, h_gates)), 1, 1)
    if run.bias:
        h_new = node.emit("Add", h_new, run.bias)
    new = run.activated(1, node.emit("Add", x_new, node.emit("Mul", r, h_new)))
    return _mixed(run, z, new, h)


def _mixed(run: _Run, z: str, new: str, h: str) -> State:
    emit = run.node.emit
    return (emit("Add", new, emit("Mul", z, emit("Sub", h, new))),)


@register("RNN")
def rnn(node: Site) -> Outcome:
    """h' = F(x W + h R + b)."""
    return _unrolled(node, 1, ("Tanh",), 1, _rnn_step)


def _rnn_step(run: _Run, x: str, state: State) -> State:
    node, (h,) = run.node, state
    return (run.activated(0, node.emit("Add", x, node.emit("MatMul", h, run.r[0]))),)


def _unrolled(node: Site, gates: int, functions: Sequence[str], states: int, step: Step) -> Outcome:
    """Return the names of Y and the last states, "" for what nothing reads."""
    steps, samples, _ = _sequence(node)
    if steps > MOST_STEPS:
        raise UnsupportedError(
            f"it runs over {steps} steps, training unrolls up to {MOST_STEPS}: train on shorter samples "
            "(or export the model for them, where it fixes their length)"
        )
    hidden = node.shape(node.inputs[2])[2]
    chosen = _functions(node, functions)
    together = (
        [range(len(chosen))] if len(set(chosen)) == 1 else [range(d, d + 1) for d in range(len(chosen))]
    )
    parts = [
        _run(node, which, chosen[which[0]], (gates, hidden, steps, samples), states, step)
        for which in together
    ]
    joined = [
        names[0] if len(names) == 1 else node.emit("Concat", *names, axis=1 if index == 0 else 0)
        for index, names in enumerate(zip(*parts, strict=True))
    ]
    if node.attribute("layout", 0):
        orders = ([2, 0, 1, 3], *([[1, 0, 2]] * states))
        joined = [node.emit("Transpose", x, perm=order) for x, order in zip(joined, orders, strict=True)]
    read = [node.has_output(i) and node.outputs[i] in node.draft.read for i in range(1 + states)]
    results = [name if wanted else "" for name, wanted in zip(joined, read, strict=True)]
    node.keep_needed(filter(None, results))
    return results


def _sequence(node: Site) -> tuple[int, int, int]:
    """Return (T, N, I) of the input."""
    shape = node.shape(node.inputs[0])
    return (shape[1], shape[0], shape[2]) if node.attribute("layout", 0) else (shape[0], shape[1], shape[2])


def _run(
    node: Site,
    which: range,
    functions: tuple[_Activation, ...],
    sizes: tuple[int, int, int, int],
    states: int,
    step: Step,
) -> list[str]:
    """Run some directions over all steps; return Y [T, D, N, H] and the last states [D, N, H]."""
    gates, hidden, steps, samples = sizes
    backward = [node.attribute("direction", "forward") == "reverse" or d == 1 for d in which]
    wide, bias = _biases(node, which, gates, hidden)
    run = _Run(
        node, hidden, _recurrent(node, which, hidden), functions, bias, _peepholes(node, which, hidden)
    )
    inputs = _split(node, _products(node, which, backward, wide), steps, len(which))
    masks = _masks(node, backward, steps)
    state = tuple(_initial(node, 5 + i, which, (samples, hidden)) for i in range(states))
    results = []
    for t, x in enumerate(inputs):
        after = step(run, x, state)
        if masks:
            valid = [node.emit("Mul", new, masks[0][t]) for new in after]
            kept = [node.emit("Mul", old, masks[1][t]) for old in state]
            after = tuple(node.emit("Add", *pair) for pair in zip(valid, kept, strict=True))
            results.append(valid[0])
        else:
            results.append(after[0])
        state = after
    y = node.reshape(_stacked(node, results), (steps, len(which), samples, hidden))
    return [_in_order(node, y, backward, steps), *state]


def _products(node: Site, which: range, backward: list[bool], bias: str) -> str:
    """Return x W + b of all steps, [T D, N, G H], each direction in the order of its steps."""
    steps, samples, size = _sequence(node)
    x = node.inputs[0]
    if node.attribute("layout", 0):
        x = node.emit("Transpose", x, perm=[1, 0, 2])
    each = [
        node.reshape(_reversed(node, x, steps) if back else x, (1, steps * samples, size))
        for back in backward
    ]
    w = node.emit("Transpose", _directions(node, node.inputs[1], which), perm=[0, 2, 1])
    product = node.emit("MatMul", _stacked(node, each), w)
    if bias:
        product = node.emit("Add", product, bias)
    wide = node.shape(node.inputs[1])[1]
    if len(which) > 1:
        apart = node.reshape(product, (len(which), steps, samples, wide))
        product = node.emit("Transpose", apart, perm=[1, 0, 2, 3])
    return node.reshape(product, (steps * len(which), samples, wide))


def _biases(node: Site, which: range, gates: int, hidden: int) -> tuple[str, str]:
    """Return the bias [D, 1, G H] of the input's products, and [D, 1, H] of the state's where it stays apart."""
    if not node.has_input(3):
        return "", ""
    count, width = len(which), gates * hidden
    apart = node.op == "GRU" and node.attribute("linear_before_reset", 0)
    b = node.reshape(_directions(node, node.inputs[3], which), (count, 1, 2 * width))
    if not apart:
        halves = node.emit_many("Split", [b, node.ints([width, width])], 2, axis=-1)
        return node.emit("Add", *halves), ""
    sizes = [2 * hidden, hidden, 2 * hidden, hidden]
    x_gates, x_new, h_gates, h_new = node.emit_many("Split", [b, node.ints(sizes)], 4, axis=-1)
    return node.emit("Concat", node.emit("Add", x_gates, h_gates), x_new, axis=-1), h_new


def _recurrent(node: Site, which: range, hidden: int) -> tuple[str, ...]:
    """Return the recurrent weight as [D, H, G H]; a GRU that resets its state first needs the last gate apart."""
    r = node.emit("Transpose", _directions(node, node.inputs[2], which), perm=[0, 2, 1])
    if node.op != "GRU" or node.attribute("linear_before_reset", 0):
        return (r,)
    return tuple(node.emit_many("Split", [r, node.ints([2 * hidden, hidden])], 2, axis=-1))


def _peepholes(node: Site, which: range, hidden: int) -> tuple[str, ...]:
    if node.op != "LSTM" or not node.has_input(7):
        return ()
    p = node.reshape(_directions(node, node.inputs[7], which), (len(which), 1, 3 * hidden))
    return tuple(node.emit_many("Split", [p, node.ints([hidden] * 3)], 3, axis=-1))


def _masks(node: Site, backward: list[bool], steps: int) -> tuple[list[str], list[str]] | None:
    """Return per step 1 and 0, [D, N, 1], where the sample's sequence still runs, and the reverse; None if all do.

    A backward direction starts at the last step of all and keeps its initial state until a sequence begins.
    """
    if not node.has_input(4):
        return None
    given = node.draft.constants.get(node.inputs[4])
    if given is not None and (given >= steps).all():
        return None
    times = np.array([[steps - 1 - t if back else t for back in backward] for t in range(steps)])
    length = node.emit("Cast", node.reshape(node.inputs[4], (1, -1, 1)), to=7)  # INT64
    place = node.value(times.reshape(-1, 1, 1), np.int64)
    runs = node.cast_like(node.emit("Less", place, length), node.inputs[0])
    over = node.emit("Sub", node.number(1.0, node.inputs[0]), runs)
    return _split(node, runs, steps, len(backward)), _split(node, over, steps, len(backward))


def _initial(node: Site, index: int, which: range, sizes: tuple[int, int]) -> str:
    """Return an initial state [D, N, H], zeros when it is not given."""
    if not node.has_input(index):
        return node.number(np.zeros((len(which), *sizes)), node.inputs[0])
    state = node.inputs[index]
    if node.attribute("layout", 0):
        state = node.emit("Transpose", state, perm=[1, 0, 2])
    return _directions(node, state, which)


def _directions(node: Site, x: str, which: range) -> str:
    """Return the rows of x that belong to these directions."""
    if node.attribute("direction", "forward") != "bidirectional" or len(which) == 2:
        return x
    return node.emit("Slice", x, node.ints([which.start]), node.ints([which.stop]), node.ints([0]))


def _split(node: Site, x: str, parts: int, size: int) -> list[str]:
    """Return x in parts of `size` rows."""
    return [x] if parts == 1 else node.emit_many("Split", [x, node.ints([size] * parts)], parts, axis=0)


def _stacked(node: Site, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else node.emit("Concat", *parts, axis=0)


def _reversed(node: Site, x: str, steps: int) -> str:
    return _stacked(node, _split(node, x, steps, 1)[::-1])


def _in_order(node: Site, y: str, backward: list[bool], steps: int) -> str:
    """Return y [T, D, N, H] with backward directions turned round, from the order of steps to that of time."""
    if not any(backward):
        return y
    parts = [y] if len(backward) == 1 else node.emit_many("Split", [y, node.ints([1, 1])], 2, axis=1)
    turned = [_reversed(node, p, steps) if back else p for p, back in zip(parts, backward, strict=True)]
    return turned[0] if len(turned) == 1 else node.emit("Concat", *turned, axis=1)


def _functions(node: Site, default: Sequence[str]) -> list[tuple[_Activation, ...]]:
    """Return the activations of each direction; numbers go, in order, to the functions that take any."""
    directions = 2 if node.attribute("direction", "forward") == "bidirectional" else 1
    names = [n.decode() if isinstance(n, bytes) else n for n in node.attribute("activations", [])]
    names = [name.lower() for name in names or list(default) * directions]
    given = [list(node.attribute(key, [])) for key in ("activation_alpha", "activation_beta")]
    found = []
    for name in names:
        if name not in _PLAIN and name not in _NUMBERS:
            raise UnsupportedError(f"activation {name!r} is unknown: choose one that the ONNX operator lists")
        numbers = [0.0, 0.0]
        for position, usual in enumerate(_NUMBERS.get(name, ())):
            numbers[position] = given[position].pop(0) if given[position] else usual
        found.append(_Activation(name, *numbers))
    size = len(default)
    if len(found) != size * directions:
        raise UnsupportedError(
            f"it names {len(found)} activations, {size * directions} are needed: mend the node"
        )
    return [tuple(found[d * size : (d + 1) * size]) for d in range(directions)]


def _activation(node: Site, function: _Activation, x: str) -> str:
    name, like = function.name, node.inputs[0]
    if name in _PLAIN:
        return node.emit(_PLAIN[name], x)
    if name in _SHAPED:
        return node.emit(_SHAPED[name], x, alpha=function.alpha)
    if name == "hardsigmoid":
        return node.emit("HardSigmoid", x, alpha=function.alpha, beta=function.beta)
    alpha, beta = node.number(function.alpha, like), node.number(function.beta, like)
    if name == "affine":
        return node.emit("Add", node.emit("Mul", x, alpha), beta)
    return node.emit("Mul", node.emit("Tanh", node.emit("Mul", x, beta)), alpha)
