"""BatchNormalization over a batch that is split among threads: the same numbers as of the whole batch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_oto.errors import DataError, UnsupportedError
from onnx_oto.gradients import Backend, TrainingSpec, prepare
from onnx_oto.gradients.backends import ort_blocked, ort_statistics, probing
from onnx_oto.gradients.session.shards import Shard
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.meeting import Meeting

from .available import first, module
from .conftest import Build, Here, gradient_of, model_from, normal

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

Array = NDArray[Any]
BATCH = 7


@pytest.fixture
def backend() -> Backend:
    return first()


NORM = "BatchNormalization<epsilon=0.001, momentum=0.7>"
NETS: dict[str, tuple[str, tuple[int, ...]]] = {
    "images": (
        f"(float[N, 3, 4, 5] x) => (float[N, 2] y) {{ a = Conv<pads=[1,1,1,1]>(x, kernel) "
        f"b = {NORM}(a, scale, shift, mean, var) c = Relu(b) d = Conv<pads=[1,1,1,1]>(c, second) "
        f"e = {NORM}(d, scale2, shift2, mean2, var2) f = GlobalAveragePool(e) g = Flatten(f) y = MatMul(g, head) }}",
        (3, 4, 5),
    ),
    "one norm twice": (
        f"(float[N, 4, 6] x) => (float[N, 4, 6] y) {{ a = {NORM}(x, scale, shift, mean, var) b = Tanh(a) "
        f"y = {NORM}(b, scale, shift, mean, var) }}",
        (4, 6),
    ),
    "rows": (
        f"(float[N, 4] x) => (float[N, 4] y) {{ a = MatMul(x, square) y = {NORM}(a, scale, shift, mean, var) }}",
        (4,),
    ),
    "first layer": (f"(float[N, 4] x) => (float[N, 4] y) {{ y = {NORM}(x, scale, shift, mean, var) }}", (4,)),
}
WEIGHTS = {
    "kernel": normal(4, 3, 3, 3, seed=1),
    "second": normal(4, 4, 3, 3, seed=2),
    "head": normal(4, 2, seed=3),
    "square": normal(4, 4, seed=4),
    "scale": normal(4, seed=5),
    "shift": normal(4, seed=6),
    "scale2": normal(4, seed=7),
    "shift2": normal(4, seed=8),
    **{name: normal(4, seed=9) for name in ("mean", "mean2")},
    **{name: np.abs(normal(4, seed=10)) + 0.5 for name in ("var", "var2")},
}
STATISTICS = ("mean", "var", "mean2", "var2")


def net(name: str) -> tuple[Any, tuple[str, ...], Array]:
    """Return a model, what trains, and a batch of which no two samples are alike."""
    text, sample = NETS[name]
    weights = {key: value for key, value in WEIGHTS.items() if f" {key})" in text or f" {key}," in text}
    x = normal(BATCH, *sample, seed=11) * np.linspace(0.5, 3, BATCH).reshape(-1, *[1] * len(sample)) + 1
    return model_from(text, weights), tuple(key for key in weights if key not in STATISTICS), x.astype("f4")


Steps = tuple[list[float], Mapping[str, Array], Mapping[str, Array]]


def steps(session: Any, x: Array, count: int = 3) -> Steps:
    """Return the losses, the gradients in the end, and the running statistics."""
    target = normal(*session.predict({"x": x}).shape, seed=12)
    losses = [session.step({"x": x}, target) for _ in range(count)]
    gradients = {name: gradient_of(session, name).copy() for name in session.slices}
    return losses, gradients, {name: value.copy() for name, value in session.buffers.items()}


def apart(one: Steps, other: Steps) -> float:
    """Return the largest distance between gradients, each relative to its largest element."""
    return max(float(np.abs(one[1][n] - g).max() / np.abs(g).max()) for n, g in other[1].items())


@pytest.mark.parametrize("shards", [2, 3, BATCH])
@pytest.mark.parametrize("name", NETS)
def test_any_number_of_shards_is_like_one(build: Build, name: str, shards: int) -> None:
    """Loss, gradients and running statistics, with shards of unequal size and of a single sample."""
    model, trainable, x = net(name)
    expected, found = (steps(build(model, trainable, batch=BATCH, shards=n), x) for n in (1, shards))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert apart(found, expected) < 1e-4
    assert found[2].keys() == expected[2].keys() != set()
    for key, value in expected[2].items():
        np.testing.assert_allclose(found[2][key], value, rtol=1e-5, err_msg=key)


def test_shares_of_their_own_differ(build: Build) -> None:
    """Or the test above could not fail."""
    model, trainable, x = net("images")
    whole, parts = (
        steps(build(model, trainable, batch=BATCH, shards=2, statistics=which), x)
        for which in ("batch", "shard")
    )
    assert apart(parts, whole) > 0.05


def test_repeated_steps_have_the_same_bits(build: Build) -> None:
    model, trainable, x = net("images")
    first, second = (steps(build(model, trainable, batch=BATCH, shards=3), x, 10) for _ in range(2))
    assert first[0] == second[0]
    assert apart(first, second) == 0.0


def test_a_channel_without_variance(build: Build) -> None:
    """All samples equal: what is left under the root is epsilon."""
    model, trainable, _ = net("first layer")
    x = np.full((BATCH, 4), 1.5, np.float32)
    expected, found = (steps(build(model, trainable, batch=BATCH, shards=n), x) for n in (1, 3))
    np.testing.assert_allclose(found[1]["shift"], expected[1]["shift"], rtol=1e-5)
    for key, value in expected[2].items():
        np.testing.assert_allclose(found[2][key], value, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_nobody_waits_for_a_thread_that_failed(
    build: Build, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    model, trainable, x = net("images")
    session = build(model, trainable, batch=BATCH, shards=3)
    before = steps(session, x, 1)
    run = Shard.run

    def broken(self: Shard, *arguments: Any) -> float:
        if self._number == failing:
            raise DataError("no")
        return run(self, *arguments)

    monkeypatch.setattr(Shard, "run", broken)
    result: list[BaseException] = []

    def step() -> None:
        try:
            steps(session, x, 1)
        except DataError as error:
            result.append(error)

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert str(result[0]) == "no"
    monkeypatch.undo()
    after = steps(session, x, 1)
    assert apart(after, before) == 0.0


def test_shards_of_unequal_size_compute_in_the_same_order(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the larger one of them would gain by blocks and the smaller one would not."""
    if not ort_blocked.block_size():
        pytest.skip("this processor has no blocked layout")
    monkeypatch.setattr(ort_blocked, "_WORTH_BLOCKING", 4 * 36)
    norm = f"{NORM}(a, scale, shift, mean, var)"
    model = model_from(
        f"(float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y) {{ a = Conv<pads=[1,1,1,1]>(x, w) y = {norm} }}",
        {
            "w": normal(16, 16, 3, 3),
            **{name: np.ones(16, np.float32) for name in ("scale", "shift", "mean", "var")},
        },
    )
    x = normal(BATCH, 16, 6, 6, seed=3)
    expected, found = (steps(build(model, ("w", "scale", "shift"), batch=BATCH, shards=n), x) for n in (1, 2))
    assert apart(found, expected) < 1e-4


def test_threads_at_different_places_are_noticed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    places = iter(range(1000))
    monkeypatch.setattr(ort_statistics.zlib, "crc32", lambda content: next(places))
    model, trainable, x = net("images")
    session = build(model, trainable, batch=BATCH, shards=2)  # of 4 and 3 samples: two graphs, other numbers
    with pytest.raises(UnsupportedError, match="at different places of their graphs: train with --shards 1"):
        steps(session, x, 1)


def test_without_the_node_each_shard_has_its_own(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then shards are large, what was asked for and cannot be is refused, and one shard still can."""
    monkeypatch.setattr(module, "can_join", lambda: False)
    model, trainable, _ = net("images")

    def prepared(**spec: Any) -> Any:
        return prepare(model, TrainingSpec(trainable, "mse", BATCH, **spec), first())

    assert prepared().shards == 1
    assert not prepared(shards=2).joint
    assert prepared(shards=1, statistics="batch").shards == 1
    with pytest.raises(UnsupportedError, match=r"statistics of the whole batch here.*--statistics shard"):
        _ = prepared(shards=2, statistics="batch").shards


def test_the_node_is_tried_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ort_statistics.can_join()
    for place, attribute, other in (
        (probing, "run_once", wrong),
        (ort_statistics, "functions_are_ready", no),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(probing, "shared", Here)
            patch.setattr(place, attribute, other)
            ort_statistics.can_join.cache_clear()
            assert not ort_statistics.can_join()
    ort_statistics.can_join.cache_clear()


def wrong(content: bytes, feeds: object) -> list[Array]:
    """A node that loads and computes something else."""
    return [np.zeros(3, np.float32)] * 5


def no() -> bool:
    return False


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    channels=st.integers(1, 70),
    seed=st.integers(0, 2**16),
)
def test_meetings_of_all_sizes(sizes: list[int], channels: int, seed: int) -> None:
    """The combined moments are those of all rows, and all threads have the same bits."""
    from onnx_oto.runtime import meeting

    rng = np.random.default_rng(seed)
    rows = [rng.normal(rng.normal(), rng.uniform(0.1, 5), (size, channels)) for size in sizes]
    place = Meeting([size / sum(sizes) for size in sizes], channels)
    running = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    found: list[list[Array]] = [[np.zeros(channels, np.float32) for _ in range(5)] for _ in sizes]

    def work(index: int) -> None:
        own = rows[index]
        inverse = 1 / np.sqrt(own.var(axis=0) + 1e-3)
        inputs = (own.mean(axis=0).astype("f4"), inverse.astype("f4"), *running)
        words, number = (int(value) for value in place.member(index))
        constants = np.array([len(own), 1e-3, 0.9, 5.0])
        meeting._moments(words, number, constants, inputs, tuple(found[index]))

    for _ in range(3):
        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(sizes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    whole = np.concatenate(rows)
    np.testing.assert_allclose(found[0][2], whole.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0][3], 1 / np.sqrt(whole.var(axis=0) + 1e-3), rtol=1e-5)
    for other in found[1:]:
        np.testing.assert_array_equal(other[2], found[0][2])
        np.testing.assert_array_equal(other[3], found[0][3])
