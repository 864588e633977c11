"""Gradients of convolutions and poolings in float64, written out in numpy: windows gathered, their gradients scattered.

Index legend: n sample, c channel, o filter, p place of the output, k place in the window, s place of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Exact(NamedTuple):
    """The output, and the gradients of sum(output * r) by parameter."""

    y: Array
    grads: dict[str, Array]


@dataclass(frozen=True)
class Windows:
    """Windows over spatial axes of `size`; pads are [begin..., end...] as in ONNX."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    ceil: bool = False

    @property
    def out(self) -> tuple[int, ...]:
        """The size of the output."""
        result = []
        for axis, (n, k, s, d) in enumerate(
            zip(self.size, self.kernel, self.strides, self.dilations, strict=True)
        ):
            begin, end = self.pads[axis], self.pads[len(self.size) + axis]
            room = n + begin + end - (k - 1) * d - 1
            result.append(-(-room // s) + 1 if self.ceil else room // s + 1)
        return tuple(result)

    def has_empty(self) -> bool:
        """Return whether a window starts behind the end of the input, as the last one may with `ceil`."""
        return any(place[-1, 0] >= n for place, n in zip(self.places(), self.size, strict=True))

    def places(self) -> list[Array]:
        """Return per axis which position of the input each place of each window reads: int64 [out, kernel]."""
        return [
            np.arange(o)[:, None] * s - begin + np.arange(k) * d
            for o, s, begin, k, d in zip(
                self.out, self.strides, self.pads, self.kernel, self.dilations, strict=False
            )
        ]

    def flat(self) -> Array:
        """Return the flat input position of every window place, -1 in the pads: int64 [p, k]."""
        rank = len(self.size)
        index = np.zeros((1,) * (2 * rank), np.int64)
        inside = np.ones((1,) * (2 * rank), bool)
        for axis, (place, n) in enumerate(zip(self.places(), self.size, strict=True)):
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = place.shape
            index = index * n + place.reshape(shape)
            inside = inside & ((place >= 0) & (place < n)).reshape(shape)
        index = np.where(inside, index, -1)
        return index.reshape(math.prod(self.out), math.prod(self.kernel))

    def gather(self, x: Array, fill: float = 0.0) -> Array:
        """Return the windows [n, c, p, k] of x [n, c, *size]."""
        flat = x.reshape(*x.shape[:2], -1)
        filled = np.concatenate([flat, np.full((*x.shape[:2], 1), fill)], axis=2)
        return filled[:, :, self.flat()]

    def scatter(self, g: Array) -> Array:
        """Return [n, c, *size], the sum of window gradients [n, c, p, k] over the places that read an element."""
        result = np.zeros((*g.shape[:2], math.prod(self.size) + 1))
        np.add.at(result, (slice(None), slice(None), self.flat()), g)
        return result[:, :, :-1].reshape(*g.shape[:2], *self.size)

    def counts(self, include_pad: bool) -> Array:
        """Return how many places each window is divided by: those inside, or inside the padded input; [p]."""
        count = np.ones(())
        for axis, (place, n) in enumerate(zip(self.places(), self.size, strict=True)):
            begin, end = self.pads[axis], self.pads[len(self.size) + axis]
            low, high = (-begin, n + end) if include_pad else (0, n)
            count = count[..., None] * ((place >= low) & (place < high)).sum(axis=1)
        return count.reshape(-1)


def conv(x: Array, w: Array, b: Array, r: Sequence[float] | Array, windows: Windows, group: int) -> Exact:
    """y[n, o, p] = b[o] + sum_{c, k} w[o, c, k] x[n, c, p, k], group by group; r [n, o, *out]."""
    n, c = x.shape[:2]
    filters = w.reshape(group, -1, c // group, math.prod(windows.kernel))
    seen = windows.gather(x).reshape(n, group, c // group, -1, math.prod(windows.kernel))
    y = np.einsum("gock,ngcpk->ngop", filters, seen).reshape(n, len(w), *windows.out)
    y += b.reshape(-1, *(1,) * len(windows.size))
    back = np.asarray(r, np.float64).reshape(n, group, len(w) // group, -1)
    dx = windows.scatter(np.einsum("gock,ngop->ngcpk", filters, back).reshape(n, c, *windows.flat().shape))
    dw = np.einsum("ngop,ngcpk->gock", back, seen).reshape(w.shape)
    return Exact(y, {"a": dx, "w": dw, "b": back.sum(axis=(0, 3)).reshape(-1)})


def average_pool(x: Array, r: Array, windows: Windows, include_pad: bool) -> Exact:
    """y[n, c, p] = sum_k x[n, c, p, k] / count[p]."""
    count = windows.counts(include_pad)
    y = windows.gather(x).sum(axis=3) / count
    share = r.reshape(*x.shape[:2], -1, 1) / count[:, None]
    spread = np.broadcast_to(share, (*share.shape[:3], math.prod(windows.kernel)))
    return Exact(y.reshape(r.shape), {"a": windows.scatter(spread)})


def max_pool(x: Array, r: Array, windows: Windows) -> Exact:
    """y[n, c, p] = max_k x[n, c, p, k]; its gradient goes to the first maximum."""
    seen = windows.gather(x, -np.inf)
    best = seen.argmax(axis=3)[..., None]
    g = np.zeros_like(seen)
    np.put_along_axis(g, best, r.reshape(*x.shape[:2], -1, 1), axis=3)
    return Exact(np.take_along_axis(seen, best, axis=3).reshape(r.shape), {"a": windows.scatter(g)})


def conv_transpose(x: Array, w: Array, b: Array, r: Array, windows: Windows, group: int) -> Exact:
    """The adjoint of `conv`: x [n, o, *out] and w [o, c/g, *kernel] give y [n, c, *size], with b [c]."""
    n, filters = x.shape[:2]
    zeros = np.zeros(filters)
    share = w.shape[1]
    blank = np.zeros((n, share * group, *windows.size))
    y = conv(blank, w, zeros, x, windows, group).grads["a"] + b.reshape(-1, *(1,) * len(windows.size))
    back = conv(r, w, zeros, x, windows, group)
    return Exact(y, {"a": back.y, "w": back.grads["w"], "b": r.sum(axis=(0, *range(2, r.ndim)))})
