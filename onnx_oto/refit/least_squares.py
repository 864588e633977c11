"""The weights of readers after a cut: least squares over what they read, so that their outputs stay what they were.

Of y = W x + b the features D go, K stay. What goes is made up for by

    dW = argmin E|W_D x_D - dW x_K - db|^2        W_K <- W_K + dW,  W_D <- 0,  b <- b + db

which moves the weights that stay no further than it pays: where x_K says nothing of x_D, only the mean goes to b. With
few samples what features share is believed in part only (see `Moments.believed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.refit.moments import Moments

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

RIDGE = 0.01
"""Of the mean square of a feature, where there are fewer rows than features."""


class Refitted(NamedTuple):
    """New values of initializers by name, and by weight the share of what was lost that could not be made up for."""

    values: dict[str, Array]
    left: dict[str, float]


def refitted(moments: Sequence[Moments], drop: BoolArray, constants: Mapping[str, Array]) -> Refitted:
    """Return the weights and biases of readers after lanes are dropped. drop: bool [lanes].

    constants: the present values of weights and biases. Readers that lose nothing are left out.
    """
    values: dict[str, Array] = {}
    left: dict[str, float] = {}
    for each in moments:
        reader = each.reader
        gone = (reader.lanes >= 0) & drop[reader.lanes]
        if not gone.any() or not each.count:
            continue
        old = constants[reader.weight]
        matrix = reader.matrix(old)
        offsets = np.zeros(matrix.shape[:2])
        lost = kept = 0.0
        for group in range(reader.groups):
            if gone[group].any():
                part = _group(each, group, matrix[group], gone[group])
                matrix[group], offsets[group] = part.weight, part.offset
                lost, kept = lost + part.lost, kept + part.left
        values[reader.weight] = reader.as_weight(matrix, old)
        left[reader.weight] = kept / lost if lost > 0 else 0.0
        if reader.bias is not None:
            bias = constants[reader.bias.name]
            added = offsets / reader.bias.factor
            values[reader.bias.name] = (bias + added.reshape(bias.shape)).astype(bias.dtype)
    return Refitted(values, left)


class _Part(NamedTuple):
    weight: Floats
    offset: Floats
    lost: float
    left: float


def _group(moments: Moments, group: int, weight: Floats, gone: BoolArray) -> _Part:
    """Return weight [O, F] and offset [O] of a group, and the errors without and with the refit."""
    centred = moments.reader.bias is not None
    stays = ~gone
    away = weight[:, gone]
    solve = _by_rows if moments.wide else _by_products
    change, lost, left = solve(moments, group, away, gone, centred=centred)
    result = weight.copy()
    result[:, gone] = 0.0
    result[:, stays] += change
    mean = moments.mean(group)
    offset = away @ mean[gone] - change @ mean[stays]
    return _Part(result, offset if centred else np.zeros(len(weight)), lost, left)


def _by_products(
    moments: Moments, group: int, away: Floats, gone: BoolArray, *, centred: bool
) -> tuple[Floats, float, float]:
    products = moments.believed(group, centred=centred)
    stays = ~gone
    across = products[np.ix_(stays, gone)] @ away.T  # [K, O]
    own = float(((away @ products[np.ix_(gone, gone)]) * away).sum())
    if not stays.any():
        return np.zeros((len(away), 0)), own, own
    change = np.asarray(np.linalg.solve(products[np.ix_(stays, stays)], across).T, np.float64)
    return change, own, own - float((change.T * across).sum())


def _by_rows(
    moments: Moments, group: int, away: Floats, gone: BoolArray, *, centred: bool
) -> tuple[Floats, float, float]:
    """The same by the kernel of the rows: (X X' + ridge) has as many rows as were seen, not as there are features."""
    rows = moments.kept_rows(group, centred=centred)
    known = rows[:, ~gone]
    missing = rows[:, gone] @ away.T  # [R, O]
    kernel = known @ known.T
    level = float(np.square(known).mean()) if known.size else 0.0
    kernel += np.eye(len(rows)) * (len(rows) * max(level, 1e-30) * RIDGE)
    change = np.asarray((known.T @ np.linalg.solve(kernel, missing)).T, np.float64)
    left = missing - known @ change.T
    return change, float(np.square(missing).sum()) / len(rows), float(np.square(left).sum()) / len(rows)
