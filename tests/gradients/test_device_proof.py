"""A device is trained on only if it computes what the CPU computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients import TrainingSpec, prepare
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.session import building, device_proof, resident
from onnx_oto.runtime.devices import Device, read_device

from .conftest import model_from, normal

NET = """(float[N, 2, 6, 6] x) => (float[N, 4] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1) r = Relu(a) f = Flatten(r) y = Gemm<transB=1>(f, w2, b2)
}"""
WEIGHTS = {
    "w1": normal(5, 2, 3, 3, seed=1),
    "b1": normal(5, seed=2),
    "w2": normal(4, 180, seed=3),
    "b2": normal(4, seed=4),
}


class Elsewhere(Device):
    """The CPU, taken for another device."""

    @property
    def is_cpu(self) -> bool:
        return False


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> TrainingSpec:
    monkeypatch.setattr("onnx_oto.runtime.devices.require_device", lambda device: None)
    return TrainingSpec(tuple(WEIGHTS), "cross-entropy", batch=8, device=Elsewhere("elsewhere"))


def test_a_device_that_computes_the_same_trains(spec: TrainingSpec) -> None:
    model = model_from(NET, WEIGHTS)
    x, labels = {"x": normal(8, 2, 6, 6, seed=9)}, np.arange(8) % 4
    there = prepare(model, spec, Plain(on_cpu=False)).build()
    here = prepare(model, replace(spec, device=Device(), shards=1), Plain(on_cpu=False)).build()
    assert there.shards == 1
    for _ in range(3):  # parameters change between steps, and a device has copies of them
        assert there.step(x, labels) == here.step(x, labels)
        np.testing.assert_array_equal(there.grads, here.grads)
        for session in (there, here):
            session.params -= 0.1 * session.grads
    with there.evaluating(10_000) as predict:
        np.testing.assert_allclose(predict(x), here.predict(x), rtol=0, atol=1e-5)


def test_a_device_that_computes_otherwise_is_refused(
    spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a provider had a kernel of Sign or Greater that is wrong: what it runs is another graph."""
    real = building.Shard

    def shard(content: bytes, *others: Any) -> object:
        if not others[-2].is_cpu:
            model = onnx.load_from_string(content)
            mask = next(node for node in model.graph.node if node.op_type == "Greater")
            mask.op_type = "GreaterOrEqual"
            content = model.SerializeToString()
        return real(content, *others)

    monkeypatch.setattr(building, "Shard", shard)
    with pytest.raises(
        UnsupportedError, match=r"'elsewhere': .* computes the gradient of 'w1' otherwise than"
    ):
        prepare(model_from(NET, WEIGHTS), spec, Plain(on_cpu=False)).build()


@pytest.mark.parametrize("wrong", ["gradient", "steps"])
def test_what_is_wrong_in_the_memory_of_a_device_stays_in_arrays(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session trains as if the device had no memory of its own, and says why."""

    def refuse(room: object) -> None:
        raise UnsupportedError("device 'x': a kernel of it is wrong")

    if wrong == "steps":
        monkeypatch.setattr(device_proof, "require_exact", refuse)
    else:
        real = resident.Resident._bind
        monkeypatch.setattr(
            resident.Resident,
            "_bind",
            lambda self, bind, names, buffer, slices: real(
                self, bind, names, buffer, {name: (0, shape) for name, (_, shape) in slices.items()}
            ),
        )
    model = model_from(NET, WEIGHTS)
    spec = TrainingSpec(tuple(WEIGHTS), "cross-entropy", batch=8, device=read_device("CPUExecutionProvider"))
    session = prepare(model, spec, Plain(on_cpu=False)).build()
    assert isinstance(session.params, np.ndarray)
    assert session.hindrance is not None
    assert "a kernel of it is wrong" in session.hindrance
    assert wrong == "steps" or "otherwise than the CPU" in session.hindrance
    here = prepare(model, replace(spec, device=Device(), shards=1), Plain(on_cpu=False)).build()
    x, labels = {"x": normal(8, 2, 6, 6, seed=9)}, np.arange(8) % 4
    assert session.step(x, labels) == here.step(x, labels)
    assert here.hindrance is None
