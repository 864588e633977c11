"""Jobs of the process that models run in: sessions are opened there, run, timed and forgotten."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import RuntimeMissingError, UnsupportedError

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Arrays], list[Array]]

LEAST_ROUNDS = 5
WARM_UP = 2
_sessions: dict[int, Run] = {}
_numbers = itertools.count()


class OpenSession(NamedTuple):
    """A session: its number, and the runtime with its version."""

    number: int
    runtime: str


def open_onnxruntime(
    content: bytes, threads: int, optimise: bool, disabled: Sequence[str], forget: Iterable[int]
) -> OpenSession:
    """Open a serialised model in onnxruntime. Raises RuntimeMissingError, and what onnxruntime raises.

    threads: 0 = the default of onnxruntime. disabled: optimizers that are left out. forget: sessions to close.
    """
    _forget(forget)
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
        bytes(content), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )

    def run(inputs: Arrays) -> list[Array]:
        return [np.asarray(value) for value in session.run(None, dict(inputs))]

    return _keep(run, f"ONNX Runtime {onnxruntime.__version__}")


def open_reference(content: bytes, forget: Iterable[int]) -> OpenSession:
    """Open a serialised model in onnx's reference evaluator. Raises what that raises."""
    _forget(forget)
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_from_string(bytes(content)))

    def run(inputs: Arrays) -> list[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(value) for value in evaluator.run(None, dict(inputs))]

    return _keep(run, f"onnx reference evaluator {onnx.__version__}")


def run_session(number: int, inputs: Arrays, most: float) -> tuple[list[Array], float]:
    """Return the outputs, and the seconds it took. Raises UnsupportedError when they take more than `most` bytes."""
    begin = time.perf_counter()
    outputs = _sessions[number](inputs)
    seconds = time.perf_counter() - begin
    total = sum(array.nbytes for array in outputs)
    if total > most:
        raise UnsupportedError(
            f"its outputs take {total / 1e9:.1f} GB, too much to be compared: allow more with --limit-memory"
        )
    return outputs, seconds


def time_sessions(numbers: Sequence[int], inputs: Arrays, seconds: float, most: int) -> list[list[float]]:
    """Return the milliseconds of every counted run, sessions in turn, for about `seconds` in all.

    Two rounds warm up and are not counted; at least five are, at most `most`.
    """
    runs = [_sessions[number] for number in numbers]
    for _ in range(WARM_UP):
        for run in runs:
            run(inputs)
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(times[0]) < LEAST_ROUNDS or (time.perf_counter() < end and len(times[0]) < most):
        for run, its in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run(inputs)
            its.append(1000 * (time.perf_counter() - begin))
    return times


def _keep(run: Run, runtime: str) -> OpenSession:
    number = next(_numbers)
    _sessions[number] = run
    return OpenSession(number, runtime)


def _forget(numbers: Iterable[int]) -> None:
    for number in numbers:
        _sessions.pop(number, None)
