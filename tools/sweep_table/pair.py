"""Compare and time two model files in any environment that has numpy and onnxruntime.

    python pair.py ORIGINAL ZEROED COMPACT SEED SECONDS

Prints one JSON line: passed, max_abs, max_rel (zeroed against compact), effect (zeroed against original: 0 would mean
that the comparison proves nothing), ms_full, ms_compact, runtime. Exit 1 when the zeroed model cannot be run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime

SIZES = (None, 16, 32, 64, 224, 128, 256, 8, 4, 1)
DTYPES = {"float": "float32", "double": "float64"}
TOLERANCE = {"float32": 1e-4, "float64": 1e-8, "float16": 2e-2}
FLOOR = 1e-2

Feed = dict[str, Any]


def session(path: str) -> Any:
    """Return a CPU session of a model file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(run: Any, rng: Any, batch: int) -> Iterator[Feed]:
    """Yield random inputs, other guesses for unknown sizes each time (None: 224 for images, else 16)."""
    for size in SIZES:
        for count in dict.fromkeys((batch, 1)):
            yield _feed(run, rng, count, size)


def _feed(run: Any, rng: Any, batch: int, size: int | None) -> Feed:
    bound: dict[str, int] = {}
    result = {}
    for value in run.get_inputs():
        shape = []
        for i, dim in enumerate(value.shape):
            guess = batch if i == 0 else size or (224 if len(value.shape) >= 4 else 16)
            if isinstance(dim, str):
                guess = bound.setdefault(dim, guess)
            shape.append(dim if isinstance(dim, int) and dim > 0 else guess)
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype(DTYPES.get(kind, kind))
        if dtype.kind == "f":
            result[value.name] = np.asarray(rng.standard_normal(shape)).astype(dtype)
        else:
            result[value.name] = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    return result


def runnable(run: Any, rng: Any, batch: int) -> tuple[Feed, list[Any]]:
    """Return the first inputs that the model takes, and its outputs. Raises the first error when there are none."""
    trouble: Exception | None = None
    for feed in feeds(run, rng, batch):
        try:
            return feed, run.run(None, feed)
        except Exception as error:  # the runtime raises many types for sizes that do not fit
            trouble = trouble or error
    assert trouble is not None
    raise trouble


def differ(a: list[Any], b: list[Any]) -> tuple[bool, float, float]:
    """Return (within tolerance, max |a - b|, the same relative to max |a|) over all outputs."""
    passed, most, relative = True, 0.0, 0.0
    for x, y in zip(a, b, strict=True):
        ok, absolute, share = _differ(_array(x), _array(y))
        passed, most, relative = passed and ok, max(most, absolute), max(relative, share)
    return passed, most, relative


def _array(value: Any) -> Any:
    """Return an output as one array: sequences are stacked, maps (class -> probability) become their values."""
    if isinstance(value, dict):
        return np.asarray(list(value.values()), np.float32)
    if isinstance(value, list):
        return np.stack([_array(item) for item in value])
    return np.asarray(value)


def _differ(x: Any, y: Any) -> tuple[bool, float, float]:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False, float("inf"), float("inf")
    if x.dtype.kind != "f":
        same = bool(np.array_equal(x, y))
        return same, 0.0 if same else 1.0, 0.0 if same else 1.0
    a, b = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True
    ):
        return False, float("inf"), float("inf")
    if not finite.any():
        return True, 0.0, 0.0
    absolute, scale = float(np.abs(a - b)[finite].max()), float(np.abs(a[finite]).max())
    return absolute <= TOLERANCE[str(x.dtype)] * max(scale, FLOOR), absolute, absolute / max(scale, 1e-30)


def latency(runs: list[Any], feed: Feed, seconds: float) -> list[float]:
    """Return median milliseconds of each model on the same inputs, in turn, at least five runs each."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run.run(None, feed)
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or (time.perf_counter() < end and len(times[0]) < 200):
        for run, its in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run.run(None, feed)
            its.append(1000 * (time.perf_counter() - begin))
    return [float(np.median(t)) for t in times]


def main(original: str, zeroed: str, compact: str, seed: str, seconds: str) -> None:
    """Compare on two batches of random inputs and print the facts."""
    rng = np.random.default_rng(int(seed))
    full = session(zeroed)
    feed, expected = runnable(full, rng, 2)
    small = session(compact)
    passed, most, relative = differ(expected, small.run(None, feed))
    again = {
        k: rng.standard_normal(v.shape).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in feed.items()
    }
    other = differ(full.run(None, again), small.run(None, again))
    effect = differ(session(original).run(None, feed), expected)
    facts: dict[str, Any] = {
        "passed": passed and other[0],
        "max_abs": max(most, other[1]),
        "max_rel": max(relative, other[2]),
        "effect": effect[2],
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
    if float(seconds):
        one, _ = runnable(full, rng, 1)
        facts["ms_full"], facts["ms_compact"] = (
            round(t, 4) for t in latency([full, small], one, float(seconds))
        )
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
