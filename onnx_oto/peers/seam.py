"""What a run asks of the processes that it shares its work with. All of it is collective: every rank asks the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_oto.peers.portions import WHOLE, Portion

Floats = NDArray[np.float32]
T = TypeVar("T")


class Peers(Protocol):
    """The ranks of a run, numbered from 0. What they are given must be of the same shapes at every rank.

    A rank that is lost ends the others, so that nobody waits for it.
    """

    @property
    def rank(self) -> int:
        """The number of this one."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def portion(self) -> Portion:
        """What of every batch is this rank's."""
        ...

    def add_up(self, flat: Floats, numbers: Sequence[float] = ()) -> list[float]:
        """Overwrite `flat` with its sum over all ranks, and return the sums of the numbers, in float64.

        Every rank has the same bits.
        """
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return what every rank gave, in their order: values that can be pickled."""
        ...

    def told(self, make: Callable[[], T]) -> T:
        """Return what `make` returns at rank 0, which alone calls it."""
        ...

    def copy(self, flat: NDArray[Any]) -> None:
        """Overwrite an array with that of rank 0."""
        ...


class Alone:
    """A run that shares nothing (see `Peers`)."""

    rank = 0
    size = 1
    portion = WHOLE

    def add_up(self, flat: Floats, numbers: Sequence[float] = ()) -> list[float]:
        """See `Peers.add_up`."""
        return list(numbers)

    def gather(self, value: Any) -> list[Any]:
        """See `Peers.gather`."""
        return [value]

    def told(self, make: Callable[[], T]) -> T:
        """See `Peers.told`."""
        return make()

    def copy(self, flat: NDArray[Any]) -> None:
        """See `Peers.copy`."""


ALONE = Alone()
