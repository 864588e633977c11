"""Compare and time two model files in any environment that has numpy and onnxruntime.

    python pair.py ORIGINAL ZEROED COMPACT SEED SECONDS [FEEDS] [ENGINE] [TYPE]

Prints one JSON line: passed, max_abs, max_rel (zeroed against compact), effect (zeroed against original: 0 would mean
that the comparison proves nothing), trouble (why the compact model does not run, or ""), ms_full, ms_compact, runtime.
FEEDS is an npz file of more inputs to compare on, "i|name" -> array of input `name` in feed i; then also feeds (how
many were compared) and skipped (those the zeroed model does not take). Exit 1 when the zeroed model cannot be run.

COMPACT may have inputs that ZEROED gives as its last outputs: it gets them from there. So models are compared in front
of operators that jump, and behind them on what they gave in one of both.

ENGINE is "onnxruntime" or "openvino": then the models are only compared there, on inputs that onnxruntime takes.
TYPE is the least precise type that the models compute in, where that is not the one of their outputs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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


class InOpenVino:
    """A model in OpenVINO, on the processor, in float32: with open sizes, or else compiled for those of every feed."""

    def __init__(self, path: str) -> None:
        import openvino  # type: ignore[import-not-found,unused-ignore]

        self.core = openvino.Core()
        self.path = path
        self.open: Any = None
        with contextlib.suppress(Exception):  # it does not take every model whose ranks depend on sizes
            self.open = self._compile(self.core.read_model(path))

    def __call__(self, feed: Feed) -> list[Any]:
        """Return the outputs in their order. An input that no operator reads is not there any more."""
        compiled = self.open or self._compiled_for(feed)
        known = {name for value in compiled.inputs for name in value.names}
        result = compiled({name: value for name, value in feed.items() if name in known})
        return [np.array(result[i]) for i in range(len(compiled.outputs))]

    def _compiled_for(self, feed: Feed) -> Any:
        model = self.core.read_model(self.path)
        names = {name for value in model.inputs for name in value.names}
        model.reshape({name: list(value.shape) for name, value in feed.items() if name in names})
        return self._compile(model)

    def _compile(self, model: Any) -> Any:
        # Weights of bytes make it quantize activations, in groups that other channels lie in once some are gone.
        exactly = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        return self.core.compile_model(model, "CPU", exactly)


def outputs(run: Any, feed: Feed) -> list[Any]:
    """Return what the model makes of the feed; working memory is given back, so that models do not add up."""
    if isinstance(run, InOpenVino):
        return run(feed)
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return list(run.run(None, feed, options))


def feeds(run: Any, rng: Any, batch: int, sizes: Sequence[int | None] = SIZES) -> Iterator[Feed]:
    """Yield random inputs, other guesses for unknown sizes each time (None: 224 for images, else 16)."""
    for size in sizes:
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
        if kind == "string":
            result[value.name] = rng.choice(np.array(["a", "b"], object), shape)
            continue
        dtype = np.dtype(DTYPES.get(kind, kind))
        if dtype.kind == "f":
            result[value.name] = np.asarray(rng.standard_normal(shape)).astype(dtype)
        else:
            result[value.name] = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    return result


def read_feeds(path: str, run: Any) -> list[Feed]:
    """Return the feeds of an npz file in order, the model's inputs only. Arrays of other names are left out."""
    names = {value.name for value in run.get_inputs()}
    found: dict[int, Feed] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, bar, name = key.partition("|")
            if bar and number.isdigit() and name in names:
                found.setdefault(int(number), {})[name] = arrays[key]
    return [found[number] for number in sorted(found)]


def runnable(run: Any, rng: Any, batch: int, given: Sequence[Feed] = ()) -> tuple[Feed, list[Any]]:
    """Return the first inputs that the model takes, guessed or else given, and its outputs.

    Where feeds are given sizes are open and 224 is no good guess: attention over a map of that side needs gigabytes.
    Raises the first error when there are none.
    """
    trouble: Exception | None = None
    guesses = feeds(run, rng, batch, SIZES[1:] if given else SIZES)
    for feed in itertools.chain(guesses, given):
        try:
            return feed, outputs(run, feed)
        except Exception as error:  # the runtime raises many types for sizes that do not fit
            trouble = trouble or error
    assert trouble is not None
    raise trouble


def differ(a: list[Any], b: list[Any], least: str = "") -> tuple[bool, float, float]:
    """Return (within tolerance, max |a - b|, the same relative to max |a|) over all outputs.

    least: the least precise type that was computed in.
    """
    passed, most, relative = True, 0.0, 0.0
    for x, y in zip(a, b, strict=True):
        ok, absolute, share = _differ(_array(x), _array(y), TOLERANCE.get(least, 0.0))
        passed, most, relative = passed and ok, max(most, absolute), max(relative, share)
    return passed, most, relative


def _array(value: Any) -> Any:
    """Return an output as one array: sequences are stacked, maps (class -> probability) become their values."""
    if isinstance(value, dict):
        return np.asarray(list(value.values()), np.float32)
    if isinstance(value, list):
        return np.stack([_array(item) for item in value])
    return np.asarray(value)


def _differ(x: Any, y: Any, allowed: float) -> tuple[bool, float, float]:
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
    tolerance = max(TOLERANCE[str(x.dtype)], allowed)
    return absolute <= tolerance * max(scale, FLOOR), absolute, absolute / max(scale, 1e-30)


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


class Comparison:
    """The zeroed model against the compact one of a file, over any number of feeds.

    given: inputs that the compact model has besides, the last outputs of the zeroed one. least: see `differ`.
    """

    def __init__(
        self,
        compact: str,
        given: Sequence[str] = (),
        opened: Callable[[str], Any] = session,
        least: str = "",
    ) -> None:
        self.compact, self.given, self.opened, self.least = compact, list(given), opened, least
        self.small: Any = None
        self.passed, self.trouble = True, ""
        self.most = self.relative = 0.0

    def add(self, feed: Feed, expected: list[Any]) -> None:
        """Compare on one feed; a compact model that does not load or run is infinitely far off."""
        try:
            self.small = self.small or self.opened(self.compact)
            count = len(expected) - len(self.given)
            feed = {**feed, **dict(zip(self.given, expected[count:], strict=True))}
            passed, most, relative = differ(expected[:count], outputs(self.small, feed), self.least)
        except Exception as error:  # the runtime raises many types
            self.trouble = self.trouble or " ".join(str(error).split())
            passed, most, relative = False, float("inf"), float("inf")
        self.passed = self.passed and passed
        self.most, self.relative = max(self.most, most), max(self.relative, relative)

    def add_given(self, given: list[Feed], full: Any) -> int:
        """Compare on the feeds that the full model takes; return how many it does not."""
        skipped = 0
        for feed in given:
            try:
                expected = outputs(full, feed)
            except Exception:
                skipped += 1
                continue
            self.add(feed, expected)
        return skipped


def _takes(run: Any, feed: Feed) -> bool:
    try:
        outputs(run, feed)
    except Exception:  # the runtime raises many types for sizes that do not fit
        return False
    return True


def names_given(zeroed: Any, compact: Any) -> list[str]:
    """Return the inputs that only the compact model has, in the order in which the zeroed one gives them."""
    taken = {value.name for value in zeroed.get_inputs()}
    more = {value.name for value in compact.get_inputs()} - taken
    return [value.name for value in zeroed.get_outputs() if value.name in more]


def only_compare(zeroed: str, compact: str, seed: str, more: str, engine: str, least: str) -> None:
    """Compare in an engine, on inputs that onnxruntime takes; print passed, max_abs, max_rel and trouble."""
    rng = np.random.default_rng(int(seed))
    full = session(zeroed)
    given = read_feeds(more, full) if more else []
    names = names_given(full, session(compact))
    opened = InOpenVino if engine == "openvino" else session
    there = opened(zeroed)
    feed, _ = runnable(full, rng, 2, given)
    comparison = Comparison(compact, names, opened, least)
    for each in (feed, *given):
        if _takes(full, each):
            comparison.add(each, outputs(there, each))
    facts = {"passed": comparison.passed, "max_abs": comparison.most, "max_rel": comparison.relative}
    print(json.dumps({**facts, "trouble": comparison.trouble}))


def main(
    original: str,
    zeroed: str,
    compact: str,
    seed: str,
    seconds: str,
    more: str = "",
    engine: str = "",
    least: str = "",
) -> None:
    """Compare on two batches of random inputs, and on the feeds of the file `more`; print the facts."""
    if engine:
        return only_compare(zeroed, compact, seed, more, engine, least)
    rng = np.random.default_rng(int(seed))
    full = session(zeroed)
    given = read_feeds(more, full) if more else []
    feed, expected = runnable(full, rng, 2, given)
    comparison = Comparison(compact, least=least)
    comparison.add(feed, expected)
    again = {
        k: rng.standard_normal(v.shape).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in feed.items()
    }
    comparison.add(again, outputs(full, again))
    skipped = comparison.add_given(given, full)
    facts: dict[str, Any] = {
        "passed": comparison.passed,
        "max_abs": comparison.most,
        "max_rel": comparison.relative,
        "effect": differ(outputs(session(original), feed), expected)[2],
        "trouble": comparison.trouble,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
    if given:
        facts["feeds"], facts["skipped"] = len(given) - skipped, skipped
    if float(seconds) and comparison.passed:
        one, _ = runnable(full, rng, 1, given)
        facts["ms_full"], facts["ms_compact"] = (
            round(t, 4) for t in latency([full, comparison.small], one, float(seconds))
        )
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
