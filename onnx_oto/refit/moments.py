"""Second moments of what readers read, streamed: memory depends on the readers, not on how many samples there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.refit.readers import Reader
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
ROOM = 1.2e9
"""Bytes that moments of one pass over the data may take."""


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
        """Take rows [samples, R, G, F]; samples that are not finite are left out."""
        rows = rows[np.isfinite(rows).all((1, 2, 3))]
        if not rows.size:
            return
        _, each, groups, features = rows.shape
        if not self.count:
            self.shift = rows.mean((0, 1), dtype=np.float64)
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
            self.spread[group] += np.square(kernel / each).sum(dtype=np.float64), np.square(own).sum()
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
        The rows of one sample say much the same, so it is samples that count.
        """
        found = self.products(group, centred=True)
        own = found.diagonal().copy()
        found *= 1 - self.chance(group)
        np.fill_diagonal(found, own + DAMPING * (float(own.mean()) or 1.0))
        if not centred:
            mean = self.mean(group)
            found += np.outer(mean, mean)  # that is known well, and of no chance
        return found

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


def gathered(
    model: onnx.ModelProto,
    found: Sequence[Reader],
    batches: Iterable[Mapping[str, Array]],
    opened: Callable[[onnx.ModelProto], Run],
    *,
    samples: int,
    seed: int,
) -> list[Moments]:
    """Return the moments of readers over batches of inputs, in one pass.

    model: float32, as data are served to it. opened: makes of a model what runs it. samples: in all batches.
    """
    counts = [max(1, -(-wanted_rows(reader) // samples)) for reader in found]
    taps = tapped(model, found, counts, seed=seed)
    run = opened(taps.model)
    moments = [Moments(reader) for reader in found]
    for number, inputs in enumerate(batches):
        for each, rows in zip(moments, taps.rows(run(taps.feeds(inputs, number))), strict=True):
            each.add(rows)
    return moments
