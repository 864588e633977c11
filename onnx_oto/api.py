"""The front door: what `onnx_oto` offers in Python, a function for every verb of the command line.

Models are paths, or `onnx.ModelProto`s. Settings are given as keywords, or as one object of options, or both: keywords
come first. All are checked alike, and in the words of the command line; for static types give the object.
"""

from __future__ import annotations

import contextlib
import inspect as inspection
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import onnx

from onnx_oto.errors import OtoError, UsageError
from onnx_oto.model import save
from onnx_oto.pipeline import benching as _benching
from onnx_oto.pipeline import demo as _demo
from onnx_oto.pipeline import inspecting as _inspecting
from onnx_oto.pipeline import prune as _prune
from onnx_oto.pipeline import resume as _resume
from onnx_oto.pipeline import train as _train
from onnx_oto.pipeline import verifying as _verifying
from onnx_oto.pipeline.benching import Benched
from onnx_oto.pipeline.budgeting import Plan
from onnx_oto.pipeline.doctor import examining as _examining
from onnx_oto.pipeline.doctor.finding import Examined
from onnx_oto.pipeline.doctor_options import DoctorOptions
from onnx_oto.pipeline.inspecting import Inspected
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import (
    BenchOptions,
    CompactOptions,
    DemoOptions,
    InspectOptions,
    PruneOptions,
    TrainOptions,
    VerifyOptions,
)
from onnx_oto.pipeline.prune import Pruned
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.report_options import ReportOptions
from onnx_oto.pipeline.result import Trained
from onnx_oto.pipeline.resume_options import ResumeOptions
from onnx_oto.reporting import writing as _writing
from onnx_oto.reporting.alone import draw_graph
from onnx_oto.reporting.writing import Reported
from onnx_oto.runtime.comparing import Verdict
from onnx_oto.settings import AnalysisOptions, Settings, settings_of
from onnx_oto.settings.base import flat, gathered, named
from onnx_oto.training import Observer

__all__ = [
    "AnalysisOptions",
    "BenchOptions",
    "Benched",
    "CompactOptions",
    "DemoOptions",
    "DoctorOptions",
    "Examined",
    "InspectOptions",
    "Inspected",
    "OtoError",
    "PruneOptions",
    "Pruned",
    "ReportOptions",
    "Reported",
    "ResumeOptions",
    "TrainOptions",
    "Trained",
    "Verdict",
    "VerifyOptions",
    "bench",
    "compact",
    "demo",
    "doctor",
    "inspect",
    "prune",
    "report",
    "resume",
    "train",
    "verify",
]

PathLike = str | os.PathLike[str]
Model = PathLike | onnx.ModelProto
Function = TypeVar("Function", bound=Callable[..., Any])
Options = TypeVar("Options", bound=Settings)


def _settings(kind: type[Settings]) -> Callable[[Function], Function]:
    """Write the keywords that a function takes as `settings` into its signature and its documentation."""

    def told(function: Function) -> Function:
        known = flat(settings_of(kind))
        signature = inspection.signature(function)
        named_ones = [each for each in signature.parameters.values() if each.name != "settings"]
        keywords = [
            inspection.Parameter(each.name, inspection.Parameter.KEYWORD_ONLY, default=each.default)
            for each in known
        ]
        lines = [f"    {each.name}: {each.help}" for each in known]
        text = inspection.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", f"Settings, as in `{kind.__name__}`:", *lines])
        described: Any = function
        described.__signature__ = signature.replace(parameters=[*named_ones, *keywords])
        return function

    return told


@_settings(InspectOptions)
def inspect(
    model: Model,
    options: InspectOptions | None = None,
    *,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Inspected:
    """Return what can be pruned in a model, and what is frozen and why. Nothing is run, but for a curve on data.

    say: gets sentences about what is done with data. Raises ModelError, StorageError, UsageError for a pattern that
    matches nothing, and for data what `train` does.
    """
    with _on_disk(model) as path:
        chosen, seen = _merged(InspectOptions, options, settings), list[Opened]()
        report = _inspecting.inspect(path, chosen, say=say or _say_nothing, look=seen.append)
        if chosen.graph is not None:
            draw_graph(seen[0], chosen.graph)
        return report


@_settings(BenchOptions)
def bench(
    model: Model | Sequence[Model],
    options: BenchOptions | None = None,
    *,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Benched:
    """Measure how long a model takes on the runtime that will serve it, and where that time goes.

    Several models are measured in turn: `compared` has the others beside the first one. With `table` one is measured at
    other widths too, for budgets of latency. Raises RuntimeMissingError when there is no runtime, UnsupportedError when
    it does not take a model, UsageError for models that read different inputs.
    """
    models = [*model] if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(_on_disk(each)) for each in models]
        return _benching.bench(
            paths, _merged(BenchOptions, options, settings), say=say or (lambda text: None)
        )


@_settings(PruneOptions)
def prune(
    model: Model,
    output: PathLike,
    options: PruneOptions | None = None,
    *,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Pruned:
    """Remove the channels of lowest score, without training; verify; write the compact model to `output`.

    Nothing is written unless the compact model computes what the full one with those groups zeroed computes. Raises
    UnsupportedError when nothing can be pruned, or proved.
    """
    tell = say or (lambda text: None)

    def announce(plan: Plan) -> None:
        for sentence in plan.sentences():
            tell(sentence)

    with _on_disk(model) as path:
        merged = _merged(PruneOptions, options, settings)
        return _prune.prune(path, _path("output", output), merged, say=tell, announce=announce)


@_settings(CompactOptions)
def compact(model: Model, output: PathLike, options: CompactOptions | None = None, **settings: Any) -> Pruned:
    """Remove the channels whose groups are exactly zero already; verify; write the compact model to `output`.

    Raises UnsupportedError when no group is zero.
    """
    with _on_disk(model) as path:
        return _prune.compact_zeros(path, _path("output", output), _merged(CompactOptions, options, settings))


@_settings(VerifyOptions)
def verify(full: Model, compact: Model, options: VerifyOptions | None = None, **settings: Any) -> Verdict:
    """Compare the outputs of two models: `passed` says whether they agree.

    Raises DataError when their inputs or outputs differ, UnsupportedError when nothing could be proved.
    """
    with _on_disk(full, "full.onnx") as left, _on_disk(compact, "compact.onnx") as right:
        return _verifying.verify_files(left, right, _merged(VerifyOptions, options, settings))


@_settings(TrainOptions)
def train(
    model: Model,
    data: PathLike,
    run: PathLike,
    options: TrainOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Trained:
    """Train a model once, with groups driven to exactly zero; compact; verify; measure. Files go to the folder `run`.

    observer: its `notice` gets the events of training. say: gets sentences about what is done. stop: asked between two
    steps whether to leave it at a checkpoint. Raises whatever can be refused before the first step.
    """
    data, run = _path("data", data), _path("run", run)
    with _on_disk(model) as path:
        chosen = _merged(TrainOptions, options, settings)
        record = None
        if isinstance(model, onnx.ModelProto):
            record = Record("train", chosen.resolved(), {"data": data}, anew=("MODEL",))
        result = _train.train(
            path, data, run, chosen, observer=observer, say=say or _say_nothing, stop=stop, record=record
        )
    return _with_page(result, say)


@_settings(ResumeOptions)
def resume(
    run: PathLike,
    options: ResumeOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Trained | None:
    """Go on with a run that was left, to the same bytes as if it had not been; None when it is complete already.

    Of a run whose model was given in memory, give `model` again, as a path. Raises UsageError, DataError and
    StorageError where model, settings or data are not what they were, or there is nothing to go on with. See `train`.
    """
    chosen = _merged(ResumeOptions, options, settings)
    result = _resume.resume(_path("run", run), chosen, observer=observer, say=say or _say_nothing, stop=stop)
    return None if result is None else _with_page(result, say)


@_settings(DemoOptions)
def demo(
    run: PathLike,
    options: DemoOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Trained:
    """Do the main job on embedded data: train a small CNN on Fashion-MNIST, compact, verify, measure. See `train`."""
    chosen = _merged(DemoOptions, options, settings)
    result = _demo.demo(_path("run", run), chosen, observer=observer, say=say or _say_nothing, stop=stop)
    return _with_page(result, say)


@_settings(ReportOptions)
def report(
    run: Model,
    compact: Model | None = None,
    options: ReportOptions | None = None,
    *,
    output: PathLike | None = None,
    **settings: Any,
) -> Reported:
    """Write the report on a run (its folder), or on a model and its compact form; return what it says and where it is.

    output: where to write it, "-" for nowhere but the `text` that is returned. Raises UsageError for what holds no run,
    or would replace what is no report; StorageError where it cannot be written.
    """
    chosen = _merged(ReportOptions, options, settings)
    if compact is None:
        return _writing.report(_path("run", run), None, chosen, output=output)
    with _on_disk(run, "full.onnx") as left, _on_disk(compact, "compact.onnx") as right:
        if isinstance(compact, onnx.ModelProto) and output is None:
            raise UsageError("output is None: say where to write the report on a model in memory")
        return _writing.report(left, right, chosen, output=output)


def _with_page(result: Trained, say: Callable[[str], None] | None) -> Trained:
    """Return the result of a run, whose page is left in its folder if it came to its end."""
    if result.gain is not None:
        _writing.leave_report(result.run, say or _say_nothing)
    return result


@_settings(DoctorOptions)
def doctor(options: DoctorOptions | None = None, **settings: Any) -> Examined:
    """Return what is wrong with this environment, or missing in it, and the commands that mend it.

    Where packages that everything needs are missing this module does not load: the command line works then.
    """
    _merged(DoctorOptions, options, settings)
    return _examining.examine()


def _merged(kind: type[Options], options: Options | None, settings: dict[str, Any]) -> Options:
    """Return the options with keywords in the place of what they say. Raises UsageError for what is not known."""
    if options is not None and not isinstance(options, kind):
        raise UsageError(f"options are {options!r}: give {kind.__name__}, or its fields as keywords")
    known = settings_of(kind)
    values = gathered(known, named(settings, [*known, *flat(known)]), options)
    return replace(options, **values) if options is not None else kind(**values)


@contextlib.contextmanager
def _on_disk(model: Model, name: str = "model.onnx") -> Iterator[Path]:
    """Give the path of a model: its own, or that of a copy which lasts as long as the block."""
    if not isinstance(model, onnx.ModelProto):
        yield _path("model", model, "a path or an onnx.ModelProto")
        return
    with tempfile.TemporaryDirectory(prefix="onnx-oto-") as folder:
        path = Path(folder) / name
        save(model, path)
        yield path


def _path(name: str, value: Any, wanted: str = "a path") -> Path:
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} is of type {type(value).__name__}: give {wanted}")
    return Path(value)


def _say_nothing(_: str) -> None:
    pass
