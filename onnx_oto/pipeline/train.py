"""`train`: train once, compact, verify, measure."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.bench import Latency, latency
from onnx_oto.errors import DivergedError, OtoError, StorageError, UnsupportedError, UsageError
from onnx_oto.gradients import GradientSession, TrainingSpec, refusals, require_training
from onnx_oto.gradients.ort import OrtBackend
from onnx_oto.gradients.prepare import prepare, training_graph
from onnx_oto.model import save
from onnx_oto.model.tensors import from_array
from onnx_oto.optim import DIRECTIONS, Block, GroupIndex, Optimizer, Plan, Task, make
from onnx_oto.pipeline.opening import Opened, open_model, require_prunable
from onnx_oto.pipeline.prune import cut_and_verify
from onnx_oto.pipeline.summary import Summary, summarise
from onnx_oto.surgery import compact
from onnx_oto.training import (
    History,
    MetricsFile,
    Observer,
    Observers,
    Recipe,
    Schedule,
    Score,
    evaluate,
    save_checkpoint,
    total_steps,
)
from onnx_oto.training import train as run_loop
from onnx_oto.training.checkpoint import Progress
from onnx_oto.verify import compare, runner
from onnx_oto.zigs import Analysis, analyse, choose, score, trainable, zero_dropped
from onnx_oto.zigs.blocks import lane_scores, zig_blocks
from onnx_oto.zigs.groups import zero_lanes
from onnx_oto.zigs.lanes import BoolArray

OPEN_SIZE = 32
"""What open sizes besides the batch are taken as while nothing is known of the data."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train; the fields are the options of the command line.

    sparsity: share of groups to zero. scope: ranked over the whole model ("global", every dimension keeping at
    least `min_keep` of its lanes) or the same share in every dimension.
    """

    sparsity: float = 0.5
    epochs: int = 10
    batch: int = 64
    lr: float = 0.1
    optimizer: str = "dhspg"
    direction: str = "sgd"
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warm_up: float = 0.05
    loss: str = "cross-entropy"
    output: str | None = None
    seed: int = 0
    shards: int = 0
    scope: Literal["global", "dimension"] = "global"
    min_keep: float = 0.1
    round_to: int = 1
    keep: Sequence[str] = ()
    flip: bool = False
    crop: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"sparsity {self.sparsity} is not a share: give a number from 0 to below 1")
        if self.epochs < 1:
            raise UsageError(f"{self.epochs} epochs: give at least 1")
        if self.batch < 1:
            raise UsageError(f"a batch of {self.batch}: give at least 1")
        if self.direction not in DIRECTIONS:
            raise UsageError(f"direction '{self.direction}': choose one of {', '.join(DIRECTIONS)}")


@dataclass(frozen=True)
class Trained:
    """The result of a training run; `summary` and what follows are None when it was stopped before the end."""

    run: Path
    target: float
    achieved: float
    seconds: float
    history: History
    summary: Summary | None = None
    full: Score | None = None
    compact: Score | None = None
    latencies: tuple[Latency, Latency] | None = None
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the result under its public names."""
        result: dict[str, Any] = self.summary.as_json() if self.summary else {"schema": 1, "stopped": True}
        result["sparsity"] = {"target": self.target, "achieved": self.achieved}
        if self.full is not None and self.compact is not None:
            result["metric"] = {
                "name": self.full.metric,
                "full": self.full.value,
                "compact": self.compact.value,
            }
        if self.latencies is not None:
            full, small = self.latencies
            result["latency_ms"] = {"full": round(full.median, 4), "compact": round(small.median, 4)}
        result["seconds"] = round(self.seconds, 2)
        result["run"] = str(self.run)
        return result


Say = Callable[[str], None]


def train(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    run: str | os.PathLike[str],
    options: TrainOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Say = lambda text: None,
    stop: Callable[[], bool] | None = None,
) -> Trained:
    """Train the model at `path` on the npz file `source` and write everything to the folder `run`.

    Everything that can be refused is refused before the first step: a model that cannot be trained or
    compacted (a rehearsal on random groups is verified), data that do not fit. `say` gets sentences about what
    is done, `observer` the events of training. Files: trained.onnx, compact.onnx, metrics.jsonl,
    checkpoint.npz, result.json.
    """
    options = options or TrainOptions()
    begin = time.perf_counter()
    opened = open_model(path, options.keep)
    analysis = opened.analysis
    if options.optimizer != "dense":
        require_prunable(opened)
    require_training()
    spec = _checked_spec(opened, options)
    _say_ceiling(analysis, say)
    if options.optimizer != "dense":
        _rehearse(analysis, options, say)
    folder = _folder(run, overwrite=options.overwrite)
    raw = data.load(source)
    spec = _with_sample_shapes(analysis.model, spec, raw)
    dataset = _dataset(analysis.model, spec, raw, options)
    for note in dataset.notes:
        say(note)
    batch, shrunk = data.fit_batch(len(dataset.train), options.batch)
    if shrunk:
        say(shrunk)
    spec = _replace(spec, batch=batch, shards=min(options.shards, batch))
    session = OrtBackend().build(analysis.model, spec)
    try:
        optimizer = _optimizer(
            analysis, session, options, total_steps(len(dataset.train), batch, options.epochs)
        )
        history = _run(session, optimizer, dataset, options, batch, folder, observer, stop)
        weights = session.weights()
    finally:
        session.close()
    if history.stopped:
        achieved = _share(optimizer.zeroed, analysis)
        return Trained(folder, options.sparsity, achieved, time.perf_counter() - begin, history)
    return _finish(opened, weights, dataset, options, folder, history, begin, say)


def _checked_spec(opened: Opened, options: TrainOptions) -> TrainingSpec:
    """Return the training spec, after asking whether every node on the way can be trained."""
    names = trainable(opened.analysis)
    if not names:
        raise UnsupportedError(f"'{opened.path.name}' has no float32 parameters to train")
    spec = TrainingSpec(
        trainable=names,
        loss=options.loss,
        batch=options.batch,
        shards=0,
        output=options.output,
        seed=options.seed,
        sample_shapes=_guessed_shapes(opened.model),
    )
    refused = refusals(opened.model, spec)
    if refused:
        raise UnsupportedError(
            "training cannot handle "
            + "; ".join(str(refusal) for refusal in refused[:5])
            + (f"; and {len(refused) - 5} more nodes" if len(refused) > 5 else "")
        )
    return spec


def _guessed_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return a sample shape for every input that leaves more than its first axis open."""
    shapes = {}
    for value in model.graph.input:
        sizes = [d.dim_value or None for d in value.type.tensor_type.shape.dim][1:]
        if None in sizes:
            shapes[value.name] = tuple(s or OPEN_SIZE for s in sizes)
    return shapes


def _with_sample_shapes(model: onnx.ModelProto, spec: TrainingSpec, raw: data.Raw) -> TrainingSpec:
    """Return `spec` with the open sizes taken from the data."""
    shapes = {}
    for name in spec.sample_shapes:
        table = raw.train.inputs
        stored = table.get(name, table.get(""))
        if stored is None:
            continue
        value = next(v for v in model.graph.input if v.name == name)
        pattern = tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)[1:]
        fitted, _ = data.fit(stored[:1], pattern, np.float32, name=raw.train.key(name))
        shapes[name] = fitted.shape
    return _replace(spec, sample_shapes=shapes)


def _dataset(
    model: onnx.ModelProto, spec: TrainingSpec, raw: data.Raw, options: TrainOptions
) -> data.Dataset:
    prepared = prepare(model, spec)
    graph = training_graph(prepared, spec, 2)
    inputs = {feed.name: data.Input(feed.shape, feed.dtype) for feed in prepared.feeds}
    labels = None
    if graph.target is not None:
        bounds = (0.0, 1.0) if options.loss == "bce-with-logits" else (-np.inf, np.inf)
        labels = data.Labels(graph.target.shape[1:], graph.target.classes, *bounds)
    pixels = data.Pixels(options.mean, options.std) if options.mean or options.std else None
    return data.assemble(raw, inputs, labels, pixels=pixels)


def _optimizer(analysis: Analysis, session: GradientSession, options: TrainOptions, steps: int) -> Optimizer:
    entries, lanes = zig_blocks(analysis, session.slices)
    groups = GroupIndex(tuple(Block(*entry) for entry in entries), int(lanes.size))

    def select(scores: npt.NDArray[np.float64]) -> BoolArray:
        choice = choose(
            analysis,
            lane_scores(analysis, lanes, scores),
            options.sparsity,
            scope=options.scope,
            round_to=options.round_to,
            min_keep=options.min_keep,
        )
        return choice.drop[lanes]

    direction = DIRECTIONS[options.direction](weight_decay=options.weight_decay)
    size = session.params.size
    task = Task(direction, size, groups, select, Plan.of(max(steps, 1)))
    return make(options.optimizer, task)


def _run(
    session: GradientSession,
    optimizer: Optimizer,
    dataset: data.Dataset,
    options: TrainOptions,
    batch: int,
    folder: Path,
    observer: Observer | None,
    stop: Callable[[], bool] | None,
) -> History:
    steps = total_steps(len(dataset.train), batch, options.epochs)
    augment = data.Augment(options.flip, options.crop) if options.flip or options.crop else None
    schedule = Schedule(
        options.schedule, options.lr, steps, warm_up=min(round(steps * options.warm_up), steps)
    )
    recipe = Recipe(options.epochs, batch, schedule, options.loss, seed=options.seed, augment=augment)
    checkpoint = folder / "checkpoint.npz"
    with MetricsFile(folder / "metrics.jsonl") as metrics:
        watching = Observers((metrics, observer)) if observer else Observers((metrics,))
        try:
            return run_loop(
                session,
                optimizer,
                dataset,
                recipe,
                observer=watching,
                stop=stop,
                checkpoint=checkpoint,
                run=_plain_options(options),
            )
        except DivergedError as error:
            save_checkpoint(folder / "last-good.npz", session, optimizer, Progress())
            raise DivergedError(
                f"{error}; the parameters before it are in '{folder / 'last-good.npz'}'"
            ) from None


def _plain_options(options: TrainOptions) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return values


def _finish(
    opened: Opened,
    weights: Mapping[str, npt.NDArray[Any]],
    dataset: data.Dataset,
    options: TrainOptions,
    folder: Path,
    history: History,
    begin: float,
    say: Say,
) -> Trained:
    full = with_weights(opened.model, weights)
    save(full, folder / "trained.onnx")
    analysis = analyse(full, options.keep)
    drop = zero_lanes(analysis) if options.optimizer != "dense" else np.zeros(analysis.lanes.count, bool)
    say("compacting and verifying")
    _, small, verdict = cut_and_verify(analysis, drop, options.seed)
    save(small, folder / "compact.onnx")
    summary = summarise(analysis, small, int(drop.sum()), verdict)
    scores = [_score(model, dataset, options) for model in (full, small)]
    feed = next(data.in_order(dataset.test, 1)).inputs
    times = latency([full, small], feed)
    result = Trained(
        folder,
        options.sparsity,
        _share(int(drop.sum()), analysis),
        time.perf_counter() - begin,
        history,
        summary,
        scores[0],
        scores[1],
        (times[0], times[1]),
        dataset.notes,
    )
    _write_json(folder / "result.json", {**result.as_json(), "options": _plain_options(options)})
    return result


def with_weights(model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """Return a copy of `model` whose initializers named in `weights` hold those values."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
    return result


def _score(model: onnx.ModelProto, dataset: data.Dataset, options: TrainOptions) -> Score:
    """Return the test score of a model as a stock runtime computes it."""
    run = runner(model)
    names = [value.name for value in model.graph.output]
    index = names.index(options.output) if options.output else 0
    return evaluate(lambda batch: run(batch)[index], dataset.test, options.loss)


def _rehearse(analysis: Analysis, options: TrainOptions, say: Say) -> None:
    """Cut random groups out and verify: what cannot be compacted is refused now, not after training."""
    begin = time.perf_counter()
    choice = choose(analysis, score(analysis, "random", options.seed), options.sparsity or 0.5)
    verdict = compare(zero_dropped(analysis, choice.drop), compact(analysis, choice.drop), batches=1)
    if not verdict.passed:
        raise OtoError(
            f"rehearsal: the compact model differs by {verdict.max_abs:.2g} from the full one; this is a defect "
            "of onnx-oto, training was not started"
        )
    say(f"rehearsal of the cut on random groups: exact ({time.perf_counter() - begin:.1f} s)")


def _say_ceiling(analysis: Analysis, say: Say) -> None:
    lanes = sum(d.size for d in analysis.prunable)
    share = analysis.prunable_params / max(analysis.params, 1)
    say(
        f"{lanes} prunable groups in {len(analysis.prunable)} dimensions; {share:.1%} of "
        f"{analysis.params:,} parameters lie in them"
    )


def _share(zeroed: int, analysis: Analysis) -> float:
    return zeroed / max(sum(d.size for d in analysis.prunable), 1)


def _folder(run: str | os.PathLike[str], *, overwrite: bool) -> Path:
    folder = Path(run)
    if (folder / "metrics.jsonl").exists():
        if not overwrite:
            raise UsageError(f"'{folder}' holds an earlier run: give another folder, or --overwrite")
        (folder / "metrics.jsonl").unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder '{folder}': {error.strerror or error}") from None
    return folder


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror or error}") from None


def _replace(spec: TrainingSpec, **changes: Any) -> TrainingSpec:
    from dataclasses import replace

    return replace(spec, **changes)
