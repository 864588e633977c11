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
"""Rounds that are not counted. The second is left out where the first one takes long."""
STOP_SPINNING = "session.force_spinning_stop"
"""Threads wait for the next run of their session without sleeping. Those of one model would hold the cores meanwhile
that another one is timed on: resnet18 takes 13 ms in turn with a smaller model then, 8 ms alone (2 cores). Told so,
they sleep between runs."""
_sessions: dict[int, Run] = {}
_numbers = itertools.count()


class Patience(NamedTuple):
    """How long sessions are timed: seconds, and numbers of counted rounds.

    Rounds end after `short` seconds where `many` fit into that, else after `long` and `LEAST_ROUNDS`. `most` is the
    largest number of rounds. No round begins after `longest` seconds in all, however few there were.
    """

    short: float = 0.2
    many: int = 25
    long: float = 1.0
    most: int = 200
    longest: float = 10.0

    def is_enough(self, rounds: int, seconds: float) -> bool:
        """Say whether that many rounds in so many seconds suffice."""
        least = self.many if seconds < self.long else LEAST_ROUNDS
        return rounds >= self.most or (seconds >= self.short and rounds >= least)


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
    options.add_session_config_entry(STOP_SPINNING, "1")
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


def time_sessions(numbers: Sequence[int], inputs: Arrays, patience: Patience) -> list[list[float]]:
    """Return the milliseconds of every counted run, sessions in turn. Two rounds warm up and are not counted."""
    runs = [_sessions[number] for number in numbers]
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        for run in runs:
            run(inputs)
        if time.perf_counter() - begin > patience.long:
            break
    times: list[list[float]] = [[] for _ in runs]
    counted = time.perf_counter()
    while (
        not patience.is_enough(len(times[0]), time.perf_counter() - counted)
        and time.perf_counter() - begin < patience.longest
    ):
        for run, its in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(inputs)
            its.append(1000 * (time.perf_counter() - start))
    return times


def _keep(run: Run, runtime: str) -> OpenSession:
    number = next(_numbers)
    _sessions[number] = run
    return OpenSession(number, runtime)


def _forget(numbers: Iterable[int]) -> None:
    for number in numbers:
        _sessions.pop(number, None)


def runtime_version() -> str:
    """Return the version of the runtime that is installed here."""
    import onnxruntime

    return str(onnxruntime.__version__)
