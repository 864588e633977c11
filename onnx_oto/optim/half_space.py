"""The penalised trial step and the half-space that HSPG and DHSPG project by (arXiv 2107.07467 and 2303.06862).

With x a group, v the base direction, a the learning rate: the trial step is x~ = x - a (v + lambda x/||x||). A group
that leaves its half-space, <x~, x> < eps ||x||^2, becomes zero, for good. The optimizers differ in lambda, and in which
groups it is for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.optim.base import Bools, Floats
from onnx_oto.optim.groups import Moments
from onnx_oto.optim.leaving import Leaving

Array = npt.NDArray[Any]

REGULARIZER = (
    "Pull towards zero of the groups that shrink (lambda), times the learning rate.  [default: dhspg the pace of its "
    "plan; hspg 0.001; dhspg-published 0.001, with adam and adamw 0.01]"
)
HALF_SPACE_EPS = "A shrinking group is dropped when a step leaves less than this share of it, 0 to below 1."


def pull_and_project(
    leaving: Leaving, params: Array, v: Array, lr: float, *, moments: Moments, distance: Floats, eps: float
) -> Floats:
    """Make those of the chosen groups zero that leave; return the factor that makes factor * params - lr * v the trial
    step of the rest: float64 [K].

    moments: of (params, v), both [P]. distance: a * lambda, float64 [K]. Both arrays are modified.
    """
    norm = np.sqrt(moments.xx)
    inner = moments.xx - lr * moments.xy - distance * norm
    gone = leaving.alive & ((inner < eps * moments.xx) | (norm == 0))
    leaving.kill(gone, params, v)
    return pulled(norm, distance, leaving.alive)


def pulled(norm: Floats, distance: Floats, which: Bools) -> Floats:
    """Return the factor by which a group of this norm gets shorter by this distance: float64 [K], 1 for all others."""
    factor = np.ones_like(norm)
    factor[which] = 1.0 - distance[which] / norm[which]
    return factor


def require_half_space(eps: float) -> None:
    """Raise UsageError unless this share can be left of a group."""
    if not 0 <= eps < 1:
        raise UsageError(f"half-space-eps is {eps}: give a share from 0 to below 1")


def require_regularizer(value: float | None) -> None:
    """Raise UsageError unless this is a pull, or None."""
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"regularizer is {value}: give a positive number, or leave it out for the default")
