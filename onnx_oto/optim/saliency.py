"""How much each group matters, from its values and gradients while they are observed. The lowest are dropped first.

A criterion maps the per-group sums of one step to float64 [K]; `Average` takes the mean over many steps,
because the score of one mini-batch is mostly noise. With x the group, g its gradient, n its number of
elements:

- magnitude: ||x|| / sqrt(n), the root mean square, so that a wide filter is not important for being wide;
- cosine: cos(x, -g). A step along -g makes a group with a negative cosine shorter: it is on its way to zero
  anyway;
- taylor: |<x, g>|, the first-order estimate of how much the loss changes when the group is set to zero
  (Molchanov et al., CVPR 2019); a sum over the group, because all of it goes at once;
- paper: the mean of magnitude (divided by the largest) and cosine (mapped to [0, 1]), the combination of
  OTOv2 (Chen et al., ICLR 2023, section 3.2) and HESSO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.groups import Moments

Scores = npt.NDArray[np.float64]
Criterion = Callable[[Moments, npt.NDArray[np.int64]], Scores]


def magnitude(moments: Moments, sizes: npt.NDArray[np.int64]) -> Scores:
    """Return the root mean square of each group: float64 [K]; `moments` of (x, g).

    >>> magnitude(Moments(np.array([16.0]), np.array([0.0]), np.array([0.0])), np.array([4]))
    array([2.])
    """
    root: Scores = np.sqrt(moments.xx / np.maximum(sizes, 1))
    return root


def cosine(moments: Moments, sizes: npt.NDArray[np.int64]) -> Scores:
    """Return cos(x, -g) of each group: float64 [K] in [-1, 1], 0 where x or g is zero."""
    lengths = np.sqrt(moments.xx) * np.sqrt(moments.yy)
    angle: Scores = np.divide(-moments.xy, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return angle.clip(-1.0, 1.0)


def taylor(moments: Moments, sizes: npt.NDArray[np.int64]) -> Scores:
    """Return |<x, g>| of each group: float64 [K]."""
    return np.abs(moments.xy)


def paper(moments: Moments, sizes: npt.NDArray[np.int64]) -> Scores:
    """Return the mean of the scaled magnitude and the scaled cosine: float64 [K] in [0, 1]."""
    size = magnitude(moments, sizes)
    largest = size.max(initial=0.0)
    if largest > 0:
        size = size / largest
    return 0.5 * size + 0.25 * (1.0 + cosine(moments, sizes))


SALIENCIES: dict[str, Criterion] = {
    "magnitude": magnitude,
    "cosine": cosine,
    "taylor": taylor,
    "paper": paper,
}


@dataclass(eq=False)
class Average:
    """The mean of a criterion over the steps it was shown."""

    criterion: Criterion
    sizes: npt.NDArray[np.int64]
    samples: int = 0
    total: Scores = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(len(self.sizes))

    def add(self, moments: Moments) -> None:
        """Add one step; a score that is not finite counts as 0, so that one bad batch cannot decide."""
        self.total += np.nan_to_num(self.criterion(moments, self.sizes), nan=0.0, posinf=0.0, neginf=0.0)
        self.samples += 1

    def scores(self) -> Scores:
        """Return the mean: float64 [K]; zeros when nothing was shown."""
        return self.total / max(self.samples, 1)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the sums."""
        return {"samples": np.array(self.samples), "total": self.total.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        self.samples = int(state["samples"])
        self.total = np.array(state["total"], np.float64)
