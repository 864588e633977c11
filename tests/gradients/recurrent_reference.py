"""LSTM, GRU and RNN in numpy, sample by sample, as the ONNX standard has them: onnx.reference lacks most options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array = NDArray[Any]
Function = Callable[..., Array]
Cell = Callable[..., tuple[Array, ...]]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


TAKES = {"LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1, "HardSigmoid": 2, "ScaledTanh": 2, "Affine": 2}
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "LeakyRelu": lambda x, a: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a: np.where(x > a, x, 0),
    "Elu": lambda x, a: np.where(x < 0, a * np.expm1(x), x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "Affine": lambda x, a, b: a * x + b,
}


def _functions(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float | None
) -> list[Function]:
    """Return the activations; each takes its numbers from the front of the lists."""
    queues = [list(alphas), list(betas)]

    def bound(name: str) -> Function:
        numbers = [queue.pop(0) for queue in queues[: TAKES.get(name, 0)]]

        def function(x: Array, bound: float = clip or np.inf) -> Array:
            return FUNCTIONS[name](np.clip(x, -bound, bound), *numbers)

        return function

    return [bound(name) for name in names]


def _lstm(w: Array, r: Array, b: Array, p: Array, f: list[Function], forget: int) -> Cell:
    """As ONNX Runtime does it, the last function is not clipped."""
    wi, wo, wf, wc = np.split(w, 4)
    ri, ro, rf, rc = np.split(r, 4)
    bi, bo, bf, bc = np.split(b.reshape(2, -1).sum(axis=0), 4)
    pi, po, pf = np.split(p, 3)

    def cell(x: Array, h: Array, c: Array) -> tuple[Array, ...]:
        i = f[0](wi @ x + ri @ h + bi + pi * c)
        forgotten = 1 - i if forget else f[0](wf @ x + rf @ h + bf + pf * c)
        new = forgotten * c + i * f[1](wc @ x + rc @ h + bc)
        return f[0](wo @ x + ro @ h + bo + po * new) * f[2](new, bound=np.inf), new

    return cell


def _gru(w: Array, r: Array, b: Array, f: list[Function], linear: int) -> Cell:
    wz, wr, wh = np.split(w, 3)
    rz, rr, rh = np.split(r, 3)
    bz, br, bh, cz, cr, ch = np.split(b, 6)

    def cell(x: Array, h: Array) -> tuple[Array, ...]:
        z = f[0](wz @ x + rz @ h + bz + cz)
        reset = f[0](wr @ x + rr @ h + br + cr)
        seen = reset * (rh @ h + ch) if linear else rh @ (reset * h) + ch
        return ((1 - z) * f[1](wh @ x + seen + bh) + z * h,)

    return cell


def _rnn(w: Array, r: Array, b: Array, f: list[Function]) -> Cell:
    return lambda x, h: (f[0](w @ x + r @ h + b.reshape(2, -1).sum(axis=0)),)


class _Recurrent(OpRun):  # type: ignore[misc]
    op_domain = ""
    functions: tuple[str, ...] = ()
    gates = 1
    states = 1

    def _run(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        lengths: Array | None = None,
        h0: Array | None = None,
        c0: Array | None = None,
        p: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        attributes = {k: v for k, v in attributes.items() if v is not None}
        batch_first = attributes.get("layout", 0)
        starts = [h0, c0][: self.states]
        if batch_first:
            x = x.swapaxes(0, 1)
            starts = [s if s is None else s.swapaxes(0, 1) for s in starts]
        steps, samples, _ = x.shape
        directions, _, hidden = r.shape
        kinds = list(attributes.get("activations") or self.functions * directions)
        lists = (attributes.get("activation_alpha", []), attributes.get("activation_beta", []))
        functions = _functions(kinds, *lists, attributes.get("clip"))
        y = np.zeros((steps, directions, samples, hidden), x.dtype)
        last = np.zeros((self.states, directions, samples, hidden), x.dtype)
        for d, n in np.ndindex(directions, samples):
            bias = np.zeros(2 * self.gates * hidden) if b is None else b[d]
            peephole = np.zeros(3 * hidden) if p is None else p[d]
            mine = functions[d * len(self.functions) : (d + 1) * len(self.functions)]
            cell = self.cell(w[d], r[d], bias, peephole, mine, attributes)
            state = tuple(np.zeros(hidden) if s is None else s[d, n] for s in starts)
            times = range(steps if lengths is None else lengths[n])
            for t in reversed(times) if attributes.get("direction") == "reverse" or d == 1 else times:
                state = cell(x[t, n], *state)
                y[t, d, n] = state[0]
            last[:, d, n] = state
        if batch_first:
            y, last = y.transpose(2, 0, 1, 3), last.swapaxes(1, 2)
        return (y, *last)

    def cell(
        self, w: Array, r: Array, b: Array, p: Array, f: list[Function], attributes: dict[str, Any]
    ) -> Cell:
        raise NotImplementedError


class Lstm(_Recurrent):
    functions = ("Sigmoid", "Tanh", "Tanh")
    gates = 4
    states = 2

    def cell(
        self, w: Array, r: Array, b: Array, p: Array, f: list[Function], attributes: dict[str, Any]
    ) -> Cell:
        return _lstm(w, r, b, p, f, attributes.get("input_forget", 0))


class Gru(_Recurrent):
    functions = ("Sigmoid", "Tanh")
    gates = 3

    def cell(
        self, w: Array, r: Array, b: Array, p: Array, f: list[Function], attributes: dict[str, Any]
    ) -> Cell:
        return _gru(w, r, b, f, attributes.get("linear_before_reset", 0))


class Rnn(_Recurrent):
    functions = ("Tanh",)

    def cell(
        self, w: Array, r: Array, b: Array, p: Array, f: list[Function], attributes: dict[str, Any]
    ) -> Cell:
        return _rnn(w, r, b, f)


Lstm.__name__, Gru.__name__, Rnn.__name__ = "LSTM", "GRU", "RNN"
RECURRENT = [Lstm, Gru, Rnn]
