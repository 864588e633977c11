"""Latency: the interval of a median, how long is timed, and what cannot be."""

from __future__ import annotations

import gc
import sys

import numpy as np
import psutil
import pytest

from onnx_oto.runtime.intervals import median_interval
from onnx_oto.runtime.limits import Limits, limited
from onnx_oto.runtime.runner import runner
from onnx_oto.runtime.sessions import Patience
from onnx_oto.runtime.timing import Latencies, Latency, Untimed, default_threads, measure
from onnx_oto.runtime.worker import shared
from tests.runtime.crashing import divides_and_dies
from tests.runtime.test_worker import DIVIDES, HEALTHY, LOOPS, X, ints, model

UNKNOWN = "g (float[N,4] x) => (float[N,4] y) { y = Nobody(x) }"
ENOUGH = Patience()


def latency(median: float, low: float, high: float) -> Latency:
    return Latency(median, low, high, 25)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (9, (2, 8)), (20, (6, 15)), (100, (40, 61))],
)
def test_the_interval_of_a_median_is_that_of_the_tables(count, expected):
    times = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert median_interval(times.tolist()) == expected


def test_the_interval_holds_the_median_of_a_skewed_distribution_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    found = [median_interval(rng.exponential(size=25).tolist()) for _ in range(2000)]
    assert 0.95 <= np.mean([low <= np.log(2) <= high for low, high in found]) <= 0.98


@pytest.mark.parametrize(
    ("median", "text"),
    [
        (0.00412, "0.0041 ms"),
        (0.0512, "0.051 ms"),
        (3.214, "3.21 ms"),
        (21.94, "21.9 ms"),
        (1234.5, "1,234 ms"),
    ],
)
def test_milliseconds_for_people(median, text):
    assert latency(median, 0.0, 1.0).text == text


@pytest.mark.parametrize(
    ("compact", "ratio", "faster", "slower"),
    [
        (2.0, (0.4, 0.6), True, False),
        (8.0, (1.9, 2.1), False, True),
        (8.0, (0.9, 2.9), False, False),
        (2.0, (0.4, 1.1), False, False),
        (4.04, (1.009, 1.011), False, False),
    ],
    ids=["faster", "slower", "perhaps slower", "perhaps faster", "next to nothing"],
)
def test_what_is_slower_is_so_beyond_the_interval(compact, ratio, faster, slower):
    found = Latencies(latency(4.0, 1.0, 9.0), latency(compact, 1.0, 9.0), ratio, "ONNX Runtime 1", 2, 1)
    assert (found.is_faster, found.is_slower) == (faster, slower)


def test_some_tenths_of_a_microsecond_are_no_difference():
    one, other = latency(0.0039, 0.0039, 0.0039), latency(0.0041, 0.0041, 0.0041)
    found = Latencies(one, other, (1.04, 1.06), "ONNX Runtime 1", 2, 1)
    assert not found.is_slower
    assert not Latencies(other, one, (0.94, 0.96), "ONNX Runtime 1", 2, 1).is_faster


@pytest.mark.parametrize(
    ("rounds", "seconds", "enough"),
    [
        (200, 0.01, True),  # a tiny model
        (24, 0.5, False),
        (25, 0.1, False),
        (25, 0.3, True),
        (4, 3.0, False),
        (5, 3.0, True),
    ],
)
def test_timing_ends(rounds, seconds, enough):
    assert ENOUGH.is_enough(rounds, seconds) == enough


def test_a_measurement_says_what_it_is_of():
    found = measure(model(HEALTHY), model(HEALTHY), {"x": X})
    assert isinstance(found, Latencies)
    json = found.as_json()
    assert json.pop("runtime").startswith("ONNX Runtime 1.")
    assert {name: json[name] for name in ("threads", "batch", "at")} == {
        "threads": default_threads(), "batch": 1, "at": {"N": 1},
    }  # fmt: skip
    assert 25 <= json["runs"] <= 200
    for name in ("full", "compact"):
        low, high = json[f"{name}_interval"]
        assert 0 < low <= json[name] <= high
    assert set(json) == {
        "full", "compact", "full_interval", "compact_interval", "ratio_interval", "runs", "threads", "batch", "at",
    }  # fmt: skip
    low, high = json["ratio_interval"]
    assert 0.2 < low <= high < 5, "a model against itself"
    told = measure(model(HEALTHY), model(HEALTHY), {"x": X}, threads=1)
    assert isinstance(told, Latencies)
    assert told.threads == 1


def test_without_an_axis_there_is_no_batch():
    scalar = model("g (float x) => (float y) { y = Relu(x) }")
    found = measure(scalar, scalar, {"x": np.array(1.0, np.float32)})
    assert isinstance(found, Latencies)
    assert found.batch is None


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux does")
def test_the_default_number_of_threads_is_the_one_that_is_used():
    gc.collect()  # sessions of other tests are closed with the next one that opens
    first = runner(model(HEALTHY))
    process = psutil.Process(shared()._process.pid)
    before = process.num_threads()
    second = runner(model(HEALTHY))
    assert process.num_threads() - before == default_threads() - 1  # the one that asks computes too
    assert first.runtime == second.runtime


@pytest.mark.parametrize(
    ("text", "feed", "reason"),
    [
        (UNKNOWN, {"x": X}, "Nobody"),
        pytest.param(
            DIVIDES, {"x": ints(1), "d": ints(0)}, "brings the runtime down", marks=divides_and_dies
        ),
        (LOOPS, {"n": np.array(10**12)}, "takes longer than"),
        (HEALTHY, {"x": X[:, :3]}, "INVALID_ARGUMENT|invalid dimensions"),
    ],
    ids=["refused", "crashes", "without end", "does not fit"],
)
def test_what_cannot_be_timed_says_why(text, feed, reason):
    with limited(Limits(seconds=0.3) if text == LOOPS else Limits()):
        found = measure(model(text), model(text), feed)
    assert isinstance(found, Untimed)
    assert any(part in found.reason for part in reason.split("|")), found.reason
    assert found.as_json() == {"full": None, "compact": None, "not_measured": found.reason}


def test_models_that_take_too_long_are_not_measured():
    found = measure(model(HEALTHY), model(HEALTHY), {"x": X}, patience=Patience(longest=0.0))
    assert found == Untimed("3 runs of both models take longer than 0 s")
