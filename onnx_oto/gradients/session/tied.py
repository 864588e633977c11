"""Parameters that several initializers hold: their gradients are added up, so that they stay equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnx_oto.model.normal.origins import Tie

if TYPE_CHECKING:
    from onnx_oto.runtime.resident import Vector

Floats = NDArray[np.float32]
Slices = Mapping[str, tuple[int, tuple[int, ...]]]


class TiedPlaces:
    """Where in a flat buffer the elements of shared parameters lie.

    places: int64 [n], positions in the buffer; elements: int64 [n], which shared element lies there, over all ties.
    """

    def __init__(self, ties: Sequence[Tie], slices: Slices) -> None:
        places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        elements: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        count = 0
        for tie in ties:
            for name in tie.names:
                offset, shape = slices[name]
                places.append(np.arange(offset, offset + int(np.prod(shape))))
            _, own = np.unique(tie.elements, return_inverse=True)
            elements.append(own.reshape(-1) + count)
            count += int(own.max()) + 1
        self.places = np.concatenate(places)
        self.elements = np.concatenate(elements)
        self._rows: tuple[NDArray[np.int32], ...] = ()

    def add_up(self, grads: Floats) -> None:
        """Give every copy of an element the sum of the gradients of all copies, in place. grads: float32 [P]."""
        if self.places.size:
            totals = np.bincount(self.elements, grads[self.places])
            grads[self.places] = totals[self.elements]

    def add_up_there(self, grads: Vector) -> None:
        """Do so with gradients on a device, whose last element is 0. Summed in float32."""
        if self.places.size:
            self._rows = self._rows or self._in_rows(len(grads) - 1)
            grads.add_up(*self._rows)

    def _in_rows(self, behind: int) -> tuple[NDArray[np.int32], ...]:
        """Return the places, those of the copies of every element, filled up with one behind, and the elements."""
        counts = np.bincount(self.elements)
        copies = np.full((len(counts), counts.max()), behind, np.int32)
        by_element = np.argsort(self.elements, kind="stable")
        first = np.repeat(np.cumsum(counts) - counts, counts)
        copies[self.elements[by_element], np.arange(len(by_element)) - first] = self.places[by_element]
        return self.places.astype(np.int32), copies, self.elements.astype(np.int32)
