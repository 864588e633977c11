"""Who takes which part of a batch: its shards, in order, are dealt out to the ranks, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UsageError


@dataclass(frozen=True)
class Portion:
    """One rank of several that share every batch. cores: of each of them, the least that any has.

    >>> Portion(1, 2).shards([34, 33, 33]), Portion(1, 2).rows([2, 2, 1]).tolist()
    (range(2, 3), [4])
    """

    rank: int = 0
    ranks: int = 1
    cores: int | None = None

    def shards(self, sizes: Sequence[int]) -> range:
        """Return which of the shards of a batch this rank runs. sizes: of all of them, at least one for each rank."""
        share, rest = divmod(len(sizes), self.ranks)
        first = self.rank * share + min(self.rank, rest)
        return range(first, first + share + (self.rank < rest))

    def rows(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        """Return which samples of a batch this rank reads."""
        own = self.shards(sizes)
        return np.arange(sum(sizes[: own.start]), sum(sizes[: own.stop]))

    def require_shares(self, batch: int, shards: int) -> None:
        """Raise UsageError where a rank would have nothing to do. shards: 0 where none were asked for."""
        if self.ranks > batch:
            raise UsageError(
                f"{self.ranks} ranks share batches of {batch}: start fewer ranks, or choose a larger batch"
            )
        if 0 < shards < self.ranks:
            raise UsageError(
                f"shards is {shards}, and {self.ranks} ranks share them: choose {self.ranks} or more, or leave it out"
            )


WHOLE = Portion()
