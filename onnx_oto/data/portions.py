"""Some samples of a batch, as the whole batch would have them, without reading the others.

Augmentation is drawn for a batch as a whole, so that samples are changed in the same way whoever reads them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from onnx_oto.data.fit import Rows
from onnx_oto.data.source import Batch, Source


@runtime_checkable
class Divisible(Protocol):
    """A source (see `Source`) that reads some samples of a batch alone."""

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """Return the samples `keep`, numbers within the batch, of `batch(indices, rng)`."""
        ...


def portion_of(source: Source, indices: Rows, rng: np.random.Generator | None, keep: Rows | None) -> Batch:
    """Return the samples `keep` of a batch, all where that is None. What is not divisible is read whole."""
    if keep is None:
        return source.batch(indices, rng)
    if isinstance(source, Divisible):
        return source.portion(indices, rng, keep)
    return taken(source.batch(indices, rng), keep)


def taken(batch: Batch, keep: Rows) -> Batch:
    """Return some samples of a batch."""
    inputs = {name: array[keep] for name, array in batch.inputs.items()}
    targets = {name: array[keep] for name, array in batch.targets.items()}
    return Batch(inputs, targets, batch.rows[keep])
