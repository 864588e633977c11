"""A loss whose entries do not all count alike: weights of samples and of classes, and samples mixed of two.

With weights w of the entries, and v of the second label of each where samples are mixed, the loss of a batch is

    (sum w l(z, y) + sum v l(z, y')) / (sum w + sum v)

over the entries that count, exactly, however the batch is split. What is judged is the loss without weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.losses.loss import DATA, Array, Judged, Kind, Loss, Target
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter

ENTRY_WEIGHT, OTHER, OTHER_WEIGHT = f"{DATA}.weight", f"{DATA}.other", f"{DATA}.other.weight"
MADE = (ENTRY_WEIGHT, OTHER, OTHER_WEIGHT)
"""The targets that are made of those of the data: weights, and the second labels of mixed samples with theirs."""


@runtime_checkable
class Weighable(Loss, Protocol):
    """A loss with a target DATA that can say what every entry of it adds."""

    def append_each(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
    ) -> str:
        """Write the loss of every entry and return its tensor, of the shape of DATA; 0 where a label is ignored."""


@dataclass(frozen=True)
class Weighted:
    """A loss (see `Loss`) of weighted entries. mixed: whether every entry has a second label.

    Labels have a weight for each of them; numbers one for each sample.
    """

    inner: Weighable
    mixed: bool = False

    @property
    def name(self) -> str:
        """See `Loss`, as for all that is the inner loss's."""
        return self.inner.name

    @property
    def text(self) -> str:
        return self.inner.text

    @property
    def metric(self) -> str:
        return self.inner.metric

    @property
    def compares(self) -> Kind:
        return self.inner.compares

    @property
    def outputs(self) -> int:
        return self.inner.outputs

    @property
    def per_sample(self) -> bool:
        return self.inner.per_sample

    def activations(self, output: int) -> Mapping[str, int | None]:
        return self.inner.activations(output)

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> Loss:
        """Return the loss with what the inner one leaves open decided."""
        return weighted(self.inner.settle(shapes, given), mixed=self.mixed)

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return the targets of the inner loss, and those that are made of them (see MADE)."""
        found = self.inner.targets(shapes)
        main = found[DATA]
        shape = main.shape if main.classes is not None else main.shape[:1]
        weight = Target(np.dtype(np.float32), shape, low=0.0)
        found[ENTRY_WEIGHT] = weight
        if self.mixed:
            found |= {OTHER: main, OTHER_WEIGHT: weight}
        return found

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """See `Loss.append`."""
        main = self.inner.targets(shapes)[DATA]
        pairs = [(DATA, ENTRY_WEIGHT), (OTHER, OTHER_WEIGHT)] if self.mixed else [(DATA, ENTRY_WEIGHT)]
        sums = []
        for target, of_each in pairs:
            losses = self.inner.append_each(graph, outputs, shapes, {**targets, DATA: targets[target]})
            weights = targets[of_each]
            if main.classes is None and len(main.shape) > 1:
                weights = graph.reshape(weights, (samples, *[1] * (len(main.shape) - 1)))
            sums.append(graph.emit("ReduceSum", graph.emit("Mul", losses, weights), keepdims=0))
        total = sums[0] if len(sums) == 1 else graph.emit("Add", *sums)
        return graph.emit("Mul", total, weight)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the sum of the weights, 0 where nothing counts; without weights what the inner loss counts.

        Samples that are not augmented have one label each.
        """
        if ENTRY_WEIGHT not in targets:
            return self.inner.count(targets, samples)
        entries = targets[DATA].size / max(targets[ENTRY_WEIGHT].size, 1)
        weights = (targets[name] for name in (ENTRY_WEIGHT, OTHER_WEIGHT) if name in targets)
        return entries * sum(float(each.sum(dtype=np.float64)) for each in weights)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """Judge as the inner loss does, every entry alike."""
        return self.inner.judge(outputs, targets, samples)


def weighted(loss: Loss, *, mixed: bool = False) -> Weighted:
    """Return a loss whose entries have weights. Raises UsageError for one that cannot tell its entries apart."""
    if not isinstance(loss, Weighable):
        raise UsageError(
            f"the loss '{loss.name}' is one number for all samples or reads other targets: neither weights nor mixed "
            "labels go with it; leave them out"
        )
    return Weighted(loss, mixed)
