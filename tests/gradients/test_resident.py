"""What stays on a device is what arrays of numpy would be; the device is the runtime's own provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients import GradientSession, TrainingSpec, prepare
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.session.shards import Shard, ShardedSession
from onnx_oto.model.normal.origins import Tie
from onnx_oto.optim import Dense, Sgd
from onnx_oto.runtime.devices import Device, read_device
from onnx_oto.runtime.resident import Room, Vector
from onnx_oto.training.guard import Guard
from onnx_oto.training.selection import Average
from onnx_oto.training.transforms import ClipNorm, Mean

from .conftest import model_from, normal

NET = """(float[N, 2, 6, 6] x) => (float[N, 4] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1) n = BatchNormalization<momentum=0.8>(a, scale, shift, mean, var)
    r = Relu(n) f = Flatten(r) d = Dropout(f, ratio) h = MatMul(d, fixed) y = Gemm<transB=1>(h, w2, b2)
}"""
WEIGHTS = {
    "w1": normal(5, 2, 3, 3, seed=1),
    "b1": normal(5, seed=2),
    "scale": np.ones(5, np.float32),
    "shift": normal(5, seed=3),
    "mean": np.zeros(5, np.float32),
    "var": np.ones(5, np.float32),
    "ratio": np.array(0.3, np.float32),
    "fixed": normal(180, 30, seed=6) / 10,  # frozen, and large enough to be bound
    "w2": normal(4, 30, seed=4),
    "b2": normal(4, seed=5),
    "unread": normal(3, seed=7),
}
TRAINED = ("w1", "b1", "scale", "shift", "w2", "b2")
X, LABELS = normal(8, 2, 6, 6, seed=9), np.arange(8) % 4
THERE = read_device("CPUExecutionProvider")


class Elsewhere(Device):
    """The same provider, with arrays of numpy."""

    @property
    def is_cpu(self) -> bool:
        return False


@pytest.fixture
def pair() -> Iterator[tuple[ShardedSession, ShardedSession]]:
    made = [session(device) for device in (THERE, Elsewhere("elsewhere"))]
    yield made[0], made[1]
    for each in made:
        each.close()


def session(device: Device, text: str = NET, **fields: Any) -> ShardedSession:
    spec = TrainingSpec(TRAINED, "cross-entropy", batch=8, device=device, seed=3)
    made = prepare(model_from(text, WEIGHTS), replace(spec, **fields), Plain(on_cpu=False)).build()
    assert isinstance(made, ShardedSession)
    return made


def named(session: GradientSession, flat: np.ndarray) -> dict[str, np.ndarray]:
    array = np.asarray(flat)
    return {name: array[at : at + int(np.prod(s))].reshape(s) for name, (at, s) in session.slices.items()}


def require_same(there: ShardedSession, here: ShardedSession, **tolerance: float) -> None:
    for flat in ("params", "grads"):
        found, expected = (named(each, getattr(each, flat)) for each in (there, here))
        for name, value in expected.items():
            np.testing.assert_allclose(
                found[name], value, **{"rtol": 0, "atol": 0, **tolerance}, err_msg=name
            )
    for name, value in here.buffers.items():
        np.testing.assert_allclose(there.buffers[name], value, rtol=1e-6, atol=1e-7)


def room_of(session: ShardedSession) -> Room:
    params: Any = session.params
    assert isinstance(params, Vector)
    return params.room


def test_steps_are_the_same_bits(pair: tuple[ShardedSession, ShardedSession]) -> None:
    there, here = pair
    for _ in range(5):
        assert there.step({"x": X}, LABELS) == here.step({"x": X}, LABELS)
        for each in pair:
            each.params -= np.float32(0.1) * each.grads
        require_same(there, here)
    assert len(there.statistic_slices) == 2
    assert there.hindrance is here.hindrance is None


def test_what_is_evaluated_and_handed_back_is_what_was_trained(
    pair: tuple[ShardedSession, ShardedSession],
) -> None:
    for each in pair:
        each.step({"x": X}, LABELS)
        each.params -= np.float32(0.1) * each.grads
    there, here = pair
    np.testing.assert_allclose(there.predict({"x": X}), here.predict({"x": X}), atol=1e-6)
    for each in pair:
        np.copyto(each.statistics, each.statistics * 2)
        np.copyto(each.params, each.params * np.float32(0.5))
    with there.evaluating(10_000) as predict:
        np.testing.assert_allclose(predict({"x": X}), here.predict({"x": X}), atol=1e-5)
    for name, value in here.weights().items():
        np.testing.assert_array_equal(there.weights()[name], value)


def test_guard_mean_clipping_and_average_work_there(pair: tuple[ShardedSession, ShardedSession]) -> None:
    """Two steps of two batches, the second undone."""
    for each in pair:
        guard, average, mean = Guard(each), Average(each, 0.9), Mean(each.grads, 2)
        optimizer = Dense(Sgd(), each.params.size)
        for step in range(3):
            for number in range(2):
                loss = each.step({"x": X + number}, LABELS)
                mean.add(number)
            assert guard.fault(loss) is None
            if step == 2:
                guard.undo(rewind=True)
                break
            guard.accept()
            ClipNorm(0.5)(each.grads)
            optimizer.step(each.params, each.grads, 0.1)
            average.add()
        average.show()
    require_same(*pair, rtol=1e-6, atol=1e-7)
    assert pair[0].steps == pair[1].steps == 4


def test_a_gradient_that_is_not_finite_is_named(pair: tuple[ShardedSession, ShardedSession]) -> None:
    there, _ = pair
    guard = Guard(there)
    there.step({"x": X}, LABELS)
    broken = np.array(there.grads)
    broken[there.slices["shift"][0] + 1] = np.inf
    np.copyto(there.grads, broken)
    assert guard.fault(1.0) == "the gradient of 'shift' is not finite"


def test_a_step_sends_the_batch_and_numbers_only(pair: tuple[ShardedSession, ShardedSession]) -> None:
    there, _ = pair
    guard, optimizer, room = Guard(there), Dense(Sgd(), there.params.size), room_of(there)
    for step in range(6):
        sent, received, runs = room.sent, room.received, room.runs
        assert guard.fault(there.step({"x": X}, LABELS)) is None
        guard.accept()
        optimizer.step(there.params, there.grads, 0.1)
        if step > 1:  # the state of the direction goes there once
            assert room.sent - sent <= 16
            assert room.received - received == 4  # the norm
            assert room.runs - runs == 2
    assert there.params.nbytes == 4096


def test_what_does_not_reach_the_loss_has_gradient_zero_in_every_step() -> None:
    here = session(THERE, trainable=TRAINED[:-2], held=("unread", "w2"))
    assert here.still == {"unread", "w2"}
    for _ in range(3):
        here.step({"x": X}, LABELS)
        found = named(here, here.grads)
        assert found["w1"].any()
        assert not found["unread"].any()
        assert not found["w2"].any()
        np.copyto(here.grads, 5.0)
        here.params -= np.float32(1e-3) * here.grads
    here.close()


def test_gradients_of_copies_are_added_up_there() -> None:
    tie = Tie(("b1", "shift", "scale"), np.array([0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 0, 1, 1, 4]))
    there, here = (session(device, ties=(tie,)) for device in (THERE, Elsewhere("elsewhere")))
    for each in (there, here):
        each.step({"x": X}, LABELS)
    found, expected = named(there, there.grads), named(here, here.grads)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["scale"][[0, 1]], found["b1"][[0, 0]])
    there.close()
    here.close()


def test_a_step_that_fails_leaves_what_was_trained(
    pair: tuple[ShardedSession, ShardedSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = pair
    for each in pair:
        each.step({"x": X}, LABELS)
        each.params -= np.float32(0.1) * each.grads

    def fail(*args: Any) -> float:
        raise UnsupportedError("the memory does not hold a step")

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "run", fail)
        with pytest.raises(UnsupportedError):
            there.step({"x": X}, LABELS)
    for each in pair:
        each.step({"x": X}, LABELS)
    require_same(there, here)
