"""Everything of `train` that can be refused, before the first step."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from onnx import TensorProto

from onnx_oto import data
from onnx_oto.errors import DataError, OtoError, StorageError, UnsupportedError, UsageError
from onnx_oto.gradients import Backend, Preparation, TrainingSpec, choose_backend, prepare, require_trainable
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.losses import ENTRY_WEIGHT, MADE, Blend, Distill, Loss, Target, weighted
from onnx_oto.model.normal.serving import Serving, data_inputs, serving
from onnx_oto.peers.portions import Portion
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.pipeline.aim import Aim, keeping
from onnx_oto.pipeline.bucketing import bucketed, padding_of
from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.feeding import parse_numbers, read_feeding
from onnx_oto.pipeline.loss_options import LossOptions
from onnx_oto.pipeline.norms import Norms, calibrate, norms_for
from onnx_oto.pipeline.opening import Opened, open_model, require_prunable
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.ready import Ready, Recognises, Say
from onnx_oto.pipeline.rehearsing import rehearse
from onnx_oto.pipeline.sizes import open_inputs, sizes_of
from onnx_oto.pipeline.starting import Found, find_start
from onnx_oto.pipeline.teacher import calibrated, provided, teacher_of
from onnx_oto.pipeline.teaching import aim_of
from onnx_oto.runtime.comparing.computable import require_computable
from onnx_oto.runtime.devices import Device, read_device, require_device
from onnx_oto.runtime.limits import limited
from onnx_oto.zigs import Analysis, parameters
from onnx_oto.zigs.freezing import coded, frozen, held
from onnx_oto.zigs.learning import told


def make_ready(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: TrainOptions,
    say: Say,
    *,
    cache: Path | None = None,
    same: Recognises | None = None,
    peers: Peers = ALONE,
) -> Ready:
    """Return what training needs. The model is judged before any data are read, and nothing is written.

    cache: folder for data that have to be unpacked, where the options name none. same: refuses data that are not
    those of a run that goes on; they are read before the cut is rehearsed then. peers: who train with this process;
    what is measured is measured by the first of them. Raises UnsupportedError for a model
    that has nothing to prune or that training cannot handle, RuntimeMissingError, and DataError for data that do not
    fit.
    """
    opened = open_model(path, options)
    if options.prunes:
        require_prunable(opened)
    device = read_device(options.device)
    require_device(device)
    backend = choose_backend(options.backend, device)
    require_computable(opened.origins.computed, options.limits)
    opening, trouble = _opened_data(source, options.reading_in(cache))
    if same is not None:
        same.opened(opening)
    served = serving_of(opened, options, opening)
    for name, number in served.values.items():
        say(f"input {name!r} is {number:g} in training")
    names = _names(opened, options, say)
    aim, told = aim_of(opened, names, served, opening, options)
    for sentence in told:
        say(sentence)
    opened, aim = keeping(opened, aim, options)
    if aim.kept:
        say(f"the channels of {', '.join(map(repr, aim.kept))} stay: the teacher's are compared with them")
    norms = Norms()
    if options.batch_norm == "put-back":
        norms, told = norms_for(opened, names, aim.outputs)
        for sentence in told:
            say(sentence)
    portion = peers.portion
    preparation = _prepared(opened, served, names, aim, options, backend, opening, device, portion)
    require_trainable(preparation.refusals)
    if opening is None:
        raise trouble or DataError(f"{str(source)!r} holds no data")
    _say_outputs(opened, aim, say)
    _say_ceiling(opened.analysis, say)
    for note in opened.notes:
        say(note)
    feeding = read_feeding(opened.model, options)
    goal, fitting = Goal(), None
    if same is not None:
        fitting = _dataset(opened, served, preparation, opening, options)
        same.fitted(fitting[1])
    if options.prunes:
        feeding, goal = peers.told(partial(rehearse, opened, served, opening, feeding, options, say))
    fitting = fitting or _dataset(opened, served, preparation, opening, options)
    (preparation, *others), dataset = fitting
    if options.patience is not None and dataset.val is None:
        raise UsageError(
            f"patience is for validation data, and none of '{source}' are: set some apart with --val-share, or leave "
            "it out"
        )
    for note in dataset.notes:
        say(note)
    _, shrunk = data.fit_batch(opening.train.samples, options.batch)
    if shrunk:
        say(shrunk)
    aim = replace(aim, loss=preparation.loss)
    ready = Ready(opened, served, preparation, dataset, feeding, aim, goal, tuple(others))
    if aim.lesson is not None:
        ready = _taught(ready, options)
    if options.from_ == "auto":
        ready = replace(ready, start=peers.told(partial(_start, ready, names, options)))
    return replace(ready, norms=norms)


def with_norms(ready: Ready, options: TrainOptions) -> Ready:
    """Return what is ready with the norms that are put back in what is trained, calibrated on training data."""
    norms = ready.norms
    if not norms.layers:
        return ready
    if ready.others:
        raise UsageError(
            "batch-norm put-back is for samples of one size, and pad-value makes several: leave one out"
        )
    before, train = ready.preparation, ready.dataset.train
    with limited(options.limits):
        norms = calibrate(
            norms, ready.opened, ready.serving, train, batch=before.spec.batch, seed=options.seed
        )
    model = norms.within(ready.serving.served(ready.aim.giving(ready.opened.master)))
    spec = replace(before.spec, trainable=(*before.spec.trainable, *norms.trained))
    return replace(ready, norms=norms, preparation=prepare(model, spec, before.backend))


def _start(ready: Ready, names: Sequence[str], options: TrainOptions) -> Found:
    """Return how the model comes. names: of its parameters that train."""
    aim = ready.aim
    with limited(options.limits):
        return find_start(
            ready.opened,
            names,
            ready.serving,
            aim.outputs,
            aim.loss,
            ready.dataset.train,
            providers=ready.providers,
            seed=options.seed,
        )


def _taught(ready: Ready, options: TrainOptions) -> Ready:
    """Return what is ready with the teacher, and its variances in the loss."""
    preparation, examples = ready.preparation, ready.dataset.train
    teacher = teacher_of(
        ready.aim, ready.opened, ready.serving, preparation.targets, examples, options, preparation.sessions
    )
    teacher = calibrated(teacher, examples, options)
    aim = replace(ready.aim, loss=teacher.loss)
    others = tuple(each.with_loss(aim.loss) for each in ready.others)
    return replace(
        ready, preparation=preparation.with_loss(aim.loss), others=others, aim=aim, teacher=teacher
    )


def _opened_data(
    source: str | os.PathLike[str], reading: data.Reading
) -> tuple[data.Opening | None, OtoError | None]:
    """Return what the data say of themselves, or what is wrong with them: faults of the model are told first."""
    try:
        return data.open_data(source, reading), None
    except (DataError, StorageError) as error:
        return None, error


def _prepared(
    opened: Opened,
    serving: Serving,
    names: tuple[str, ...],
    aim: Aim,
    options: TrainOptions,
    backend: Backend,
    opening: data.Opening | None,
    device: Device,
    portion: Portion,
) -> Preparation:
    """Return the preparation for the sizes of the data, or for guessed ones where there are none."""
    model = serving.served(aim.giving(opened.master))
    shapes = sizes_of(open_inputs(model), opening)
    targets: dict[str, tuple[int, ...]] = {}
    batch = options.batch
    if opening is not None:
        targets = {name: sample.shape for name, sample in opening.train.targets.items()}
        batch, _ = data.fit_batch(opening.train.samples, options.batch)
        if opening.train.samples < portion.ranks:
            raise DataError(
                f"the training data have {opening.train.samples} samples, and {portion.ranks} ranks share them: "
                "start fewer ranks"
            )
    spec = TrainingSpec(
        trainable=names,
        loss=_weighed(aim.loss, options, opening),
        batch=batch,
        shards=min(options.shards, batch),
        threads=options.session_threads,
        output=aim.outputs,
        seed=options.seed,
        sample_shapes=shapes,
        target_shapes=targets,
        ties=opened.origins.tied({name: _size(opened, name) for name in names}),
        statistics=options.statistics,
        fixed_statistics=options.fixed_statistics,
        recompute=options.recompute,
        device=device,
        held=held(opened.analysis, names) if options.prunes else (),
        portion=portion,
    )
    preparation = prepare(model, spec, backend)
    require_samples(preparation.feeds)
    return preparation


def _weighed(loss: Loss, options: TrainOptions, opening: data.Opening | None) -> Loss:
    """Return a loss with weights where samples, labels or shares of mixed ones have any."""
    is_weighted = opening is not None and opening.train.weighted
    task = loss.task if isinstance(loss, Blend) else loss
    is_mixed = bool(options.mixup) and task.compares == "classes"
    if isinstance(task, Distill) or not (options.class_weights is not None or is_weighted or is_mixed):
        return loss
    own = weighted(task, mixed=is_mixed)
    return replace(loss, task=own) if isinstance(loss, Blend) else own


def serving_of(opened: Opened, options: LossOptions, opening: data.Opening | None) -> Serving:
    """Return how data are served to the model. Raises UsageError."""
    return serving(
        opened.master,
        None if opening is None else set(opening.train.inputs),
        axes=parse_numbers("batch-axis", options.batch_axis, int),
        values=parse_numbers("set-input", options.set_input, float),
    )


def require_samples(feeds: Sequence[Feed]) -> None:
    """Raise UsageError for an input that holds no samples: data are samples in every input."""
    for feed in feeds:
        if not feed.batched:
            raise UsageError(
                f"input {feed.name!r} has no axis that counts samples: say which one does with --batch-axis "
                f"{feed.name}:AXIS, or which number it is with --set-input {feed.name}:NUMBER"
            )


def _names(opened: Opened, options: TrainOptions, say: Say) -> tuple[str, ...]:
    """Return the parameters that train. Raises UnsupportedError and UsageError when there are none."""
    found = parameters(opened.analysis, opened.origins, also=options.also_train)
    for sentence in told(found, opened.origins):
        say(sentence)
    every = found.trained
    if (options.prunes and coded(opened.analysis)) or (opened.analysis.trace.codes and not every):
        raise UnsupportedError(
            f"'{opened.path.name}' is quantized, and that is not trained: train the float model, with --int8; 'prune' "
            "takes this one"
        )
    if not every and _is_double(opened):
        raise UnsupportedError(
            f"'{opened.path.name}' computes in double precision, which is not trained: export or convert it to "
            "float32; 'prune' takes this one"
        )
    if not every:
        raise UnsupportedError(f"'{opened.path.name}' has no floating-point parameters to train")
    still = frozen(opened.analysis, options.freeze, every, origin=lambda name: opened.origins.of(name).name)
    names = tuple(name for name in every if name not in still)
    if not names:
        raise UsageError("--freeze leaves no parameter to train: freeze fewer, or use 'prune'")
    return names


def _is_double(opened: Opened) -> bool:
    """Return whether most of the parameters are of double precision."""
    sizes = {name: _size(opened, name) for name in opened.analysis.counted_parameters}
    kinds = opened.analysis.graph.initializers
    double = sum(size for name, size in sizes.items() if kinds[name].data_type == TensorProto.DOUBLE)
    return 2 * double > sum(sizes.values())


def _size(opened: Opened, name: str) -> int:
    return math.prod(opened.analysis.graph.initializers[name].dims)


def _dataset(
    opened: Opened, serving: Serving, preparation: Preparation, opening: data.Opening, options: TrainOptions
) -> tuple[tuple[Preparation, ...], data.Dataset]:
    """Return the data as the inputs and the loss read them, and the preparations for the shapes of their batches."""
    given = provided(preparation.targets)
    targets = {name: target for name, target in given.items() if name not in MADE}
    if options.mixup:
        data.require_mixable(
            {feed.name: data.Input(feed.shape, feed.dtype) for feed in preparation.feeds}, targets
        )
    dataset = fitted(opened, preparation.feeds, targets, opening, options, options.augment)
    preparations: tuple[Preparation, ...] = (preparation,)
    if options.pad_value is not None:
        patterns = open_inputs(serving.served(opened.master))
        scaled = bool(options.mean or options.std)
        pad = padding_of(options.pad_value, opening.train)
        preparations, dataset = bucketed(preparation, dataset, pad, patterns, scaled=scaled)
    if ENTRY_WEIGHT in preparation.targets or options.mixup:
        dataset = data.weigh(dataset, targets, classes=options.class_weights, mixup=options.mixup)
    return preparations, dataset


def fitted(
    opened: Opened,
    feeds: Sequence[Feed],
    targets: Mapping[str, Target],
    opening: data.Opening,
    options: LossOptions,
    augment: data.Augment | None = None,
) -> data.Dataset:
    """Return the data as these inputs of a model and a loss with these targets read them."""
    inputs = {feed.name: data.Input(feed.shape, feed.dtype) for feed in feeds}
    pixels = data.Pixels(options.mean, options.std) if options.mean or options.std else None
    declared = {value.name for value in data_inputs(opened.model)}
    needless = declared - set(inputs)  # what only other outputs read, or nothing at all
    return opening.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)


def _say_outputs(opened: Opened, aim: Aim, say: Say) -> None:
    """Say that other outputs are not trained, where there are any; of what a teacher compares all was said."""
    read = aim.outputs
    others = [value.name for value in opened.model.graph.output if value.name not in read]
    if others and aim.lesson is None:
        listed = ", ".join(map(repr, others[:3])) + (" and others" if len(others) > 3 else "")
        say(f"the loss reads output {', '.join(map(repr, read))}: what only {listed} need does not learn")


def _say_ceiling(analysis: Analysis, say: Say) -> None:
    lanes = sum(d.size for d in analysis.prunable)
    share = analysis.prunable_params / max(analysis.params, 1)
    say(
        f"{lanes:,} prunable groups in {len(analysis.prunable)} dimensions; {share:.1%} of "
        f"{analysis.params:,} parameters lie in them"
    )
