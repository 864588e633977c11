"""Running a model: by onnxruntime where it can, else by the reference evaluator of onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import RuntimeMissingError, UnsupportedError
from onnx_oto.model.files import runnable_bytes

Arrays = Mapping[str, npt.NDArray[Any]]


class Runner(Protocol):
    """One model, ready to run."""

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Return the outputs in graph order."""


def runner(model: onnx.ModelProto, *, threads: int = 0) -> Runner:
    """Return a runner of the model. Raises UnsupportedError when neither runtime takes it.

    threads: of onnxruntime; 0 = its default.
    """
    try:
        return _onnxruntime(model, threads)
    except RuntimeMissingError as error:
        first: Exception = error
    except Exception as error:  # onnxruntime raises many types for what it cannot load
        first = error
    try:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        line = str(first).strip().splitlines()[0]
        raise UnsupportedError(f"the model cannot be run: {line}") from error

    def run(inputs: Arrays) -> list[npt.NDArray[Any]]:
        return [np.asarray(value) for value in evaluator.run(None, dict(inputs))]

    return run


def _onnxruntime(model: onnx.ModelProto, threads: int) -> Runner:
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
    session = onnxruntime.InferenceSession(runnable_bytes(model), options, providers=["CPUExecutionProvider"])

    def run(inputs: Arrays) -> list[npt.NDArray[Any]]:
        return [np.asarray(value) for value in session.run(None, dict(inputs))]

    return run
