"""Convolutions that shards divide among themselves by weights give what each would compute of its own samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnx_oto.gradients import Backend, GradientSession
from onnx_oto.gradients.backends import functions, ort_divided, ort_divided_probe, stacked_plan
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.joining import DIVIDED, DIVIDED_BACK

from .available import first
from .conftest import Build, gradient_of, model_from, normal
from .functions import calls_of, note_calls, require_nobody_waits, require_same, spoil, with_and_without

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

Array = NDArray[Any]
SIDE = 9, 8
LANES = stacked_plan.sizes().lanes if has_compiler() else 0


@pytest.fixture
def backend() -> Backend:
    return first()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Give the functions that each graph calls to divide, as they are made; what can be is divided, nothing stacked."""
    monkeypatch.setattr(ort_divided, "pays", lambda weight, places: True)
    monkeypatch.setattr(functions, "stack", lambda gradient, shapes, *_, **__: shapes)
    return note_calls(monkeypatch, (DIVIDED, DIVIDED_BACK))


def both(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    model: onnx.ModelProto,
    trained: tuple[str, ...],
    **spec: Any,
) -> tuple[GradientSession, GradientSession]:
    """Return a session that divides, and one that does not."""
    return with_and_without(build, monkeypatch, "can_divide", model, trained, **spec)


CONVOLUTIONS = {
    "3x3": ("pads=[1, 1, 1, 1]", (16, 16, 3, 3)),
    "no pads": ("pads=[0, 0, 0, 0]", (24, 16, 3, 2)),
    "uneven pads": ("pads=[0, 3, 4, 1]", (16, 16, 5, 4)),
    "pads beyond the kernel": ("pads=[3, 3, 3, 3]", (16, 16, 3, 3)),
    "1x1": ("kernel_shape=[1, 1]", (40, 48, 1, 1)),
    "1x1 with a stride": ("strides=[2, 2]", (16, 64, 1, 1)),
    "strides": ("strides=[2, 3], pads=[1, 1, 1, 1]", (16, 16, 3, 3)),
    "a stride beyond the kernel": ("strides=[9, 8]", (16, 16, 2, 2)),
    "filters that fill no tile": ("pads=[1, 1, 1, 1]", (21, 16, 3, 3)),
    "fewer filters than shards": ("pads=[1, 1, 1, 1]", (2, 16, 3, 3)),
    "strides and dilations": ("strides=[2, 2], dilations=[1, 3], pads=[1, 2, 1, 2]", (16, 16, 3, 3)),
}


@pytest.mark.parametrize("shape_of_batch", [(7, 2), (4, 1), (11, 3)], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[list[str]],
    name: str,
    shape_of_batch: tuple[int, int],
) -> None:
    batch, shards = shape_of_batch
    attributes, shape = CONVOLUTIONS[name]
    weights = {"v": normal(shape[1], 1, 1), "w": normal(*shape, seed=1)}
    weights |= {"b": normal(shape[0], seed=2)} if shards == 2 else {}
    model = model_from(
        f"(float[N, {shape[1]}, 9, 8] x) => (float[N, O, H, W] y) {{ a = Mul(x, v)"
        f" c = Conv<{attributes}>(a, w{', b' if shards == 2 else ''}) y = Tanh(c) }}",
        weights,
    )
    ours, plain = both(build, monkeypatch, model, tuple(weights), batch=batch, shards=shards)
    assert [DIVIDED, DIVIDED_BACK] in calls
    require_same(ours, plain, normal(batch, shape[1], *SIDE, seed=3))


@pytest.mark.parametrize("alive", [0, 5, 16])
def test_filters_that_are_zero_change_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]], alive: int
) -> None:
    """And gradients of channels that are zero, since what is made of them is multiplied by zero."""
    weights = {"v": normal(16, 1, 1), "w": normal(16, 16, 3, 3, seed=1), "b": normal(16, seed=2)}
    weights["u"] = normal(16, 1, 1, seed=3)
    weights["w"][:: 16 - alive or 1][:] = 0.0
    weights["u"][alive:] = 0.0
    model = model_from(
        "(float[N, 16, 9, 8] x) => (float[N, 16, 9, 8] y) { a = Mul(x, v) c = Conv<pads=[1,1,1,1]>(a, w, b)"
        " y = Mul(c, u) }",
        weights,
    )
    ours, plain = both(build, monkeypatch, model, tuple(weights), batch=5, shards=2)
    require_same(ours, plain, normal(5, 16, *SIDE, seed=3))


NET = """(float[N, 16, 2, 2] x) => (float[N, 4] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, w1) r = Relu(a) c = Conv<pads=[1, 1, 1, 1]>(r, w2) m = GlobalAveragePool(c)
    f = Flatten(m) y = Gemm<transB=1>(f, w3, b3)
}"""
WEIGHTS = {
    "w1": normal(128, 16, 3, 3, seed=1) * 0.3,
    "w2": normal(128, 128, 3, 3, seed=3) * 0.1,
    "w3": normal(4, 128, seed=4) * 0.1,
    "b3": normal(4, seed=5),
}


def session_of(build: Build, batch: int, shards: int) -> ShardedSession:
    session = build(model_from(NET, WEIGHTS), tuple(WEIGHTS), "cross-entropy", batch=batch, shards=shards)
    assert isinstance(session, ShardedSession)
    return session


def steps(session: ShardedSession, batch: int) -> Iterator[np.ndarray]:
    for seed in range(3):
        yield np.float32(session.step({"x": normal(batch, 16, 2, 2, seed=seed)}, np.arange(batch) % 4))
        yield session.grads.copy()


def test_the_rule_divides_what_has_many_weights_and_few_places(
    build: Build, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    seen: list[bool] = []
    real = ort_divided.pays
    monkeypatch.setattr(ort_divided, "pays", lambda *given: seen.append(real(*given)) or seen[-1])
    session = session_of(build, 6, 2)
    assert seen == [False, True, True, False]  # forward, then back
    assert session._forms[0].meeting is not None


def test_gradients_of_weights_do_not_depend_on_the_number_of_shards(
    build: Build, calls: list[list[str]]
) -> None:
    """What is divided is summed over the places of all samples, in their order."""
    sessions = [session_of(build, 6, shards) for shards in (1, 2, 3)]
    x, target = normal(6, 16, 2, 2, seed=9), np.arange(6) % 4
    for session in sessions:
        session.step({"x": x}, target)
    first, *others = [gradient_of(session, "w1") for session in sessions]
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0.0, atol=1e-6 * float(np.abs(first).max()))


def test_steps_repeat_bit_by_bit(build: Build, calls: list[list[str]]) -> None:
    one, other = session_of(build, 7, 2), session_of(build, 7, 2)
    for each, again in zip(steps(one, 7), steps(other, 7), strict=True):
        np.testing.assert_array_equal(each, again)


@pytest.mark.parametrize("failing", [0, 2])
def test_nobody_reads_of_a_shard_that_failed(
    build: Build, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    session = session_of(build, 12, 3)
    require_nobody_waits(monkeypatch, session, failing, lambda: steps(session, 12))


# Groups and terms that fill no vectors or too few of them are not divided; the last one is.
CASES = {
    "groups": ("c = Conv<group=2>(x, w)", (16, 24, 2, 2), 0),
    "half a vector": ("c = Conv(x, w)", (16, 51, 1, 1), 0),
    "two vectors": ("c = Conv(x, w)", (16, 32 if LANES > 8 else 16, 1, 1), 0),
    "neither": ("c = Conv(x, w)", (13, 48, 1, 1), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_stays(build: Build, calls: list[list[str]], name: str) -> None:
    body, shape, expected = CASES[name]
    channels = shape[1] * (2 if name == "groups" else 1)
    model = model_from(
        f"(float[N, {channels}, 3, 3] x) => (float[N, O, H, W] y) {{ {body} y = Tanh(c) }}",
        {"w": normal(*shape)},
    )
    build(model, ("w",), batch=4, shards=2)
    assert [len(each) for each in calls] == [expected]


def test_a_weight_that_two_nodes_read_keeps_its_sum(
    build: Build, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_from(
        "(float[N, 16, 3, 3] x) => (float[N, O, H, W] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Tanh(a)"
        " y = Conv<pads=[1,1,1,1]>(b, w) }",
        {"w": normal(16, 16, 3, 3) * 0.1},
    )
    ours, plain = both(build, monkeypatch, model, ("w",), batch=4, shards=2)
    assert DIVIDED_BACK not in calls[0]
    require_same(ours, plain, normal(4, 16, 3, 3, seed=3))


# What a session makes of its own samples or masks is another weight than the other session's.
OWN = {
    "a weight of the samples": "m = ReduceMean<keepdims=0>(x) k = Mul(w, m) c = Conv<pads=[1,1,1,1]>(x, k)",
    "a weight with a mask": "k = Dropout(w, ratio, training) c = Conv<pads=[1,1,1,1]>(x, k)",
    "a bias with a mask": "k = Dropout(b, ratio, training) c = Conv<pads=[1,1,1,1]>(x, w, k)",
    "the same weight": "m = ReduceMean(w) k = Sub(w, m) c = Conv<pads=[1,1,1,1]>(x, k)",
}


@pytest.mark.parametrize("name", OWN)
def test_what_each_session_makes_for_itself_is_not_shared(
    build: Build, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    values = {"w": normal(16, 16, 3, 3) * 0.1, "b": normal(16, seed=1), "ratio": np.float32(0.5)}
    values = {key: value for key, value in values.items() if key in OWN[name]}
    model = model_from(
        f"(float[N, 16, 3, 3] x) => (float[N, O, H, W] y) {{ {OWN[name]} y = Tanh(c) }}",
        {**values, **({"training": np.array(True)} if "training" in OWN[name] else {})},
    )
    trained = tuple({"w", "b"} & values.keys())
    ours, plain = both(build, monkeypatch, model, trained, batch=4, shards=2)
    assert (DIVIDED in calls[0]) == (name == "the same weight")
    require_same(ours, plain, normal(4, 16, 3, 3, seed=3))


@pytest.fixture
def anew() -> Iterator[None]:
    ort_divided_probe.can_divide.cache_clear()
    yield
    ort_divided_probe.can_divide.cache_clear()


@pytest.mark.usefixtures("anew")
def test_it_can_be_divided_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is tried of what was rewritten, both ways."""
    real, seen = ort_divided_probe.computed, []
    monkeypatch.setattr(
        ort_divided_probe,
        "computed",
        lambda graph, *given: seen.append(calls_of(graph)) or real(graph, *given),
    )
    assert ort_divided_probe.can_divide()
    assert seen == [[DIVIDED, DIVIDED_BACK]]


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("spoilt", range(3))
def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch, spoilt: int) -> None:
    spoil(monkeypatch, ort_divided_probe, spoilt)
    assert not ort_divided_probe.can_divide()
