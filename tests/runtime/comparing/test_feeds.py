"""Feeds at given sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.model import graph
from onnx_oto.runtime.comparing import Feeding, feeds_at
from onnx_oto.runtime.limits import Limits, limited
from tests.contract.builder import build

IDS = "g (int64[N,T] ids) => (float[N,T,4] y) <float[9,4] table> { y = Gather(table, ids) }"
NEXT = "g (float[N,T] x, float[N] z) => (float[N,T] y) { y = Relu(x) }"


def shapes(
    model: onnx.ModelProto, sizes: dict[str, int], feeding: Feeding
) -> list[dict[str, tuple[int, ...]]]:
    feeds = feeds_at(model, graph(model), sizes, feeding)
    return [{name: array.shape for name, array in feed.items()} for feed in feeds]


def test_integers_are_what_the_graph_allows():
    model = build(IDS)
    first, *_ = feeds_at(model, graph(model), {"N": 2, "T": 50}, Feeding())
    assert first["ids"].shape == (2, 50)
    assert first["ids"].dtype == np.int64
    assert first["ids"].max() == 8


@pytest.mark.parametrize(
    ("sizes", "feeding", "expected"),
    [
        ({"N": 1, "T": 5}, Feeding(), [{"x": (1, 5), "z": (1,)}]),
        ({"N": 1, "T": 5, "other": 3}, Feeding(), [{"x": (1, 5), "z": (1,)}]),
        ({"N": 1, "T": 5}, Feeding(shapes={"x": (2, 7)}), [{"x": (2, 7), "z": (2,)}]),
        ({"N": 1}, Feeding(), []),
        ({"N": 10**6, "T": 10**6}, Feeding(), []),
        ({}, Feeding(examples=[{"x": np.ones((3, 4)), "z": np.ones(3)}]), [{"x": (3, 4), "z": (3,)}]),
    ],
    ids=["plain", "more sizes", "of the user", "one is missing", "too large", "examples"],
)
def test_sizes(sizes, feeding, expected):
    assert shapes(build(NEXT), sizes, feeding) == expected


def test_what_a_run_may_take_counts():
    with limited(Limits(memory=1e6)):
        assert shapes(build(NEXT), {"N": 100, "T": 10_000}, Feeding()) == []
