"""Everything of `train` that can be refused, before the first step."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_oto import data
from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients import Backend, Preparation, TrainingSpec, choose_backend, prepare, require_trainable
from onnx_oto.losses import DATA
from onnx_oto.pipeline.feeding import read_feeding
from onnx_oto.pipeline.opening import Opened, open_model, require_prunable
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.prune import require_passed
from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.comparing.computable import require_computable
from onnx_oto.surgery import cut, kept_inside
from onnx_oto.zigs import Analysis, Choice, choose, score, trainable, zero_dropped

Say = Callable[[str], None]

OPEN_SIZE = 32
"""What open sizes besides the batch are taken as while nothing is known of the data."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A model, data that fit it, and how to train: nothing is left that could be refused."""

    opened: Opened
    preparation: Preparation
    dataset: data.Dataset


def make_ready(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: TrainOptions,
    say: Say,
) -> Ready:
    """Return what training needs. The model is judged before any data are read, and nothing is written.

    Raises UnsupportedError for a model that has nothing to prune or that training cannot handle,
    RuntimeMissingError, and DataError for data that do not fit.
    """
    opened = open_model(path, options)
    if options.prunes:
        require_prunable(opened)
    backend = choose_backend(options.backend)
    require_computable(opened.origins.computed, options.limits)
    preparation = _prepared(opened, options, backend)
    require_trainable(preparation.refusals)
    _say_ceiling(opened.analysis, say)
    for note in opened.notes:
        say(note)
    if options.prunes:
        _rehearse(opened.analysis, options, say)
    raw = data.load(source)
    target = raw.train.target
    preparation = preparation.respecified(
        sample_shapes=_sample_shapes(opened.model, preparation, raw),
        target_shapes={} if target is None else {DATA: target.shape[1:]},
    )
    dataset = _dataset(preparation, raw, options)
    for note in dataset.notes:
        say(note)
    batch, shrunk = data.fit_batch(len(dataset.train), options.batch)
    if shrunk:
        say(shrunk)
    return Ready(opened, preparation.respecified(batch=batch, shards=min(options.shards, batch)), dataset)


def _prepared(opened: Opened, options: TrainOptions, backend: Backend) -> Preparation:
    """Return the preparation for what is known before the data are."""
    names = trainable(opened.analysis)
    if not names:
        raise UnsupportedError(f"'{opened.path.name}' has no float32 parameters to train")
    spec = TrainingSpec(
        trainable=names,
        loss=options.make_loss(),
        batch=options.batch,
        shards=min(options.shards, options.batch),
        output=options.model_output,
        seed=options.seed,
        sample_shapes=_guessed_shapes(opened.model),
        fixed_statistics=options.fixed_statistics,
    )
    return prepare(opened.model, spec, backend)


def _guessed_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return a sample shape for every input that leaves more than its first axis open."""
    shapes = {}
    for value in model.graph.input:
        sizes = _pattern(value)
        if None in sizes:
            shapes[value.name] = tuple(size or OPEN_SIZE for size in sizes)
    return shapes


def _pattern(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the shape of one sample, None for open sizes."""
    return tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim)[1:]


def _sample_shapes(
    model: onnx.ModelProto, preparation: Preparation, raw: data.Raw
) -> dict[str, tuple[int, ...]]:
    """Return the open sizes of samples, taken from the data."""
    values = {value.name: value for value in model.graph.input}
    shapes = {}
    for name in preparation.spec.sample_shapes:
        key = name if name in raw.train.inputs else ""
        if key not in raw.train.inputs:
            continue
        stored = raw.train.inputs[key][:1]
        fitted, _ = data.fit(stored, _pattern(values[name]), np.float32, name=raw.train.key(key))
        shapes[name] = fitted.shape
    return shapes


def _dataset(preparation: Preparation, raw: data.Raw, options: TrainOptions) -> data.Dataset:
    """Return the data as the inputs and the loss read them."""
    target = preparation.targets.get(DATA)
    inputs = {feed.name: data.Input(feed.shape, feed.dtype) for feed in preparation.feeds}
    labels = None
    if target is not None:
        labels = data.Labels(target.shape[1:], target.classes, target.low, target.high, target.ignored)
    pixels = data.Pixels(options.mean, options.std) if options.mean or options.std else None
    return data.assemble(raw, inputs, labels, pixels=pixels)


def _rehearse(analysis: Analysis, options: TrainOptions, say: Say) -> None:
    """Cut random groups out and verify: what cannot be compacted is refused now, not after training."""
    begin = time.perf_counter()
    choice = _rehearsed_choice(analysis, options, say)
    feeding = read_feeding(analysis.model, options)
    result = cut(analysis, choice.drop)
    inside = kept_inside(analysis, choice.drop, result)
    verdict = compare(zero_dropped(analysis, choice.drop), result.model, feeding=feeding, inside=inside)
    require_passed(verdict, "training was not started")
    say(
        f"rehearsal of the cut on random groups: exact in {verdict.runtime} ({time.perf_counter() - begin:.1f} s)"
    )


def _rehearsed_choice(analysis: Analysis, options: TrainOptions, say: Say) -> Choice:
    """Return random groups under the options of the run; say when constraints keep it from the exact target.

    Raises UsageError when it is `min_keep` that does.
    """
    scores = score(analysis, "random", options.seed)
    share = options.sparsity or 0.5  # at sparsity 0 there is still a cut to rehearse

    def chosen(min_keep: float) -> Choice:
        return choose(
            analysis,
            scores,
            share,
            scope=options.scope,
            round_to=options.round_to,
            min_keep=min_keep,
        )

    choice = chosen(options.min_keep if options.sparsity else 0.0)
    if choice.dropped < (most := chosen(0.0).dropped):
        raise UsageError(
            f"sparsity {options.sparsity:g} asks for {most} of {choice.prunable} groups, min-keep "
            f"{options.min_keep:g} leaves only {choice.dropped} of them: lower one of the two"
        )
    wanted = math.floor(share * choice.prunable + 0.5)
    if choice.dropped != wanted:
        say(
            f"constraints between groups: about {choice.dropped} of {choice.prunable} groups will be removed, "
            f"not {wanted}"
        )
    return choice


def _say_ceiling(analysis: Analysis, say: Say) -> None:
    lanes = sum(d.size for d in analysis.prunable)
    share = analysis.prunable_params / max(analysis.params, 1)
    say(
        f"{lanes} prunable groups in {len(analysis.prunable)} dimensions; {share:.1%} of "
        f"{analysis.params:,} parameters lie in them"
    )
