"""How good predictions are: loss and metrics of test data from one pass, in numpy and float64."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_oto.data import Batch, Source, jobs_in_order, made_ahead
from onnx_oto.errors import DataError
from onnx_oto.losses import Loss
from onnx_oto.losses import make as make_loss
from onnx_oto.metrics import Better, Metric, metrics_for
from onnx_oto.metrics.loss import LossTally
from onnx_oto.metrics.metric import Tally
from onnx_oto.peers.seam import ALONE, Peers

Array = npt.NDArray[Any]
T = TypeVar("T")
Inputs = Mapping[str, Array]
Predict = Callable[[Inputs], Array | Sequence[Array]]
"""A batch by input name -> what the loss reads of it (see `losses.read`); several tensors where it reads several."""
Provider = Callable[[Batch], Mapping[str, Array]]
"""A batch as it is trained on -> targets that the data do not hold, by name, such as what a teacher says of it."""
_FEW = 2
"""Examples that show whether metrics can be computed."""


@dataclass(frozen=True)
class Score:
    """metric: the first one asked for, `value` its value; loss: mean over the entries that count; `samples` seen.

    further: the other metrics by name. better: of the first one.
    """

    metric: str
    value: float
    loss: float
    samples: int
    further: Mapping[str, float] = field(default_factory=dict)
    better: Better = field(default="higher", compare=False)


def evaluate(
    predict: Predict,
    examples: Source,
    loss: str | Loss,
    metrics: Sequence[str | Metric] = (),
    *,
    batch: int = 256,
    providers: Sequence[Provider] = (),
    loaders: int = 1,
    peers: Peers = ALONE,
) -> Score:
    """Return the score of `predict` on all examples, in order.

    loss: a settled one, or a name. metrics: none means the loss's own. providers: of targets that the data do not hold.
    loaders: threads that make batches. peers: who share the work; the score has the same bits without. Raises DataError
    when predictions and targets do not fit together, or no label counts, and UsageError for a metric that the loss
    cannot give.
    """
    loss = make_loss(loss)
    chosen = metrics_for(loss, metrics)
    own: list[list[Tally]] = []
    jobs = islice(jobs_in_order(examples, batch), peers.rank, None, peers.size)
    with contextlib.closing(made_ahead(jobs, loaders)) as parts:
        for part in parts:
            targets = gather(part, providers)
            judged = loss.judge(_outputs(predict(part.inputs)), targets, len(part.rows))
            own.append(_started(chosen))
            for tally in own[-1]:
                tally.add(judged)
    total, *tallies = joined = _started(chosen)
    for found in _in_turn(peers.gather(own)):
        for tally, more in zip(joined, found, strict=True):
            tally.join(more)
    assert isinstance(total, LossTally)
    if not total.weight:
        raise DataError("every label of the test data is ignored: there is nothing to evaluate")
    values = {metric.name: tally.value for metric, tally in zip(chosen, tallies, strict=True)}
    first, *rest = values
    further = {name: values[name] for name in rest}
    return Score(first, values[first], total.value, len(examples), further, chosen[0].better)


def _started(metrics: Sequence[Metric]) -> list[Tally]:
    """Return empty tallies: of the loss, and of metrics."""
    return [LossTally(), *(metric.start() for metric in metrics)]


def _in_turn(dealt: Sequence[Sequence[T]]) -> Iterator[T]:
    """Yield what was dealt out to several, in its order.

    >>> list(_in_turn([[0, 2], [1]]))
    [0, 1, 2]
    """
    wrapped = ([[each] for each in one] for one in dealt)
    return chain.from_iterable(chain.from_iterable(zip_longest(*wrapped, fillvalue=())))


def require_measurable(
    predict: Predict,
    examples: Source,
    loss: str | Loss,
    metrics: Sequence[str | Metric] = (),
    *,
    providers: Sequence[Provider] = (),
) -> None:
    """Evaluate a few examples: raises what `evaluate` would, but for labels that count, before anything is trained."""
    loss = make_loss(loss)
    part = examples.batch(np.arange(min(_FEW, len(examples))), None)
    judged = loss.judge(_outputs(predict(part.inputs)), gather(part, providers), len(part.rows))
    for metric in metrics_for(loss, metrics):
        metric.start().add(judged)


def gather(batch: Batch, providers: Sequence[Provider]) -> dict[str, Array]:
    """Return the targets of a batch by name: those of the data, and those of providers."""
    found = dict(batch.targets)
    for provide in providers:
        found.update(provide(batch))
    return found


def _outputs(found: Array | Sequence[Array]) -> Sequence[Array]:
    return [found] if isinstance(found, np.ndarray) else found
