"""Which lanes to drop: by score, under every constraint of the model.

Used by `prune` (scores of the weights as they are), by the optimizers (saliency after warm-up), so that training
never asks for a model that cannot be built, and for what is zero already (`compact`, and after training).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.zigs.analysis import Analysis, Dimension
from onnx_oto.zigs.groups import zero_lanes

Scope = Literal["dimension", "global"]


@dataclass(frozen=True, eq=False)
class Choice:
    """Lanes to drop, bool [lanes], and how many of the prunable ones that is."""

    drop: BoolArray
    dropped: int
    prunable: int

    @property
    def share(self) -> float:
        return self.dropped / max(self.prunable, 1)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The lanes of one dimension in units that may be dropped, lowest score first.

    units: int64 [units, lanes per unit]; a unit takes one lane of every balanced cell. gone: how many units, the
    first ones, are dropped for good.
    """

    dimension: Dimension
    units: IntArray
    scores: npt.NDArray[np.float64]
    gone: int

    @property
    def step(self) -> int:
        return int(self.units.shape[1])


def choose(
    analysis: Analysis,
    scores: npt.NDArray[np.floating],
    sparsity: float,
    *,
    scope: Scope = "dimension",
    round_to: int = 1,
    min_keep: float = 0.0,
    gone: BoolArray | None = None,
) -> Choice:
    """Return round(sparsity * prunable lanes) lanes to drop, the lowest-scored ones, or as near as is allowed.

    scores: [lanes], larger is more important.
    scope "dimension": the same share in every dimension (largest remainders get the odd lanes); "global": ranked
    together by the share of what is left in the dimension (see `_shares`), every dimension keeping at least the
    share `min_keep`.
    round_to: every dimension keeps a multiple of it (or all), which may miss the share.
    gone: bool [lanes], what an earlier choice dropped for good: it stays dropped, whatever its scores, and counts.
    Ties are broken by lane number. Raises UsageError for a share outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise UsageError(
            f"sparsity {sparsity} is not a share: give a number from 0 up to, but not including, 1"
        )
    if round_to < 1:
        raise UsageError(f"--round-to {round_to} is not a count: give 1 or more")
    values = np.asarray(scores, np.float64)
    before = np.zeros(values.size, bool) if gone is None else gone
    rankings = [_rank(analysis, d, values, before) for d in analysis.prunable]
    total = sum(r.dimension.size for r in rankings)
    target = math.floor(sparsity * total + 0.5)
    if scope == "global":
        counts = _global_counts(rankings, target, min_keep)
    else:
        counts = _equal_counts(rankings, target, sparsity)
    drop = before.copy()
    for ranking, count in zip(rankings, _with_gone(rankings, counts), strict=True):
        count = max(_rounded(ranking, count, round_to), ranking.gone)
        drop[ranking.units[:count].reshape(-1)] = True
    _restore(analysis, drop, np.where(before, -np.inf, values))
    return Choice(drop, int(drop.sum()), total)


def choose_zeros(analysis: Analysis) -> Choice:
    """Return the lanes whose groups are exactly zero already: as many of them as the constraints let go."""
    drop = zero_lanes(analysis)
    _restore(analysis, drop, np.zeros(drop.size))
    return Choice(drop, int(drop.sum()), sum(d.size for d in analysis.prunable))


def _rank(
    analysis: Analysis, dimension: Dimension, scores: npt.NDArray[np.float64], gone: BoolArray
) -> _Ranking:
    scores = np.where(gone, scores[dimension.lanes].min(), scores)
    lanes = dimension.lanes[np.lexsort((scores[dimension.lanes], ~gone[dimension.lanes]))]
    cells = analysis.lanes.cells[lanes]
    names = np.unique(cells)
    columns = [lanes[cells == name] for name in names]
    depth = min(c.size for c in columns)
    units = np.stack([c[:depth] for c in columns], axis=1)
    return _Ranking(dimension, units, scores[units].mean(1), int(gone[units].all(1).sum()))


def _limit(ranking: _Ranking, min_keep: float = 0.0) -> int:
    """Return how many units of a dimension may go: at least one unit, and the share `min_keep`, stay."""
    size = ranking.dimension.size
    return max(0, min(len(ranking.units) - 1, math.floor((size - min_keep * size) / ranking.step)))


def _equal_counts(rankings: list[_Ranking], target: int, sparsity: float) -> list[int]:
    """Return units to drop per dimension: the same share everywhere, `target` lanes together if possible."""
    counts = [0] * len(rankings)
    open_ = list(range(len(rankings)))
    for i in sorted(open_, key=lambda i: -rankings[i].step):
        if rankings[i].step == 1:
            break
        share = sparsity * rankings[i].dimension.size / rankings[i].step
        counts[i] = min(math.floor(share + 0.5), _limit(rankings[i]))
        open_.remove(i)
    left = target - sum(c * r.step for c, r in zip(counts, rankings, strict=True))
    while left > 0 and open_:
        size = sum(rankings[i].dimension.size for i in open_)
        quotas = {i: rankings[i].dimension.size * left / size for i in open_}
        capped = [i for i in open_ if _limit(rankings[i]) <= quotas[i]]
        if capped:
            for i in capped:
                counts[i] = _limit(rankings[i])
                left -= counts[i]
                open_.remove(i)
            continue
        for i in open_:
            counts[i] = math.floor(quotas[i])
        rest = left - sum(counts[i] for i in open_)
        by_remainder = sorted(open_, key=lambda i: -(quotas[i] - counts[i]))
        for i in by_remainder[:rest]:
            counts[i] += 1
        break
    return counts


def _global_counts(rankings: list[_Ranking], target: int, min_keep: float) -> list[int]:
    """Return units to drop per dimension: lowest scores of all dimensions first, never more than `target` lanes."""
    entries = [
        (float(score), i, k)
        for i, r in enumerate(rankings)
        for k, score in enumerate(_shares(r.scores)[: _limit(r, min_keep)])
    ]
    counts, left = [0] * len(rankings), target
    for _, i, k in sorted(entries):
        step = rankings[i].step
        if counts[i] == k and step <= left:
            counts[i] += 1
            left -= step
    return counts


def _with_gone(rankings: list[_Ranking], counts: list[int]) -> list[int]:
    """Return counts that take in what is gone; what that adds is taken where most units go that are not gone yet."""
    result = [max(count, r.gone) for r, count in zip(rankings, counts, strict=True)]
    excess = sum((more - count) * r.step for r, more, count in zip(rankings, result, counts, strict=True))
    while excess > 0:
        able = [i for i, r in enumerate(rankings) if result[i] > r.gone and r.step <= excess]
        if not able:
            break
        most = max(able, key=lambda i: (result[i] - rankings[i].gone) * rankings[i].step)
        result[most] -= 1
        excess -= rankings[most].step
    return result


def _shares(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what share of the remaining energy each unit of a dimension holds when it is the next to go.

    s[k]^2 / sum_{j >= k} s[j]^2 of ascending scores: comparable between dimensions of any scale and size, and
    ascending; the last unit holds all (LAMP, Lee et al., ICLR 2021, there for single weights).
    """
    squares = np.square(scores - min(float(scores.min(initial=0.0)), 0.0))
    left = np.cumsum(squares[::-1])[::-1]
    return np.maximum.accumulate(np.divide(squares, left, out=np.zeros_like(squares), where=left > 0))


def _rounded(ranking: _Ranking, count: int, multiple: int) -> int:
    """Return the largest number of units, at most `count`, that leaves a multiple of `multiple` lanes."""
    size = ranking.dimension.size
    while count > 0 and (size - count * ranking.step) % multiple:
        count -= 1
    return count


def _restore(analysis: Analysis, drop: BoolArray, scores: npt.NDArray[np.float64]) -> None:
    """Keep further lanes, highest scores first, until no axis is empty and balanced rows are equal. In place."""
    changed = True
    while changed:
        changed = False
        for lanes in (*analysis.nonempty, *(d.lanes for d in analysis.prunable)):
            if drop[lanes].all():
                drop[lanes[np.argmax(scores[lanes])]] = False
                changed = True
        for rows, _ in analysis.lanes.balanced:
            gone = drop[rows].sum(1)
            for row in np.flatnonzero(gone > gone.min()):
                dropped = rows[row][drop[rows[row]]]
                order = np.argsort(-scores[dropped], kind="stable")
                drop[dropped[order[: gone[row] - gone.min()]]] = False
                changed = True
