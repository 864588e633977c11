"""What it costs a reader that channels go, when those that stay make up for them as well as they can.

With H = E[x x'] of the features and W the weight, leaving feature c out costs, after the best linear refit of the rest,

    |W_c|^2 / (H^-1)_cc        (for a channel of several features the trace of W_c ((H^-1)_cc)^-1 W_c')

as in Optimal Brain Surgeon (Hassibi and Stork, 1993) for a layer (Frantar and Alistarh, Optimal Brain Compression,
2022; Kurtic et al., ZipLM, 2023, for structures). The cheapest channels go first, a few at a time; then W and H^-1 are
those of the refitted rest, and the next ones are found. What a channel cost when it went is its loss: channels that say
the same are cheap as long as one of them is left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.layout import IntArray
from onnx_oto.refit.moments import Moments

Floats = npt.NDArray[np.float64]

ROUNDS = 96
"""Channels go in so many rounds, one by one where there are fewer."""


def losses(moments: Moments, weight: Floats, count: int) -> Floats:
    """Return what each lane costs a reader, as a share of the variance of its outputs: float64 [count], by lane number.

    weight: float64 [G, O, F]. count: of lanes. 0 for lanes that it does not read, and where nothing was seen.
    """
    result = np.zeros(count)
    reader = moments.reader
    if not moments.count:
        return result
    whole = 0.0
    for group in range(reader.groups):
        matrix, lanes = weight[group], reader.lanes[group]
        if moments.wide:
            lost, variance = _of_rows(moments, group, matrix, lanes)
        else:
            lost, variance = _of_products(moments, group, matrix, lanes)
        whole += variance
        np.add.at(result, lost[0], lost[1])
    return result / whole if whole > 0 else result


Lost = tuple[IntArray, Floats]


def _of_products(moments: Moments, group: int, weight: Floats, lanes: IntArray) -> tuple[Lost, float]:
    centred = moments.reader.bias is not None
    seen = moments.products(group, centred=True)
    variance = float(((weight @ seen) * weight).sum())
    return _eliminated(moments.believed(group, centred=centred), weight, lanes), variance


def _of_rows(moments: Moments, group: int, weight: Floats, lanes: IntArray) -> tuple[Lost, float]:
    """Without the others making up for them: between so many features moments are not known."""
    rows = moments.kept_rows(group, centred=moments.reader.bias is not None)
    every = [lane for lane in np.unique(lanes) if lane >= 0]
    lost = [float(np.square(rows[:, at] @ weight[:, at].T).sum()) for at in (lanes == lane for lane in every)]
    centred = moments.kept_rows(group, centred=True)
    variance = float(np.square(centred @ weight.T).sum()) / len(rows)
    return (np.array(every, np.int64), np.array(lost) / len(rows)), variance


def _eliminated(products: Floats, weight: Floats, lanes: IntArray) -> Lost:
    """Return the lanes of a group and what each cost when it went."""
    order = np.argsort(lanes, kind="stable")  # features of a lane side by side
    lanes = lanes[order]
    inverse = np.asarray(np.linalg.inv(products[np.ix_(order, order)]), np.float64)
    weight = weight[:, order]
    gone: list[IntArray] = []
    costs: list[Floats] = []
    step = max(1, -(-np.unique(lanes[lanes >= 0]).size // ROUNDS))
    while (lanes >= 0).any():
        every, first, sizes = np.unique(lanes, return_index=True, return_counts=True)
        able = every >= 0
        every, first, sizes = every[able], first[able], sizes[able]
        each = _costs(inverse, weight, first, sizes)
        cheapest = np.argsort(each, kind="stable")[:step]
        gone.append(every[cheapest])
        costs.append(each[cheapest])
        leaves = np.isin(lanes, every[cheapest])
        if leaves.all() or every.size == cheapest.size:
            break
        stays = ~leaves
        across = inverse[np.ix_(stays, leaves)]
        solved = np.linalg.solve(inverse[np.ix_(leaves, leaves)], across.T)
        weight = weight[:, stays] - weight[:, leaves] @ solved
        inverse = np.asarray(inverse[np.ix_(stays, stays)] - across @ solved, np.float64)
        lanes = lanes[stays]
    return np.concatenate(gone), np.maximum(np.concatenate(costs), 0.0)


def _costs(inverse: Floats, weight: Floats, first: IntArray, sizes: IntArray) -> Floats:
    """Return what each lane costs if it goes next. first, sizes: where its features are."""
    if (sizes == 1).all():
        return np.asarray(np.square(weight[:, first]).sum(0) / inverse[first, first])
    result = np.zeros(first.size)
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        at = first[chosen][:, None] + np.arange(size)
        blocks = inverse[at[:, :, None], at[:, None, :]]
        columns = weight[:, at].transpose(1, 2, 0)  # [lanes, features, outputs]
        result[chosen] = (columns * np.linalg.solve(blocks, columns)).sum((1, 2))
    return result
