"""How much each group matters, from its values and gradients while they are observed. The lowest are dropped first.

A criterion maps what is seen of the groups in one step to float64 [K]; `Average` takes the mean over many steps,
because the score of one mini-batch is mostly noise. With x the group, g its gradient, n its number of
elements:

- magnitude: ||x|| / sqrt(n), the root mean square, so that a wide filter is not important for being wide;
- cosine: cos(x, -g). A step along -g makes a group with a negative cosine shorter: it is on its way to zero
  anyway;
- taylor: |<x, g>|, the first-order estimate of how much the loss changes when the group is set to zero
  (Molchanov et al., CVPR 2019, arXiv 1906.10771); a sum over the group, because all of it goes at once;
- taylor2: <x, g>^2. Its mean over many batches is x' F x, twice the second-order estimate of that change with the
  Fisher matrix F = mean(g g') in the place of the Hessian (Theis et al., 2018, arXiv 1801.05787);
- scale: the root mean square of the group's BatchNormalization scales (Network Slimming, Liu et al., ICCV 2017,
  arXiv 1708.06519), divided by its mean over the groups that have any. The others have their magnitude, divided by its
  mean over them, so that 1 is usual for both;
- paper: the mean of magnitude (divided by the largest) and cosine (mapped to [0, 1]), the combination of
  OTOv2 (Chen et al., ICLR 2023, section 3.2);
- mixed: the mean of five, each divided by its root mean square over all groups: ||x||, magnitude, cosine (mapped to
  [0, 2]), taylor and taylor2: the mixture that HESSO was released with (arXiv 2409.09085). There the average magnitude
  is ||x|| / n, and the cosine has the other sign, which calls groups important that the next step makes shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.optim.groups import GroupIndex, Moments

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """What a criterion sees of K groups in one step.

    moments: of (x, g). sizes: elements, int64 [K]. scale: root mean square of the norm scales, float64 [K], nan for a
    group that has none.
    """

    moments: Moments
    sizes: npt.NDArray[np.int64]
    scale: Scores


Criterion = Callable[[Seen], Scores]


def magnitude(seen: Seen) -> Scores:
    """Return the root mean square of each group: float64 [K].

    >>> moments = Moments(np.array([16.0]), np.array([0.0]), np.array([0.0]))
    >>> magnitude(Seen(moments, np.array([4]), np.array([np.nan])))
    array([2.])
    """
    root: Scores = np.sqrt(seen.moments.xx / np.maximum(seen.sizes, 1))
    return root


def cosine(seen: Seen) -> Scores:
    """Return cos(x, -g) of each group: float64 [K] in [-1, 1], 0 where x or g is zero."""
    moments = seen.moments
    lengths = np.sqrt(moments.xx) * np.sqrt(moments.yy)
    angle: Scores = np.divide(-moments.xy, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return angle.clip(-1.0, 1.0)


def taylor(seen: Seen) -> Scores:
    """Return |<x, g>| of each group: float64 [K]."""
    return np.abs(seen.moments.xy)


def taylor2(seen: Seen) -> Scores:
    """Return <x, g>^2 of each group: float64 [K]."""
    return np.square(seen.moments.xy)


def scale(seen: Seen) -> Scores:
    """Return the norm scale of each group, or its magnitude where it has none, both around 1: float64 [K]."""
    has_scale = ~np.isnan(seen.scale)
    found = np.where(has_scale, seen.scale, magnitude(seen))
    for which in (has_scale, ~has_scale):
        usual = found[which].mean() if which.any() else 0.0
        found[which] /= usual or 1.0
    return found


def paper(seen: Seen) -> Scores:
    """Return the mean of the scaled magnitude and the scaled cosine: float64 [K] in [0, 1]."""
    size = magnitude(seen)
    largest = size.max(initial=0.0)
    if largest > 0:
        size = size / largest
    return 0.5 * size + 0.25 * (1.0 + cosine(seen))


def mixed(seen: Seen) -> Scores:
    """Return the mean of five criteria that were brought to one scale: float64 [K]."""
    parts = (
        np.sqrt(seen.moments.xx),
        magnitude(seen),
        1.0 + cosine(seen),
        taylor(seen),
        taylor2(seen),
    )
    total = np.zeros(len(seen.sizes))
    for part in parts:
        usual = np.sqrt(np.mean(np.square(part))) if part.size else 0.0
        total += part / (usual or 1.0)
    return total / len(parts)


SALIENCIES: dict[str, Criterion] = {
    "magnitude": magnitude,
    "cosine": cosine,
    "taylor": taylor,
    "taylor2": taylor2,
    "scale": scale,
    "paper": paper,
    "mixed": mixed,
}

SALIENCY = "What tells which groups matter."


def require_saliency(name: str) -> None:
    """Raise UsageError for a criterion that is not registered."""
    if name not in SALIENCIES:
        raise UsageError(f"saliency {name!r}: choose one of {', '.join(SALIENCIES)}")


@dataclass(eq=False)
class Average:
    """The mean of a criterion over the steps it was shown."""

    criterion: Criterion
    groups: GroupIndex
    samples: int = 0
    total: Scores = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.groups.count)

    def add(self, params: Array, grads: Array) -> None:
        """Add one step; a score that is not finite counts as 0, so that one bad batch cannot decide."""
        seen = Seen(self.groups.moments(params, grads), self.groups.sizes, self.groups.norm_scales(params))
        self.total += np.nan_to_num(self.criterion(seen), nan=0.0, posinf=0.0, neginf=0.0)
        self.samples += 1

    def scores(self) -> Scores:
        """Return the mean: float64 [K]; zeros when nothing was shown."""
        return self.total / max(self.samples, 1)

    def begin(self) -> None:
        """Forget what was shown."""
        self.total[:] = 0.0
        self.samples = 0

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the sums."""
        return {"samples": np.array(self.samples), "total": self.total.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        self.samples = int(state["samples"])
        self.total = np.array(state["total"], np.float64)
