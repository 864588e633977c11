"""Running a model: by onnxruntime where it can, else by the reference evaluator of onnx."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import RuntimeMissingError, UnsupportedError
from onnx_oto.model.files import RUNTIME_IR, RUNTIME_OPSET, runnable_bytes
from onnx_oto.model.node import opset_of, set_opset

Arrays = Mapping[str, npt.NDArray[Any]]

PLACE = re.compile(r"(?:Exception during initialization: )?(?<!\S)(?=\S*/)\S+\.(?:cc|h):\d+ \S+\([^)]*\) ")
"""A place in a source. It begins with a word: a name of a million letters is not tried from each of them."""


@dataclass(frozen=True)
class Runner:
    """One model, ready to run. runtime: which one and its version. refusal: why it is not onnxruntime, "" if it is."""

    run: Callable[[Arrays], list[npt.NDArray[Any]]]
    runtime: str
    refusal: str = ""

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Return the outputs in graph order."""
        return self.run(inputs)


def runner(model: onnx.ModelProto, *, threads: int = 0) -> Runner:
    """Return a runner of the model. Raises UnsupportedError when no runtime takes it.

    A model of an opset that onnxruntime does not know yet is tried under the newest one it knows: operators that
    are in both mean the same, and full and compact model are run alike. threads: of onnxruntime; 0 = its default.
    """
    try:
        return in_onnxruntime(model, threads=threads)
    except (UnsupportedError, RuntimeMissingError) as error:
        return in_reference(model, str(error))


def in_onnxruntime(model: onnx.ModelProto, *, threads: int = 0, optimise: bool = True) -> Runner:
    """Return a runner by onnxruntime. Raises UnsupportedError, with its first words, when it refuses the model.

    optimise: whether it may rewrite the graph; it fuses operators into some that it has no float64 kernels for.
    """
    first: Exception | None = None
    for candidate in (model, _older(model)):
        if candidate is None:
            continue
        try:
            return _onnxruntime(candidate, threads, optimise)
        except RuntimeMissingError:
            raise
        except Exception as error:  # onnxruntime raises many types for what it cannot load
            first = first or error
    raise UnsupportedError(first_line(first))


def in_reference(model: onnx.ModelProto, refusal: str) -> Runner:
    """Return a runner by onnx's reference evaluator; `refusal` says why onnxruntime is not asked."""
    try:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        raise UnsupportedError(f"the model cannot be run: {refusal}") from error

    def run(inputs: Arrays) -> list[npt.NDArray[Any]]:
        with np.errstate(all="ignore"):
            return [np.asarray(value) for value in evaluator.run(None, dict(inputs))]

    return Runner(run, f"onnx reference evaluator {onnx.__version__}", refusal)


def first_line(error: BaseException | None) -> str:
    """Return what a runtime says in one line without the places in its source, "" for nothing."""
    line = (str(error or "").strip().splitlines() or [""])[0][:2000]
    line = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", line)
    return PLACE.sub("", line)[:300]


def _older(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model under opset RUNTIME_OPSET, None if it is no newer."""
    if opset_of(model) <= RUNTIME_OPSET:
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = min(model.ir_version, RUNTIME_IR)
    set_opset(result, RUNTIME_OPSET)
    return result


def _onnxruntime(model: onnx.ModelProto, threads: int, optimise: bool) -> Runner:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(
            "no ONNX Runtime is installed: run `pip install 'onnx-oto[cpu]'`"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        runnable_bytes(model),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_wrong_optimizers(model),
    )

    def run(inputs: Arrays) -> list[npt.NDArray[Any]]:
        return [np.asarray(value) for value in session.run(None, dict(inputs))]

    return Runner(run, f"ONNX Runtime {onnxruntime.__version__}")


def _wrong_optimizers(model: onnx.ModelProto) -> list[str]:
    """Return the optimizers of onnxruntime that would compute something else than the model says.

    Up to 1.19 the one that blocks channels leaves what a FusedConv adds (its fourth input) in the order it had.
    """
    adds = any(node.op_type == "FusedConv" and any(node.input[3:]) for node in model.graph.node)
    return ["NchwcTransformer"] if adds else []
