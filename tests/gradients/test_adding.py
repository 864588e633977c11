"""Gradients of shards that are added up in one buffer while they run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnx_oto.gradients import Backend
from onnx_oto.gradients.backends import functions
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.machine import has_compiler

from .available import first
from .conftest import Build, model_from, normal
from .functions import require_nobody_waits

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

WIDE = 16
NET = """(float[N, 3, 6, 6] x) => (float[N, 4] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1) r = Relu(a) c = Conv<pads=[1, 1, 1, 1]>(r, w2) m = GlobalAveragePool(c)
    f = Flatten(m) g = Mul(f, scale) y = Gemm<transB=1>(g, w3, b3)
}"""
WEIGHTS = {
    "w1": normal(WIDE, 3, 3, 3, seed=1) * 0.3,
    "b1": normal(WIDE, seed=2),
    "w2": normal(WIDE, WIDE, 3, 3, seed=3) * 0.1,
    "scale": np.float32(0.5) * np.ones((), np.float32),
    "w3": normal(4, WIDE, seed=4) * 0.1,
    "b3": normal(4, seed=5),
}


@pytest.fixture
def backend() -> Backend:
    return first()


def session_of(build: Build, batch: int, shards: int) -> ShardedSession:
    session = build(model_from(NET, WEIGHTS), tuple(WEIGHTS), "cross-entropy", batch=batch, shards=shards)
    assert isinstance(session, ShardedSession)
    return session


def steps(session: ShardedSession, batch: int) -> Iterator[np.ndarray]:
    for seed in range(3):
        yield np.float32(session.step({"x": normal(batch, 3, 6, 6, seed=seed)}, np.arange(batch) % 4))
        yield session.grads.copy()


# 32 samples for each of two: stacked, where gradients of weights could be written in place; 7 and 6: of unequal size
@pytest.mark.parametrize(("batch", "shards"), [(64, 2), (13, 2), (20, 3)])
def test_the_sums_have_the_bits_of_whole_buffers(
    build: Build, monkeypatch: pytest.MonkeyPatch, batch: int, shards: int
) -> None:
    together = session_of(build, batch, shards)
    monkeypatch.setattr(functions, "add_up", lambda model, wanted, shapes: None)
    apart = session_of(build, batch, shards)
    assert (len(together._memory.grads), len(apart._memory.grads)) == (1, shards)
    for one, other in zip(steps(together, batch), steps(apart, batch), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_shard_has_nobody_to_add_to(build: Build) -> None:
    session = session_of(build, 16, 1)
    assert session._forms[0].turns is None


@pytest.mark.parametrize("failing", [0, 1])
def test_nobody_waits_for_a_shard_that_failed(
    build: Build, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    session = session_of(build, 12, 3)
    require_nobody_waits(monkeypatch, session, failing, lambda: steps(session, 12))
