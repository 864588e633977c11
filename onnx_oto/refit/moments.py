"""Second moments of what readers read, streamed: memory depends on the readers, not on how many samples there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.refit.readers import FEW, Reader
from onnx_oto.refit.taps import tapped

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Run = Callable[[Mapping[str, Array]], Sequence[Array]]

WIDE = 6144
"""Readers of more features keep rows in place of moments between all of them."""
ROWS_PER_FEATURE = 10
LEAST_ROWS, MOST_ROWS = 8192, 65536
"""How many rows are wanted: ten for every feature, within these."""
WIDE_ROWS = 3000
"""How many rows are kept of those."""
DAMPING = 1e-4
"""Of the mean square of a feature, added to each."""
SLIGHT = 1e-7
"""The same in directions that features never have."""
ROUNDING, NO_NEWS = 2e-6, 1e-5
"""Shares of a feature's variance: what sums in float32 are off by, and what those before it leave of one that is a
function of them, at most."""
LARGEST = 1e15
"""Samples with larger numbers are left out, as are those that are not finite: their squares are no numbers."""
MOST_PLACES = 256
"""How many rows of one sample are looked at: they say much the same."""
ROOM = 1.2e9
"""Bytes that moments of one pass over the data may take."""
RUN_ROOM = 1.6e8
"""Bytes of rows that one run of the model may give."""


@dataclass(eq=False)
class Moments:
    """What a reader reads, summed up. count: rows seen, of `samples` samples. For G groups of F features:

    shift: float64 [G, F], about which sums are taken (the mean of the first rows: no digits are lost to it). total:
    [G, F], second: [G, F, F], sums of x - shift and of its products. spread: [G, 2], sums over the samples of the
    squares of their own second moments, of all entries and of those on the diagonal. rows: in place of `second` where F
    is above WIDE.
    """

    reader: Reader
    count: int = 0
    samples: int = 0
    shift: Floats = field(default_factory=lambda: np.zeros(0))
    total: Floats = field(default_factory=lambda: np.zeros(0))
    second: Floats = field(default_factory=lambda: np.zeros(0))
    spread: Floats = field(default_factory=lambda: np.zeros(0))
    rows: list[Rows] = field(default_factory=list)

    @property
    def wide(self) -> bool:
        """Whether rows are kept."""
        return self.reader.features > WIDE

    def add(self, rows: Rows) -> None:
        """Take rows [samples, R, G, F]; samples that are not finite, or huge, are left out."""
        rows = rows[(np.abs(rows) < LARGEST).all((1, 2, 3))]
        if not rows.size:
            return
        _, each, groups, features = rows.shape
        if not self.count:
            self.shift = rows.mean((0, 1), dtype=np.float64).astype(np.float32).astype(np.float64)
            self.total = np.zeros((groups, features))
            self.second = np.zeros((groups, 0 if self.wide else features, 0 if self.wide else features))
            self.spread = np.zeros((groups, 2))
        apart = rows - self.shift.astype(np.float32)
        self.count += len(rows) * each
        self.samples += len(rows)
        self.total += apart.sum((0, 1), dtype=np.float64)
        for group in range(groups):
            part = np.ascontiguousarray(apart[:, :, group])
            kernel = part @ part.transpose(0, 2, 1)  # [samples, R, R]: |X'X| = |XX'|
            own = np.square(part).mean(1, dtype=np.float64)
            whole = np.square(kernel / each, dtype=np.float64).sum()
            self.spread[group] += whole, np.square(own).sum()
            if not self.wide:
                flat = part.reshape(-1, features)
                self.second[group] += flat.T @ flat
        if self.wide:
            self.rows.append(apart.reshape(-1, groups, features))

    def mean(self, group: int) -> Floats:
        """Return the mean of what a group reads: float64 [F]."""
        result: Floats = self.shift[group] + self.total[group] / max(self.count, 1)
        return result

    def products(self, group: int, *, centred: bool) -> Floats:
        """Return E[x x'] of a group as it was seen, about the mean where that can be made up for: float64 [F, F]."""
        off = self.total[group] / max(self.count, 1)
        found = self.second[group] / max(self.count, 1)
        if centred:
            return np.asarray(found - np.outer(off, off))
        shift = self.shift[group]
        return np.asarray(found + np.outer(shift, off) + np.outer(off, shift) + np.outer(shift, shift))

    def believed(self, group: int, *, centred: bool) -> Floats:
        """Return E[x x'] as far as so few samples tell: invertible, what features share with others shrunk.

        By the share of it that is chance (Ledoit and Wolf, 2004, towards the diagonal: Schaefer and Strimmer, 2005).
        The rows of one sample say much the same, so it is samples that count. Features that are exact functions of
        others were seen to be that in every row: no chance takes it away (the diagonal is projected there).
        """
        found = self.products(group, centred=True)
        own = found.diagonal().copy()
        level = float(own.mean()) or 1.0
        chance = self.chance(group)
        never = self._never(found)
        found *= 1 - chance
        np.fill_diagonal(found, own + DAMPING * level)
        if never.size:
            found -= never @ (never.T @ found)
            found -= (found @ never) @ never.T
            found[np.diag_indices(len(found))] += SLIGHT * level
        if not centred:
            mean = self.mean(group)
            found += np.outer(mean, mean)  # that is known well, and of no chance
        return found

    def _never(self, seen: Floats) -> Floats:
        """Return directions that features never have though they could, orthonormal float64 [F, n].

        Of E[x x'] about the mean; none where there are too few rows to tell.
        """
        own = seen.diagonal()
        alive = np.flatnonzero(own > 0)
        none = np.zeros((len(seen), 0))
        if self.count < 2 * len(seen) or alive.size < FEW:
            return none
        root = 1 / np.sqrt(own[alive])
        scaled = seen[np.ix_(alive, alive)] * root[:, None] * root
        scaled[np.diag_indices(len(scaled))] += ROUNDING
        try:
            follows = np.square(np.linalg.cholesky(scaled).diagonal()) < NO_NEWS
        except np.linalg.LinAlgError:  # of so many features float32 does not tell
            return none
        if not follows.any():
            return none
        by = np.linalg.solve(scaled[np.ix_(~follows, ~follows)], scaled[np.ix_(~follows, follows)])
        found = np.zeros((len(seen), int(follows.sum())))
        found[alive[follows], np.arange(found.shape[1])] = root[follows]
        found[alive[~follows]] = -root[~follows, None] * by
        return np.asarray(np.linalg.qr(found)[0], np.float64)

    def chance(self, group: int) -> float:
        """Return the share of the products between features that is chance, in [0, 1]: 1 where one sample was seen.

        Of products averaged over n samples, their variance over n, as a share of their squares.
        """
        if self.wide:
            return 0.0
        number = self.samples
        if number < 2:
            return 1.0
        second = self.second[group] / max(self.count, 1)
        whole = float(np.square(second).sum() - np.square(second.diagonal()).sum())
        noise = (float(self.spread[group, 0] - self.spread[group, 1]) / number - whole) / (number - 1)
        return float(np.clip(noise / whole, 0.0, 1.0)) if whole > 0 else 1.0

    def kept_rows(self, group: int, *, centred: bool) -> Floats:
        """Return the rows of a wide reader: float64 [R, F], about the mean where that can be made up for."""
        rows = np.concatenate([part[:, group] for part in self.rows]).astype(np.float64)
        mean = self.total[group] / max(self.count, 1)
        return np.asarray(rows - mean if centred else rows + self.shift[group])


def wanted_rows(reader: Reader) -> int:
    """Return how many rows of a reader suffice."""
    if reader.features > WIDE:
        return WIDE_ROWS
    return int(np.clip(ROWS_PER_FEATURE * reader.features, LEAST_ROWS, MOST_ROWS))


def parts(found: Iterable[Reader]) -> Iterator[tuple[Reader, ...]]:
    """Yield readers in order, as many at a time as there is room for."""
    part: list[Reader] = []
    taken = 0.0
    for reader in found:
        size = 8.0 * reader.groups * reader.features * min(reader.features, WIDE)
        if part and taken + size > ROOM:
            yield tuple(part)
            part, taken = [], 0.0
        part.append(reader)
        taken += size
    if part:
        yield tuple(part)


def places(found: Sequence[Reader], *, samples: int, batch: int) -> list[int]:
    """Return how many rows of each sample are looked at: enough of all, and no more than one run may give."""
    counts = [min(max(1, -(-wanted_rows(reader) // samples)), MOST_PLACES) for reader in found]
    size = 4.0 * batch * sum(n * r.groups * r.features for n, r in zip(counts, found, strict=True))
    share = min(1.0, RUN_ROOM / size) if size else 1.0
    return [max(1, int(count * share)) for count in counts]


def gathered(
    model: onnx.ModelProto,
    found: Sequence[Reader],
    batches: Iterable[Mapping[str, Array]],
    opened: Callable[[onnx.ModelProto], Run],
    *,
    samples: int,
    batch: int,
    seed: int,
    fixed: bool = False,
) -> list[Moments]:
    """Return the moments of readers over batches of inputs, in one pass.

    model: as data are served to it. opened: makes of a model what runs it. samples: in all batches. batch: samples of a
    run. fixed: whether the model takes no fewer; what a batch lacks is filled by repeating, and not counted.
    """
    counts = places(found, samples=samples, batch=batch)
    taps = tapped(model, found, counts, seed=seed)
    run = opened(taps.model)
    moments = [Moments(reader) for reader in found]
    for number, inputs in enumerate(batches):
        own = len(next(iter(inputs.values())))
        lacks = fixed and own < batch
        if lacks:
            inputs = {name: array[np.arange(batch) % own] for name, array in inputs.items()}
        given = taps.rows(run(taps.feeds(inputs, number)))
        for each, rows, count in zip(moments, given, counts, strict=True):
            rows = rows[: len(rows) * own // batch] if lacks else rows
            if each.wide and len(rows) > own * count:
                rows = rows[np.linspace(0, len(rows) - 1, own * count).astype(np.int64)]
            each.add(rows)
    return moments
