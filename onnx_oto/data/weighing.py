"""What samples and labels count for, and samples mixed of two: made of the batches of any source.

mixup (Zhang et al., ICLR 2018, arXiv 1710.09412): sample i becomes s x_i + (1 - s) x_j with j from a permutation of the
batch and s from Beta(a, a). Two things differ: every sample has its own s, and the larger of s and 1 - s is its own
share, so that no sample is there twice.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.dataset import Examples
from onnx_oto.data.fit import Rows
from onnx_oto.data.portions import portion_of, taken
from onnx_oto.data.source import SAMPLE_WEIGHT, TARGET, Batch, Dataset, Input, Source, Wanted
from onnx_oto.data.splitting import chosen_of
from onnx_oto.errors import DataError, UsageError
from onnx_oto.losses import ENTRY_WEIGHT, OTHER, OTHER_WEIGHT

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_LOT = 64
"""Samples whose labels are counted together: it bounds the memory that masks take."""


@dataclass(frozen=True, eq=False)
class Weighed:
    """A source (see `Source`) whose batches hold what every entry of the target counts for.

    labels: the target, None for numbers. classes: float32 [K], what labels count for, None for all alike. mixup: the a
    of the distribution, 0 for none; then a second label of every entry comes with what it counts for. It is the product
    of the weights of sample and class and the share of the mixture, and 0 for a label that is ignored.
    """

    source: Source
    labels: Wanted | None = None
    classes: Floats | None = None
    mixup: float = 0.0

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return the samples at `indices`, weighed; mixed where there is a generator."""
        batch = self.source.batch(indices, rng)
        if rng is None or not self.mixup:
            return self._weighed(batch)
        share, partner = self._drawn(len(indices), rng)
        return self._mixed(batch, taken(batch, partner), share)

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`; those that these are mixed with are read too."""
        again = copy.deepcopy(rng)
        batch = portion_of(self.source, indices, rng, keep)
        if rng is None or not self.mixup:
            return self._weighed(batch)
        share, partner = self._drawn(len(indices), rng)
        return self._mixed(batch, portion_of(self.source, indices, again, partner[keep]), share[keep])

    def _drawn(self, count: int, rng: np.random.Generator) -> tuple[Floats, Rows]:
        """Return the share that each sample has of itself, and with which one it is mixed."""
        drawn = rng.beta(self.mixup, self.mixup, count)
        return np.maximum(drawn, 1 - drawn).astype(np.float32), rng.permutation(count)

    def _weighed(self, batch: Batch) -> Batch:
        targets, own = _apart(batch)
        targets[ENTRY_WEIGHT] = self._weights(targets, own)
        return batch._replace(targets=targets)

    def _mixed(self, batch: Batch, other: Batch, share: Floats) -> Batch:
        """Return samples mixed with others, weighed."""
        (targets, own), (theirs, weights) = _apart(batch), _apart(other)
        inputs = {name: mixed(array, other.inputs[name], share) for name, array in batch.inputs.items()}
        if self.labels is None:
            targets = {name: mixed(array, theirs[name], share) for name, array in targets.items()}
            targets[ENTRY_WEIGHT] = mixed(own, weights, share)
            return Batch(inputs, targets, batch.rows)
        return Batch(
            inputs,
            {
                **targets,
                ENTRY_WEIGHT: self._weights(targets, own * share),
                OTHER: theirs[TARGET],
                OTHER_WEIGHT: self._weights(theirs, weights * (1 - share)),
            },
            batch.rows,
        )

    def _weights(self, targets: Mapping[str, Array], own: Array) -> Floats:
        """Return what every entry counts for, of samples that count for `own` [n]."""
        if self.labels is None:
            return own.astype(np.float32, copy=False)
        labels = targets[TARGET]
        counted = (
            np.ones(labels.shape, bool) if self.labels.ignored is None else labels != self.labels.ignored
        )
        weights = np.broadcast_to(own.reshape(-1, *[1] * (labels.ndim - 1)), labels.shape)
        if self.classes is not None:
            weights = weights * self.classes[np.where(counted, labels, 0)]
        return np.where(counted, weights, 0).astype(np.float32)


def _apart(batch: Batch) -> tuple[dict[str, Array], Array]:
    """Return the targets of a batch, and what its samples count for."""
    targets = dict(batch.targets)
    return targets, targets.pop(SAMPLE_WEIGHT, np.ones(len(batch.rows), np.float32))


def mixed(array: Array, other: Array, share: Floats) -> Array:
    """Return share * array + (1 - share) * other, a share for each of [n, ...], in the array's type.

    >>> mixed(np.array([1.0, 3.0]), np.array([3.0, 1.0]), np.array([0.75, 1.0], np.float32))
    array([1.5, 3. ])
    """
    shares = share.reshape(-1, *[1] * (array.ndim - 1)).astype(array.dtype)
    return np.asarray(other * (1 - shares) + array * shares, array.dtype)


def weigh(
    data: Dataset,
    targets: Mapping[str, Wanted],
    *,
    classes: tuple[float, ...] | str | None = None,
    mixup: float = 0.0,
) -> Dataset:
    """Return data whose training samples are weighed and mixed. targets: that the loss reads of the data, by name.

    classes: a number for each, or "balanced": n / (K n_c) for the n_c of n labels that are c, of K classes that are
    there. Raises UsageError where there are no labels to weigh, or other numbers of classes.
    """
    target = targets.get(TARGET)
    labels = target if target is not None and target.classes is not None else None
    weights, notes = None, data.notes
    if classes is not None:
        if labels is None or labels.classes is None:
            raise UsageError("class-weights are for class labels, and this loss reads none: leave them out")
        if isinstance(classes, str):
            weights = balanced(label_counts(data.train, labels))
            notes = (*notes, f"class weights: {_listed(weights)}")
        elif len(classes) != labels.classes:
            raise UsageError(
                f"class-weights has {len(classes)} numbers, the model has {labels.classes} classes"
            )
        else:
            weights = np.array(classes, np.float32)
    if mixup:
        notes = (
            *notes,
            f"mixup: pairs of samples are mixed{' with their labels' if labels is not None else ''}",
        )
    return replace(data, train=Weighed(data.train, labels, weights, mixup), notes=notes)


def require_mixable(inputs: Mapping[str, Input], targets: Mapping[str, Wanted]) -> None:
    """Raise DataError for what cannot be mixed: integers that are no labels of the one target that is."""
    for name, each in inputs.items():
        if each.dtype.kind != "f":
            raise DataError(f"mixup: input {name!r} reads integers, which cannot be mixed: leave mixup out")
    for name, target in targets.items():
        if target.classes is not None and name != TARGET:
            raise DataError(f"mixup: target {name!r} holds labels, which cannot be mixed: leave mixup out")


def label_counts(source: Source, target: Wanted) -> npt.NDArray[np.int64]:
    """Return how often each label is there: int64 [K]. Inputs are not decoded where the source is columns."""
    assert target.classes is not None
    counts = np.zeros(target.classes, np.int64)
    source, every = chosen_of(source)
    column = source.targets.get(TARGET) if isinstance(source, Examples) else None
    for start in range(0, len(every), _LOT):
        rows = every[start : start + _LOT]
        labels = column.take(rows) if column is not None else source.batch(rows, None).targets[TARGET]
        if target.ignored is not None:
            labels = labels[labels != target.ignored]
        counts += np.bincount(labels.reshape(-1), minlength=target.classes)
    return counts


def balanced(counts: npt.NDArray[np.int64]) -> Floats:
    """Return what labels count for so that every class that is there counts alike, and an entry 1 in the mean.

    >>> balanced(np.array([1, 3, 0]))
    array([2.       , 0.6666667, 0.       ], dtype=float32)
    """
    there = int(np.count_nonzero(counts))
    weights = np.divide(counts.sum() / max(there, 1), counts, out=np.zeros(len(counts)), where=counts > 0)
    return np.asarray(weights, np.float32)


def _listed(weights: Floats) -> str:
    shown = ", ".join(f"{weight:.3g}" for weight in weights[:10])
    return shown if len(weights) <= 10 else f"{shown}, and {len(weights) - 10} more"
