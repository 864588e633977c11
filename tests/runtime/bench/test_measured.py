"""What is said of measured times."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnx_oto.runtime.bench import Host
from onnx_oto.runtime.bench.measured import timing
from onnx_oto.runtime.intervals import median_interval

HOST = Host("ONNX Runtime", "1.32.0", "onnxruntime", "A processor", "0123456789ab", 2)


@pytest.mark.parametrize(
    ("n", "k"),
    [
        (1, 1),
        (2, 1),
        (5, 1),
        (6, 1),
        (8, 1),
        (9, 2),
        (11, 2),
        (12, 3),
        (20, 6),
        (22, 6),
        (25, 8),
        (27, 8),
        (50, 18),
        (100, 40),
    ],
)
def test_the_interval_has_the_ranks_of_the_binomial_tables(n: int, k: int) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert median_interval(list(shuffled)) == (k, n + 1 - k)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    rng, median = np.random.default_rng(0), np.exp(0)
    held = [low <= median <= high for low, high in map(median_interval, rng.lognormal(size=(2000, 15)))]
    assert 0.95 < np.mean(held) < 0.98  # 96.48 % exactly


def test_a_timing_keeps_the_times_in_their_order() -> None:
    said = timing([3.0, 1.0, 2.0, 4.0])
    assert (said.median, said.low, said.high, said.runs) == (2.5, 1.0, 4.0, 4)
    assert said.times == (3.0, 1.0, 2.0, 4.0)


def test_a_fingerprint_tells_hosts_apart_and_is_stable() -> None:
    assert HOST.fingerprint == "d0cc4459e539b542"
    others = [{"version": "1.32.1"}, {"features": ""}, {"cores": 4}, {"engine": "openvino"}]
    assert len({HOST.fingerprint, *(dataclasses.replace(HOST, **other).fingerprint for other in others)}) == 5
