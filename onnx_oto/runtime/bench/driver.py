"""Models on the runtime that will serve them, which may be that of another Python environment: described, measured."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import psutil

from onnx_oto.errors import OtoError, UnsupportedError, UsageError
from onnx_oto.model.files.external import all_tensors
from onnx_oto.model.files.saving import save, storing
from onnx_oto.model.graph.tensors import byte_count
from onnx_oto.runtime.bench.measured import Host, Measured, NodeTime, Weight, timing
from onnx_oto.runtime.bench.process import START_SECONDS, Process, unanswerable
from onnx_oto.runtime.limits import allowance
from onnx_oto.runtime.runner import first_line

ENGINES = ("auto", "onnxruntime", "openvino")
"""What can measure. `auto` is the first of the others that is installed there."""
LEAST_ROUNDS = 6
"""As many as an interval of 95 % needs, see `median_interval`."""
_EXTERNAL_ABOVE = 1_500_000_000
"""Bytes of weights above which they do not go into the file of a model: a message of protobuf holds 2 GB."""
_UNCOUNTED = 4
"""Runs, or openings, that a model has beside its rounds: opened, warmed up twice."""


class Bench:
    """A process that measures models by the interpreter `python` (a path; None: the one that runs this).

    engine: one of ENGINES. threads: how many a run may use; 0 = the default of the runtime. As a context manager it
    starts the process and ends it. Where a model brought the process down, or took too long, the next request starts
    another.

        with Bench("/srv/venv/bin/python", threads=2) as bench:
            full, compact = bench.measure([model, smaller], feed, seconds=2.0)
    """

    def __init__(
        self, python: str | os.PathLike[str] | None = None, engine: str = "auto", threads: int = 0
    ) -> None:
        if engine not in ENGINES:
            *names, last = ENGINES
            raise UsageError(f"'{engine}' is no engine: choose {', '.join(names)} or {last}")
        self._python, self._engine, self._threads = python, engine, threads
        self._process: Process | None = None
        self._host: Host | None = None

    def __enter__(self) -> Bench:
        """Start the process. Raises RuntimeMissingError where there is no such Python, or no runtime for it."""
        self._alive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()
        self._process = None

    @property
    def host(self) -> Host:
        """Which runtime measures, on which processor. Raises as `__enter__` does."""
        self._alive()
        assert self._host is not None
        return self._host

    def measure(
        self,
        models: Sequence[onnx.ModelProto],
        feed: Mapping[str, npt.NDArray[Any]],
        *,
        seconds: float,
        nodes: bool = False,
        least: int = LEAST_ROUNDS,
        most: int = 200,
        threads: int | None = None,
    ) -> list[Measured]:
        """Return how long each model takes on the same inputs, models in turn, for about `seconds` in all.

        Two rounds warm up and are not counted; at least `least` are, at most `most`. nodes: time the nodes too, in
        half of the time again. threads: others than those of this Bench. Inputs that a model does not have are
        not fed.

        Raises UnsupportedError when the runtime refuses a model, LimitError when measuring takes much longer than runs
        may (see `runtime.limits`), CrashedError when it brings the process down, StorageError when models cannot be
        written to the folder for temporary files.
        """
        if not models:
            return []
        process = self._alive()
        with storing(tempfile.gettempdir()), _temporary_folder() as folder:
            request = {
                **self._stored(models, feed, folder, threads),
                "do": "measure",
                "seconds": seconds,
                "least": least,
                "most": most,
                "nodes": nodes,
            }
            begin, busy = time.perf_counter(), _busy_seconds()
            answer = self._answer(process, request, _seconds_for(models, feed, seconds, least, nodes))
            of_others = _busy_seconds() - busy - answer["cpu"]
            share = of_others / (time.perf_counter() - begin) / (psutil.cpu_count() or 1)
        return [
            Measured(
                timing(each["times"]),
                tuple(NodeTime(*node) for node in each["nodes"]),
                min(max(share, 0.0), 1.0),
            )
            for each in answer["models"]
        ]

    def weigh(self, model: onnx.ModelProto, feed: Mapping[str, npt.NDArray[Any]]) -> Weight:
        """Return what a model takes of a process of its own, and what runs it there. Raises as `measure` does."""
        with storing(tempfile.gettempdir()), _temporary_folder() as folder:
            request = {**self._stored([model], feed, folder), "do": "weigh"}
            process = Process(self._python)
            try:
                found = self._answer(
                    process, request, START_SECONDS + _seconds_for([model], feed, 0.0, 1, False)
                )
            finally:
                process.end()
        return Weight(**found)

    def _stored(
        self,
        models: Sequence[onnx.ModelProto],
        feed: Mapping[str, npt.NDArray[Any]],
        folder: Path,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """Write models and inputs into a folder; return what a request says of them."""
        np.savez(folder / "inputs.npz", *map(_storable, feed.values()))
        return {
            "models": [_written(model, folder / f"{n}.onnx") for n, model in enumerate(models)],
            "inputs": str(folder / "inputs.npz"),
            "names": list(feed),
            "threads": self._threads if threads is None else threads,
            "folder": str(folder),
        }

    def _alive(self) -> Process:
        """Return the process, started when there is none, or none any more."""
        if self._process is not None and self._process.is_alive:
            return self._process
        self.close()
        self._process = Process(self._python)
        try:
            self._host = Host(**self._answer(self._process, {"do": "describe"}, START_SECONDS))
        except BaseException:
            self.close()
            raise
        return self._process

    def _answer(self, process: Process, request: dict[str, Any], seconds: float) -> Any:
        answer = process.ask({**request, "engine": self._engine}, seconds=seconds)
        if "error" in answer:
            raise _error(process, answer, len(request.get("models", ())))
        return answer["done"]


def _busy_seconds() -> float:
    """Return how long the machine's processors have worked, or were taken from it by another machine."""
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="onnx-oto-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array whose strings, if it holds such, are not objects: these would be pickled."""
    return array.astype(str) if array.dtype == object else array


def _written(model: onnx.ModelProto, path: Path) -> str:
    save(model, path, external_above=_EXTERNAL_ABOVE)
    return str(path)


def _seconds_for(
    models: Sequence[onnx.ModelProto],
    feed: Mapping[str, npt.NDArray[Any]],
    seconds: float,
    least: int,
    nodes: bool,
) -> float:
    """Return what a request may take: as much as every one of its runs may, and the seconds that were asked for."""
    weights = sum(byte_count(tensor) for model in models for tensor in all_tensors(model))
    one = allowance(weights=weights, fed=sum(np.asarray(array).nbytes for array in feed.values()))
    return (1 + nodes) * (len(models) * (2 * least + _UNCOUNTED) * one.seconds + seconds)


def _error(process: Process, answer: dict[str, Any], models: int) -> OtoError:
    kind = answer["error"]
    if kind in ("missing", "broken"):
        return unanswerable(process, answer)
    said = first_line(RuntimeError(answer["text"]))
    if kind == "refused":
        which = f"model {answer['model'] + 1} of {models}" if models > 1 else "the model"
        return UnsupportedError(f"the runtime of '{process.python}' does not run {which}: {said}")
    return UnsupportedError(f"'{process.python}' cannot measure: {said}")
