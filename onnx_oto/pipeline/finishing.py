"""After training: the trained model is compacted, verified and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.errors import OtoError
from onnx_oto.losses import Loss, read_all
from onnx_oto.model import save
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.serving import Serving
from onnx_oto.model.normal.sharing import share_copies
from onnx_oto.pipeline.aim import Aim
from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.describing import described
from onnx_oto.pipeline.explaining import Explanation
from onnx_oto.pipeline.folder import COMPACT, TRAINED
from onnx_oto.pipeline.latency.making import clock_at_the_end
from onnx_oto.pipeline.measuring import missed, warnings_of
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.proving import cut_and_verify
from onnx_oto.pipeline.result import Gain
from onnx_oto.pipeline.summary import Change, summarise
from onnx_oto.runtime.comparing import Feeding
from onnx_oto.runtime.comparing.probes import only_outputs
from onnx_oto.runtime.comparing.upcast import upcast, uses_bfloat16
from onnx_oto.runtime.limits import UNLIMITED
from onnx_oto.runtime.runner import first_line, runner
from onnx_oto.runtime.timing import TROUBLES, Latencies, Untimed, measure
from onnx_oto.training import evaluate
from onnx_oto.training.evaluate import Provider
from onnx_oto.zigs import Analysis, analyse
from onnx_oto.zigs.choose import choose_zeros

Arrays = Mapping[str, npt.NDArray[Any]]
Predict = Callable[[Arrays], Sequence[npt.NDArray[Any]]]


def finish(
    model: onnx.ModelProto,
    origins: Origins,
    weights: Arrays,
    dataset: data.Dataset,
    options: TrainOptions,
    folder: Path,
    aim: Aim,
    serving: Serving,
    feeding: Feeding,
    goal: Goal,
    explanation: Explanation,
    *,
    providers: Sequence[Provider] = (),
    reported: data.Source | None = None,
) -> tuple[int, Gain]:
    """Return how many lanes were removed, and what was gained; writes trained.onnx and compact.onnx.

    explanation: is written into the compact model. reported: what both models are judged by, where that is not the
    test data as they were looked at in training.
    Raises OtoError, with trained.onnx already there, when the compact model does not compute the same.
    """
    full = described(with_weights(model, weights), dataset)
    before = save(_shared(full, origins), folder / TRAINED)
    analysis = analyse(full, aim.under(options))
    drop = np.zeros(analysis.lanes.count, bool)
    if options.prunes:
        least = options.min_keep if options.scope == "global" else 0.0
        drop = choose_zeros(analysis, goal.rounding, least).drop
    _, small, verdict = cut_and_verify(analysis, drop, options.seed, replace(feeding, limits=UNLIMITED))
    removed = int(drop.sum())
    summary = summarise(analysis, small, drop, verdict, Change(before, 0))
    written = _shared(small, origins)
    explanation.write(written, analysis, drop, summary)
    summary = replace(summary, size=Change(before, save(written, folder / COMPACT)))
    outputs, loss = aim.outputs, aim.loss
    lean, lean_small = (served_lean(each, outputs, serving) for each in (full, small))
    scores = tuple(
        evaluate(
            predictor(reading(each, outputs, loss)),
            dataset.test if reported is None else reported,
            loss,
            options.metric,
            providers=providers,
            loaders=options.loaders,
        )
        for each in (lean, lean_small)
    )
    if not options.skip_latency:
        if aim.inside(model):  # what is compared inside is no output for those who are served
            given = [value.name for value in model.graph.output]
            lean, lean_small = (served_lean(each, given, serving) for each in (full, small))
        feed = as_declared(lean, next(data.in_order(dataset.test, batch_size(lean) or 1)).inputs)
        latency = _elsewhere(analysis, small, options, feeding, goal) or measure(lean, lean_small, feed)
        said = (*warnings_of(latency, goal.rounding.block), *missed(latency, goal.budgets))
        summary = replace(summary, latency=latency, warnings=said)
    return removed, Gain(summary, (scores[0], scores[1]))


def _elsewhere(
    full: Analysis, small: onnx.ModelProto, options: TrainOptions, feeding: Feeding, goal: Goal
) -> Latencies | Untimed | None:
    """Return the latency on the runtime that will serve, or why there is none; None where that is this one."""
    try:
        with clock_at_the_end(full, options, feeding, goal.table) as clock:
            return None if clock is None else clock.latencies(full.model, small)
    except TROUBLES as error:
        return Untimed(first_line(error))


def _shared(model: onnx.ModelProto, origins: Origins) -> onnx.ModelProto:
    """Return the model with equal copies stored once; the argument is not modified."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    share_copies(result, origins)
    return result


def with_weights(model: onnx.ModelProto, weights: Arrays) -> onnx.ModelProto:
    """Return a copy of `model` whose initializers named in `weights` hold those values, in their own types.

    Raises OtoError where a value is too large for half precision.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in weights:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            with np.errstate(over="ignore"):
                value = weights[tensor.name].astype(kind)
            if not np.isfinite(value).all() and np.isfinite(weights[tensor.name]).all():
                raise OtoError(
                    f"a trained value of {tensor.name!r} is too large for {kind}, as which the model stores it: "
                    "convert the model to float32 first"
                )
            tensor.CopyFrom(from_array(value, tensor.name))
    return result


def reading(model: onnx.ModelProto, outputs: Sequence[str], loss: Loss) -> onnx.ModelProto:
    """Return a copy of `model` that gives what the loss reads of these outputs: the tensors it was trained on."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return trimmed(result, read_all(result, outputs, loss))


def trimmed(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of `model` with these tensors as outputs, without what they do not need.

    The data have no inputs for the rest.
    """
    result = only_outputs(model, names)
    drop_unneeded(result.graph)
    return result


def served_lean(model: onnx.ModelProto, outputs: Sequence[str], serving: Serving) -> onnx.ModelProto:
    """Return a model with these outputs alone as data are served to it, in types that runtimes have kernels for."""
    return serving.served(_runnable(trimmed(model, outputs)))


def _runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, with float32 in place of bfloat16, for which runtimes lack kernels."""
    return upcast(model) if uses_bfloat16(model) else model


def as_declared(model: onnx.ModelProto, batch: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return arrays in the types that the model's inputs have: data are kept as float32 where those are float16."""
    kinds = {
        v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input
    }
    return {name: array.astype(kinds.get(name, array.dtype), copy=False) for name, array in batch.items()}


def batch_size(model: onnx.ModelProto) -> int | None:
    """Return the number of samples a model is fixed to, None when it takes any."""
    sizes = {
        value.type.tensor_type.shape.dim[0].dim_value
        for value in model.graph.input
        if value.type.tensor_type.shape.dim
    }
    return sizes.pop() or None if len(sizes) == 1 else None


def declared(model: onnx.ModelProto) -> Callable[[Arrays], list[npt.NDArray[Any]]]:
    """Return what runs a model on arrays, in the types that it declares."""
    run = runner(model)
    return lambda batch: run(as_declared(model, batch))


def predictor(model: onnx.ModelProto) -> Predict:
    """Return a function from a batch of any size to the model's outputs, as a stock runtime computes them.

    A model with a fixed batch runs several times; the last samples are repeated to fill it.
    """
    run, size = declared(model), batch_size(model)
    if size is None:
        return run

    def in_parts(batch: Arrays) -> list[npt.NDArray[Any]]:
        count = len(next(iter(batch.values())))
        rows = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)
        parts = [run({name: array[part] for name, array in batch.items()}) for part in rows]
        return [np.concatenate(part)[:count] for part in zip(*parts, strict=True)]

    return in_parts
