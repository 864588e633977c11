"""Parts of a graph that compute with stacked tensors, and norms of ours, give what the runtime's own kernels give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnx_oto.gradients import Backend, GradientSession
from onnx_oto.gradients.backends import ort_norms, ort_stacked_probe, probing, stacked_plan
from onnx_oto.gradients.session.prepared import Order, Prepared
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.joining import CONVOLVE, DENORMALISE, NORMALISE, POOL, ROOM, UNPOOL, WEIGHTS

from .available import first
from .conftest import Build, Here, model_from, normal
from .functions import note_calls, require_same, with_and_without

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

Array = NDArray[Any]
BATCH = 16


@pytest.fixture
def backend() -> Backend:
    return first()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Give the functions that each graph calls, as they are made; what can be is ours."""
    monkeypatch.setattr(stacked_plan, "_MOVED", 0.0)
    monkeypatch.setattr(ort_norms, "FEWEST", 32)
    return note_calls(monkeypatch)


def both(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    model: onnx.ModelProto,
    trained: tuple[str, ...],
    **spec: Any,
) -> tuple[GradientSession, GradientSession]:
    """Return a session that stacks, and one of the runtime's own kernels."""
    spec = {"batch": BATCH, "shards": 1, **spec}
    return with_and_without(build, monkeypatch, "can_stack", model, trained, **spec)


CONVOLUTIONS = {
    "3x3": ("pads=[1, 1, 1, 1]", (7, 6, 3, 3)),
    "no pads": ("pads=[0, 0, 0, 0]", (20, 6, 3, 2)),
    "uneven pads": ("pads=[0, 3, 4, 1]", (9, 6, 5, 4)),
    "pads beyond the kernel": ("pads=[3, 3, 3, 3]", (5, 6, 3, 3)),
    "1x1": ("kernel_shape=[1, 1]", (24, 6, 1, 1)),
    "1x1 with a stride": ("strides=[2, 2]", (8, 6, 1, 1)),
    "strides": ("strides=[2, 3], pads=[1, 1, 1, 1]", (8, 6, 3, 3)),
    "a stride beyond the kernel": ("strides=[3, 1]", (8, 6, 2, 2)),
    "dilations": ("dilations=[2, 1], pads=[2, 0, 0, 1]", (8, 6, 3, 3)),
    "strides and dilations": ("strides=[2, 2], dilations=[1, 3], pads=[1, 2, 1, 2]", (8, 6, 3, 3)),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(
    build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]], name: str, bias: bool
) -> None:
    attributes, shape = CONVOLUTIONS[name]
    weights = {"v": normal(6, 1, 1), "w": normal(*shape, seed=1)}
    weights |= {"b": normal(shape[0], seed=2)} if bias else {}
    model = model_from(
        "(float[N, 6, 9, 8] x) => (float[N, O, H, W] y) { a = Mul(x, v)"
        f" c = Conv<{attributes}>(a, w{', b' if bias else ''}) y = Tanh(c) }}",
        weights,
    )
    ours, plain = both(build, monkeypatch, model, tuple(weights), batch=2 * BATCH)
    assert calls == [[CONVOLVE, CONVOLVE, WEIGHTS], []]
    require_same(ours, plain, normal(2 * BATCH, 6, 9, 8, seed=3))


def test_what_is_zero_costs_nothing_and_changes_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]]
) -> None:
    """Filters, channels that are read and gradients of channels, some of them, then all."""
    first, second = normal(10, 6, 3, 3, seed=1), normal(7, 10, 3, 3, seed=2)
    first[[0, 3, 9]] = 0.0
    second[[6]] = 0.0
    shift = normal(10, seed=3)
    shift[[0, 9]] = 0.0
    model = model_from(
        "(float[N, 6, 5, 6] x) => (float[N, 7, 5, 6] y) { a = Mul(x, v) b = Conv<pads=[1,1,1,1]>(a, w, shift) "
        "c = Relu(b) d = Mul(c, gate) y = Conv<pads=[1,1,1,1]>(d, w2) }",
        {
            "v": normal(6, 1, 1),
            "w": first,
            "w2": second,
            "shift": shift,
            "gate": (np.arange(10) % 4 > 0).astype("f4").reshape(10, 1, 1),
        },
    )
    ours, plain = both(build, monkeypatch, model, ("v", "w", "w2", "shift"))
    x = normal(BATCH, 6, 5, 6, seed=4)
    require_same(ours, plain, x)
    for session in (ours, plain):
        session.params[:] = 0.0
    require_same(ours, plain, x)
    require_same(ours, plain, np.zeros_like(x))


POOLS = {
    "2x2": "kernel_shape=[2, 2], strides=[2, 2]",
    "3x3, overlapping": "kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]",
    "rounded up": "kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1",
    "dilations": "kernel_shape=[2, 3], dilations=[2, 1]",
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]], name: str) -> None:
    """With numbers of which many are equal: the first of the largest is taken."""
    model = model_from(
        "(float[N, 6, 9, 8] x) => (float[N, C, H, W] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Floor(a) c = Sub(a, a) "
        f"d = Add(b, c) e = MaxPool<{POOLS[name]}>(a) f = MaxPool<{POOLS[name]}>(d) y = Add(e, f) }}",
        {"w": normal(6, 6, 3, 3)},
    )
    ours, plain = both(build, monkeypatch, model, ("w",))
    assert calls[0].count(POOL) == calls[0].count(UNPOOL) == 2
    require_same(ours, plain, np.floor(normal(BATCH, 6, 9, 8, seed=1)))


@pytest.mark.parametrize("behind", ["Max(m, low)", "HardSigmoid(m)", "Dropout(m)", "Tanh(m)", "PRelu(m, u)"])
def test_what_is_behind_a_pool_may_lie_in_either_order(
    build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]], behind: str
) -> None:
    """The gradient that the pool gets may be called otherwise than the pool's output, and come in the plain order."""
    model = model_from(
        "(float[N, 6, 9, 8] x) => (float[N, C, H, W] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
        f"m = MaxPool<kernel_shape=[2,2]>(a) h = {behind} c = Conv(h, w) y = Mul(c, u) }}",
        {"w": normal(6, 6, 3, 3), "u": normal(6, 1, 1, seed=4), "low": np.float32(-0.5)},
    )
    ours, plain = both(build, monkeypatch, model, ("w", "u"))
    assert calls[0].count(POOL) == calls[0].count(UNPOOL)
    require_same(ours, plain, normal(BATCH, 6, 9, 8, seed=5))


def test_channels_that_meet_part_and_leave(
    build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]]
) -> None:
    """Concat and sums inside; a mean, an operator that looks at samples and two readers of one weight besides."""
    model = model_from(
        "(float[N, 4, 6, 5] x) => (float[N, 4, 1, 1] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) "
        "c = Concat<axis=1>(b, x) d = Conv<pads=[1,1,1,1]>(c, w2) e = Conv<pads=[1,1,1,1]>(d, w) f = Add(e, d) "
        "g = Gather<axis=0>(f, order) h = Conv<pads=[1,1,1,1]>(g, w) y = GlobalAveragePool(h) }",
        {"w": normal(4, 4, 3, 3), "w2": normal(4, 8, 3, 3, seed=1), "order": np.arange(BATCH)[::-1].copy()},
    )
    ours, plain = both(build, monkeypatch, model, ("w", "w2"))
    assert calls[0].count(CONVOLVE) > 4
    require_same(ours, plain, normal(BATCH, 4, 6, 5, seed=2))


def test_a_part_is_stacked_if_that_pays(
    build: Build, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    text = (
        "(float[N, C, 9, 8] x) => (float[N, C, 9, 8] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
        "y = Conv<pads=[1,1,1,1]>(a, w) }"
    )
    found = []
    for channels in (4, 48):
        model = model_from(text.replace("C,", f"{channels},"), {"w": normal(channels, channels, 3, 3)})
        prepared = build(model, ("w",), batch=BATCH, shards=1)
        found.append(any(value.name == ROOM for value in prepared._forms[0].shards[0].inputs))  # type: ignore[attr-defined]
    assert found == [False, True]


NORM = "BatchNormalization<epsilon=0.001, momentum=0.7>"
STATISTICS = {
    **{name: normal(6, seed=5) for name in ("scale", "shift", "mean")},
    "var": np.abs(normal(6, seed=6)) + 0.5,
}


@pytest.mark.parametrize("relu", ["Relu", "Tanh"])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("stacked", [True, False])
def test_norms(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[list[str]],
    relu: str,
    shards: int,
    stacked: bool,
) -> None:
    """Alone and over a batch that is shared, in both orders of memory, with and without a Relu in the same pass."""
    model = model_from(
        "(float[N, 6, 7, 5] x) => (float[N, 6, 7, 5] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
        f"b = {NORM}(a, scale, shift, mean, var) c = {relu}(b) y = Conv<pads=[1,1,1,1]>(c, w2) }}",
        {"w": normal(6, 6, 3, 3), "w2": normal(6, 6, 3, 3, seed=1), **STATISTICS},
    )
    samples = (BATCH if stacked else BATCH // 2 + 1) * shards
    ours, plain = both(build, monkeypatch, model, ("w", "w2", "scale", "shift"), batch=samples, shards=shards)
    assert calls[0].count(NORMALISE) == calls[0].count(DENORMALISE) == 1
    assert (CONVOLVE in calls[0]) is stacked
    x = normal(samples, 6, 7, 5, seed=2) * np.linspace(0.5, 3, samples).reshape(-1, 1, 1, 1) + 1
    require_same(ours, plain, x.astype("f4"), most=3e-5)


def test_what_is_no_number_stays_none(build: Build, calls: list[list[str]]) -> None:
    """A Relu in the pass of a norm hides nothing that training has to stop for."""
    model = model_from(
        f"(float[N, 6, 7, 5] x) => (float[N, 6, 7, 5] y) {{ a = Mul(x, v) b = {NORM}(a, scale, shift, mean, var) "
        "y = Relu(b) }",
        {"v": normal(6, 1, 1), **STATISTICS},
    )
    session = build(model, ("v", "scale", "shift"), batch=4, shards=1)
    assert calls[0].count(NORMALISE) == 1
    x = normal(4, 6, 7, 5)
    session.params[0] = np.nan
    assert np.isnan(session.step({"x": x}, np.zeros_like(x)))


def test_shards_of_unequal_size_are_not_stacked(build: Build, calls: list[list[str]]) -> None:
    """They must compute in the same order, and one of them has no whole vectors."""
    model = model_from(
        f"(float[N, 6, 7, 5] x) => (float[N, 6, 7, 5] y) {{ a = Conv<pads=[1,1,1,1]>(x, w) "
        f"y = {NORM}(a, scale, shift, mean, var) }}",
        {"w": normal(6, 6, 3, 3), **STATISTICS},
    )
    session = build(model, ("w", "scale", "shift"), batch=2 * BATCH - 1, shards=2)
    x = normal(2 * BATCH - 1, 6, 7, 5)
    assert np.isfinite(session.step({"x": x}, np.zeros_like(x)))
    assert all(CONVOLVE not in each and NORMALISE in each for each in calls)


def test_repeated_runs_have_the_same_bits(build: Build, calls: list[list[str]]) -> None:
    model = model_from(
        f"(float[N, 6, 9, 8] x) => (float[N, C, H, W] y) {{ a = Conv<pads=[1,1,1,1]>(x, w) "
        f"b = {NORM}(a, scale, shift, mean, var) c = Relu(b) y = MaxPool<kernel_shape=[3, 3]>(c) }}",
        {"w": normal(6, 6, 3, 3), **STATISTICS},
    )
    x, found = normal(2 * BATCH, 6, 9, 8, seed=1), []
    for _ in range(2):
        session = build(model, ("w", "scale", "shift"), batch=2 * BATCH, shards=2)
        target = np.zeros(np.shape(session.predict({"x": x})), np.float32)
        for _ in range(3):
            session.step({"x": x}, target)
            session.params -= np.float32(0.1) * session.grads
        found.append(session.params.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("dead", [[], [0, 4], list(range(9))])
@pytest.mark.parametrize("threads", [1, 3])
def test_weights_in_tiles(turned: bool, dead: list[int], threads: int) -> None:
    """The order is that of the probe; filters that are zero come last, and their tiles are not written."""
    weight = normal(9, 5, 3, 2)
    weight[dead] = 0.0
    order = Order(1, turned=turned, tile=4)
    asked = [SimpleNamespace(name=order.input("w"), shape=list(order.tiled(weight.shape)))]
    prepared = Prepared(asked, {"w": weight}, threads)
    with ThreadPoolExecutor(4) as pool:
        prepared.make(pool)
    (found,) = prepared.arrays.values()
    rows = weight if not turned else weight.transpose(1, 0, 2, 3)
    alive = [row for row in range(len(rows)) if turned or row not in dead]
    last = [row for row in range(len(rows)) if row not in alive]
    np.testing.assert_array_equal(found[-1 - len(rows) :], [len(alive), *alive, *last])
    if alive:
        expected = ort_stacked_probe._tiled(rows[alive], Order(1, turned=False, tile=4))[: -1 - len(alive)]
        np.testing.assert_array_equal(found[: len(expected)], expected)


def test_functions_are_tried_before_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What loads and computes something else is not used."""
    assert ort_stacked_probe.can_stack()
    right = probing.run_once

    def wrong(content: bytes, feeds: dict[str, Array]) -> list[Array]:
        *first, last = right(content, feeds)
        return [*first, last + np.float32(0.01)]

    monkeypatch.setattr(probing, "run_once", wrong)
    monkeypatch.setattr(probing, "shared", Here)
    ort_stacked_probe.can_stack.cache_clear()
    assert not ort_stacked_probe.can_stack()
    ort_stacked_probe.can_stack.cache_clear()
    monkeypatch.setattr(ort_stacked_probe, "functions_are_ready", lambda: False)
    assert not ort_stacked_probe.can_stack()
    ort_stacked_probe.can_stack.cache_clear()
