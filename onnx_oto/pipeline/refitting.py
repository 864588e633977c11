"""Keeping what a trained model can do without training it: what goes and what is left, by what data show of it.

1. What the layers read is seen on training data, in the model as it is, and summed up (`onnx_oto.refit`).
2. Every channel gets a loss: what its readers cannot make up for. In each dimension the cheapest quarter is taken out
   for once, refitted, and the change of the model's outputs is measured: that brings the losses of all dimensions into
   one unit, whatever reads them (attention, norms, what no reader is known of).
3. Under the losses the budgets' solver chooses; then the readers of what goes are fitted anew, in the full model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.aim import giving
from onnx_oto.pipeline.finishing import batch_size, declared, predictor, served_lean, with_weights
from onnx_oto.pipeline.norms import bare_layers
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.recalibrating import recalibrated
from onnx_oto.refit import Moments, Reader, Refitted, gathered, losses, readers, refitted
from onnx_oto.refit.moments import parts
from onnx_oto.refit.taps import FIRST_OPSET
from onnx_oto.runtime.limits import Limits, limited
from onnx_oto.zigs import Analysis, AnalysisOptions, analyse, score, zero_dropped

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Say = Callable[[str], None]

BATCH = 16
"""Samples of a run whose inner tensors are looked at."""
TRIED = 0.25
"""Share of a dimension that is taken out to measure what its losses mean."""
TRIED_SAMPLES = 48
"""Training samples that this is measured on; nothing is fitted to them."""
MOST_MACS = 3e12
"""Multiply-accumulates that measuring may take: of large models with many dimensions fewer samples are used."""
_LEAST = 1e-3
"""Share of a dimension's losses that is taken out at least: less is noise."""
_NEXT_TO_NOTHING = 1e-12
"""The change of outputs that do not change: losses keep their order."""
_DEAREST = 1e3
"""How many times as much the last lane of a dimension may be, before a logarithm is taken."""
_RUIN = 1e6
"""The change of outputs that are no numbers any more."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What data showed of a model. outputs: whose change is what losses are measured by.

    samples: what it was shown, in batches of `batch`; examples: others, that nothing is fitted to. changed: see `look`.
    """

    opened: Opened
    serving: Serving
    outputs: tuple[str, ...]
    moments: tuple[Moments, ...]
    examples: tuple[Arrays, ...]
    samples: data.Source
    batch: int
    changed: frozenset[str] | None = None

    @cached_property
    def trial(self) -> Trial:
        """What tries models on the examples."""
        return Trial(self)

    @cached_property
    def constants(self) -> dict[str, Array]:
        """Return the values of weights and biases of readers, float32 or, in a model of such, float64."""
        found: dict[str, Array] = {}
        for each in self.moments:
            found.update((name, self._value(name)) for name in each.reader.names)
        return found

    def refit(self, drop: BoolArray) -> Refitted:
        """Return new weights for the readers of what goes. drop: bool [lanes].

        A reader whose new weights half precision cannot hold is left as it is.
        """
        found = refitted(self.moments, drop, self.constants)
        tensors = self.opened.analysis.graph.initializers
        for reader in (each.reader for each in self.moments if each.reader.weight in found.values):
            if not all(_fits(tensors[name], found.values[name]) for name in reader.names):
                for name in reader.names:
                    del found.values[name]
                del found.left[reader.weight]
        return found

    def _value(self, name: str) -> Array:
        value = self.opened.analysis.graph.constant(name)
        assert value is not None
        return value.astype(
            np.promote_types(value.dtype, np.float32) if value.dtype.kind == "f" else np.float32
        )


def _fits(tensor: onnx.TensorProto, values: Array) -> bool:
    """Say whether new values of a tensor are numbers in its type."""
    with np.errstate(over="ignore"):
        stored = values.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).astype(np.float64)
    return bool(np.isfinite(stored).all())


def look(
    opened: Opened,
    serving: Serving,
    outputs: Sequence[str],
    source: data.Source,
    *,
    samples: int,
    seed: int,
    limits: Limits,
    say: Say,
    changed: Collection[str] | None = None,
    alike: bool = True,
) -> Seen:
    """Return what `samples` drawn from `source` show of a model.

    changed: initializers that may get new values, None for all. alike: whether all samples have one shape. Raises
    LimitError and CrashedError.
    """
    begin = time.perf_counter()
    rows = _drawn(len(source), samples, seed)
    tried = np.random.default_rng(seed).choice(
        rows, min(TRIED_SAMPLES, max(rows.size // 5, 1)), replace=False
    )
    found = _readers(opened, changed)
    model = serving.served(giving(opened.master, outputs))
    fixed = batch_size(model)
    size = fixed or (BATCH if alike else 1)
    drawn = data.Chosen(source, _mixed(np.setdiff1d(rows, tried) if rows.size > 1 else rows, size, seed))
    moments: list[Moments] = []
    with limited(limits):
        for part in parts(found):
            moments += gathered(
                model,
                part,
                (batch.inputs for batch in data.in_order(drawn, size)),
                declared,
                samples=len(drawn),
                batch=size,
                seed=seed,
                fixed=fixed is not None,
            )
    say(
        f"{_told(opened, found)} were watched on {len(drawn):,} samples ({time.perf_counter() - begin:.0f} s)"
    )
    examples = tuple(batch.inputs for batch in data.in_order(data.Chosen(source, np.sort(tried)), size))
    allowed = None if changed is None else frozenset(changed)
    return Seen(opened, serving, tuple(outputs), tuple(moments), examples, drawn, size, allowed)


def _told(opened: Opened, found: Sequence[Reader]) -> str:
    """Return in words which layers are looked into."""
    analysis, opset = opened.analysis, opset_of(opened.model)
    if opset < FIRST_OPSET:
        return f"no layers (that needs opset {FIRST_OPSET}, the model has {opset})"
    lanes = sum(d.size for d in analysis.prunable)
    return f"{len(found)} layers that read {_count_read(analysis, found):,} of {lanes:,} groups"


def _drawn(count: int, most: int, seed: int) -> IntArray:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _mixed(rows: IntArray, first: int, seed: int) -> IntArray:
    """Return the rows with the first batch drawn from all of them: sums are taken about its mean."""
    begin = np.sort(np.random.default_rng([seed, 1]).choice(rows, min(first, rows.size), replace=False))
    return np.concatenate([begin, np.setdiff1d(rows, begin)])


def share_read(opened: Opened, changed: Collection[str]) -> float:
    """Return the share of the groups that some layer reads which can be fitted anew. changed: see `look`."""
    lanes = sum(d.size for d in opened.analysis.prunable)
    return _count_read(opened.analysis, _readers(opened, changed)) / max(lanes, 1)


def _count_read(analysis: Analysis, found: Sequence[Reader]) -> int:
    known = np.zeros(analysis.lanes.count, bool)
    for reader in found:
        known[reader.lanes[reader.lanes >= 0]] = True
    return int(known.sum())


def _readers(opened: Opened, changed: Collection[str] | None = None) -> tuple[Reader, ...]:
    """Return the readers whose weights may change, and are no copies of a tensor that others have copies of too."""
    if opset_of(opened.model) < FIRST_OPSET:
        return ()
    analysis = opened.analysis
    found = readers(analysis)
    named = {*analysis.counted_parameters, *(name for each in found for name in each.names)}
    tensors = analysis.graph.initializers
    sizes = {name: int(np.prod(t.dims, dtype=np.int64)) for name, t in tensors.items() if name in named}
    tied = {name for tie in opened.origins.tied(sizes) for name in tie.names}
    still = set() if changed is None else {*named} - set(changed)
    return tuple(
        each for each in found if (tied | still).isdisjoint(each.names) and _is_finite(analysis, each)
    )


def _is_finite(analysis: Analysis, reader: Reader) -> bool:
    """Say whether there is something to fit: no weight that has lost its numbers."""
    values = (analysis.graph.constant(name) for name in reader.names)
    return all(value is not None and bool(np.isfinite(value.astype(np.float64)).all()) for value in values)


def lane_losses(seen: Seen, *, seed: int, limits: Limits, say: Say) -> FloatArray:
    """Return what it costs that a lane goes, as a share of the outputs' variance: float64 [lanes], they add up."""
    begin = time.perf_counter()
    analysis = seen.opened.analysis
    constants = seen.constants
    found = np.zeros(analysis.lanes.count)
    for moments in seen.moments:
        weight = moments.reader.matrix(constants[moments.reader.weight])
        found += losses(moments, weight, analysis.lanes.count)
    _fill_unread(found, seen, seed)
    with limited(limits):
        trial = seen.trial
        for dimension in analysis.prunable:
            lanes = dimension.lanes
            if lanes.size < 2:
                continue
            gone = _cheapest(found, lanes)
            expected, change = float(found[gone].sum()), trial.change(gone)
            if change is not None and expected > 0:
                found[lanes] *= max(change, _NEXT_TO_NOTHING) / expected
    say(
        f"what {len(analysis.prunable)} dimensions mean for the outputs was measured on {trial.samples} samples "
        f"({time.perf_counter() - begin:.0f} s)"
    )
    return found


def fitted(seen: Seen, drop: BoolArray, *, limits: Limits, say: Say) -> Refitted:
    """Return what layers become where groups go: fitted anew, and brought back to how their outputs varied.

    The latter where it brings the outputs of examples nearer to what they were. Raises LimitError and CrashedError.
    """
    begin = time.perf_counter()
    found = seen.refit(drop)
    opened = seen.opened
    if not found.values or not _can_be_recalibrated(seen):
        return found
    names = opened.analysis.counted_parameters if seen.changed is None else seen.changed
    with limited(limits):
        trial = seen.trial
        plain = full_without(opened.analysis, found.values, drop)
        more = recalibrated(
            opened.model,
            plain,
            bare_layers(opened, sorted(names), seen.outputs)[0],
            seen.serving,
            lambda: islice(_inputs(seen), max(len(seen.samples) // seen.batch, 1)),
            seen.changed,
        )
        values = {**found.values, **more}
        pair = [trial.change_of(each) for each in (plain, full_without(opened.analysis, values, drop))]
    before, after = pair
    if before is None or after is None or not after < before:
        return found
    say(
        f"means and variances of {len(more)} parameters brought back: squared change of the outputs {after:.4g}, "
        f"without {before:.4g} ({time.perf_counter() - begin:.0f} s)"
    )
    return Refitted(values, found.left)


def _can_be_recalibrated(seen: Seen) -> bool:
    """Say whether layers give enough to tell means and variances of: float32, and more than a batch of one sample."""
    kinds = {tensor.data_type for tensor in seen.opened.model.graph.initializer if tensor.data_type in FLOATS}
    is_full = not batch_size(seen.serving.served(seen.opened.model)) or len(seen.samples) >= seen.batch
    return kinds == {onnx.TensorProto.FLOAT} and min(seen.batch, len(seen.samples)) > 1 and is_full


def _inputs(seen: Seen) -> Iterable[Arrays]:
    return (batch.inputs for batch in data.in_order(seen.samples, seen.batch))


def _fill_unread(found: FloatArray, seen: Seen, seed: int) -> None:
    """Give lanes that no reader was seen to read a loss by magnitude, in place; as large as the others' in the mean."""
    analysis = seen.opened.analysis
    is_read = np.zeros(analysis.lanes.count, bool)
    for moments in seen.moments:
        lanes = moments.reader.lanes
        is_read[lanes[lanes >= 0]] |= moments.count > 0
    magnitudes = score(analysis, "magnitude", seed)
    for dimension in analysis.prunable:
        lanes = dimension.lanes
        unread, known = lanes[~is_read[lanes]], found[lanes[is_read[lanes]]]
        if unread.size:
            level = float(known.mean()) if known.any() else 1 / lanes.size
            found[unread] = level * unread.size * _shares(magnitudes[unread])


def _shares(magnitudes: FloatArray) -> FloatArray:
    """Return the energy of each lane by that of it and of those that stay longer, as a logarithm: as in `units`.

    The first to go cost their share of all, the last ones more: nothing is left then that could stand in for them.
    """
    order = np.argsort(magnitudes, kind="stable")
    squares = np.square(magnitudes[order])
    if not squares.any():
        squares = np.ones_like(squares)
    left = np.cumsum(squares[::-1])[::-1]
    after = np.maximum(np.append(left[1:], 0.0), left / _DEAREST)
    result = np.zeros(order.size)
    result[order] = np.log(np.maximum(left, 1e-300) / np.maximum(after, 1e-300))
    return result


def _cheapest(found: FloatArray, lanes: IntArray) -> IntArray:
    """Return a quarter of the lanes of a dimension, the cheapest; more where those cost next to nothing."""
    order = lanes[np.argsort(found[lanes], kind="stable")]
    costs = np.cumsum(found[order])
    least = int(np.searchsorted(costs, _LEAST * costs[-1])) + 1
    count = min(max(round(TRIED * lanes.size), least, 1), lanes.size - 1)
    return order[:count]


class Trial:
    """The full model with some groups zero, refitted, beside what it says with all of them."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._feeds = _affordable(seen)
        self._expected = [self._predict(seen.opened.model, feed) for feed in self._feeds]
        self._spread = _spread(self._expected)

    @property
    def samples(self) -> int:
        """How many samples the models are run on."""
        return sum(len(next(iter(feed.values()))) for feed in self._feeds)

    def change(self, gone: IntArray) -> float | None:
        """Return the squared change of the outputs as a share of their variance, mean over the outputs.

        None where no output tells: all are constant, or no numbers.
        """
        seen = self._seen
        drop = np.zeros(seen.opened.analysis.lanes.count, bool)
        drop[gone] = True
        return self.change_of(full_without(seen.opened.analysis, seen.refit(drop).values, drop))

    def change_of(self, model: onnx.ModelProto) -> float | None:
        """Return the same for a model."""
        run = predictor(self._lean(model))
        off = [0.0] * len(self._spread)
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            for at, (new, old) in enumerate(zip(run(feed), expected, strict=True)):
                known = np.isfinite(old)
                off[at] += float(np.square(new[known].astype(np.float64) - old[known]).sum())
        shares = [each / spread for each, spread in zip(off, self._spread, strict=True) if spread > 0]
        if not shares:
            return None
        result = float(np.mean(shares))
        return result if np.isfinite(result) else _RUIN

    def _predict(self, model: onnx.ModelProto, feed: Arrays) -> Sequence[Array]:
        return predictor(self._lean(model))(feed)

    def _lean(self, model: onnx.ModelProto) -> onnx.ModelProto:
        seen = self._seen
        return served_lean(giving(model, seen.outputs), seen.outputs, seen.serving)


def _affordable(seen: Seen) -> list[Arrays]:
    """Return as many batches of examples as all dimensions can be measured on: a matter of counts, not of clocks."""
    model, feeds = seen.serving.served(seen.opened.model), list(seen.examples)
    sizes: dict[str, int] = {}
    for value in model.graph.input:
        array = feeds[0].get(value.name)
        dims = value.type.tensor_type.shape.dim
        if array is not None:
            sizes |= {dim.dim_param: n for dim, n in zip(dims, array.shape, strict=True) if dim.dim_param}
    batch = max(len(array) for array in feeds[0].values())
    if fixed := batch_size(model):
        batch = -(-batch // fixed)
    else:
        sizes |= {
            dim.dim_param: 1 for value in model.graph.input for dim in value.type.tensor_type.shape.dim[:1]
        }
    analysis = seen.opened.analysis
    macs = max(analysis.macs_at(sizes), 1) * batch * len(analysis.prunable)
    return feeds[: max(1, int(MOST_MACS / macs))]


def _spread(batches: Sequence[Sequence[Array]]) -> list[float]:
    """Return the sum of squares of every output about its mean over the samples, about 0 where there is one sample.

    What is not finite is left out.
    """
    result = []
    for parts_of in zip(*batches, strict=True):
        every = np.concatenate([np.asarray(part, np.float64) for part in parts_of])
        known = np.isfinite(every)
        every = np.where(known, every, 0.0)
        mean = every.sum(0) / np.maximum(known.sum(0), 1)
        apart = np.where(known, every - mean, 0.0) if len(every) > 1 else every
        result.append(float(np.square(apart).sum()) or float(np.square(every).sum()))
    return result


def full_without(analysis: Analysis, values: Arrays, drop: BoolArray) -> onnx.ModelProto:
    """Return the full model with new weights, and the groups of dropped lanes zero."""
    return zero_dropped(replace(analysis, model=with_weights(analysis.model, values)), drop)


def with_values(opened: Opened, values: Arrays, options: AnalysisOptions) -> Opened:
    """Return an opened model with new values in some initializers, analysed as it was: lanes have the same numbers."""
    return replace(opened, analysis=analyse(with_weights(opened.model, values), options))
