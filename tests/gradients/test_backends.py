"""A backend is one entry: a second one trains through the whole pipeline, and nothing else knows of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.errors import RuntimeMissingError, UnsupportedError, UsageError
from onnx_oto.gradients import BACKENDS, TrainingSpec, backends, choose_backend, prepare
from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.graph.lowering import engine
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.devices import read_device

from .available import WORKING
from .conftest import gradient_of, model_from, normal
from .toy_backend import Toy

PERCEPTRON = """(float[N, 6] x) => (float[N, 2] y) {
    a = MatMul(x, w1) b = Add(a, b1) h = Relu(b) c = MatMul(h, w2) y = Add(c, b2)
}"""
WEIGHTS = {"w1": normal(6, 8), "b1": normal(8, seed=1), "w2": normal(8, 2, seed=2), "b2": normal(2, seed=3)}


def perceptron(body: str = PERCEPTRON) -> onnx.ModelProto:
    return model_from(body, WEIGHTS)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    monkeypatch.setitem(BACKENDS, "toy", Toy)
    monkeypatch.setattr(Toy, "built", 0)
    return Toy


def test_gradients_agree(toy: type[Toy]) -> None:
    spec = TrainingSpec(tuple(WEIGHTS), "mse", batch=5)
    sessions = [prepare(perceptron(), spec, backend()).build() for backend in (toy, *WORKING)]
    x, y = {"x": normal(5, 6, seed=4)}, normal(5, 2, seed=5)
    first, *others = [session.step(x, y) for session in sessions]
    assert others == pytest.approx([first] * len(others), rel=1e-6)
    for name in WEIGHTS:
        ours, *theirs = (gradient_of(session, name) for session in sessions)
        for each in theirs:
            np.testing.assert_allclose(ours, each, rtol=1e-5, atol=1e-6)
    for session in sessions:
        session.close()


def test_the_whole_pipeline_runs_on_it(toy: type[Toy], tmp_path: Path) -> None:
    """Training, pruning, cutting, verifying: the option names it, and nothing else does."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 6)).astype(np.float32)
    y = np.tanh(x @ rng.standard_normal((6, 2))).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:32], y_test=y[:32])
    onnx.save(perceptron(), tmp_path / "m.onnx")
    options = TrainOptions(loss="mse", backend="toy", epochs=12, batch=16, lr=0.02, sparsity=0.5)
    result = train(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "run", options)
    assert toy.built == 1
    assert result.gain is not None
    assert result.gain.summary.verdict.passed
    assert result.achieved == 0.5
    losses = [epoch.loss for epoch in result.history.epochs]
    assert losses[-1] < 0.7 * losses[0]


def test_what_it_does_not_cover_is_refused_with_its_reason(toy: type[Toy]) -> None:
    model = perceptron(PERCEPTRON.replace("h = Relu(b)", "h = Softmax(b)"))
    preparation = prepare(model, TrainingSpec(("w1",), "mse", batch=4), toy())
    assert [(each.op, each.advice) for each in preparation.refusals] == [
        ("Softmax", "the toy has no gradient of Softmax")
    ]
    with pytest.raises(UnsupportedError, match=r"training cannot handle .*Softmax"):
        preparation.build()


def test_choosing(toy: type[Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrtTraining, "why_not", lambda self: None)
    assert choose_backend().name == "ort-training"
    assert choose_backend("toy").name == "toy"
    with pytest.raises(UsageError, match="backend 'torch': choose one of auto, ort-training, plain, toy"):
        choose_backend("torch")
    monkeypatch.setattr(OrtTraining, "why_not", lambda self: "there is no runtime: install one")
    assert choose_backend().name == "plain"
    monkeypatch.setattr(Plain, "why_not", lambda self: "there is no runtime at all: install one")
    assert choose_backend().name == "toy"
    with pytest.raises(RuntimeMissingError, match="there is no runtime: install one"):
        choose_backend("ort-training")
    monkeypatch.delitem(backends.BACKENDS, "toy")
    with pytest.raises(RuntimeMissingError, match="there is no runtime at all: install one"):
        choose_backend()


def test_a_device_takes_the_backend_that_writes_for_every_provider() -> None:
    found = choose_backend(device=read_device("cuda"))
    assert isinstance(found, Plain)
    assert not found.on_cpu
    with pytest.raises(
        UsageError, match=r"'ort-training' writes gradients for kernels of the CPU, and .* 'cuda:1'"
    ):
        choose_backend("ort-training", read_device("cuda:1"))


def test_a_model_is_prepared_and_lowered_once(
    toy: type[Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the model to the first step: one light copy, one lowering, one gradient graph for both shards."""
    from onnx_oto.gradients import preparation
    from onnx_oto.gradients.graph import training_graph as training

    counts = {"detached": 0, "lower": 0}
    for module, name in ((preparation, "detached"), (training, "lower")):
        real = getattr(module, name)

        def counted(*arguments: object, _real: object = real, _name: str = name, **more: object) -> object:
            counts[_name] += 1
            return _real(*arguments, **more)  # type: ignore[operator]

        monkeypatch.setattr(module, name, counted)
    assert engine.lower is not training.lower
    x = normal(64, 6)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=x[:, :2], x_test=x, y_test=x[:, :2])
    onnx.save(perceptron(), tmp_path / "m.onnx")
    options = TrainOptions(loss="mse", backend="toy", epochs=1, batch=32, shards=2, lr=0.01)
    train(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "run", options)
    assert counts == {"detached": 1, "lower": 1}
    assert toy.built == 1


def test_other_sizes_make_only_what_they_touch(toy: type[Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the batch in twice the shards is the same graph; another batch, or other samples, are not."""
    from onnx_oto.gradients.graph import training_graph

    made: list[int] = []
    real = training_graph.lower

    def lower(model: onnx.ModelProto, *arguments: object, **more: object) -> object:
        made.append(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
        return real(model, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(training_graph, "lower", lower)
    body = PERCEPTRON.replace("float[N, 6] x", "float[N, S] x")
    spec = TrainingSpec(tuple(WEIGHTS), "mse", batch=4, shards=1, sample_shapes={"x": (6,)})
    first = prepare(perceptron(body), spec, toy())
    assert first.refusals == ()
    assert first.targets["y"].shape == (4, 2)
    double = first.respecified(batch=8, shards=2)
    assert double.targets["y"].shape == (8, 2)
    assert made == [4]
    session = double.build()
    assert session.step({"x": normal(8, 6)}, normal(8, 2)) > 0
    session.close()
    assert made == [4]
    assert first.respecified(batch=6).targets["y"].shape == (6, 2)
    assert made == [4, 6]
    assert first.feeds[0].shape == (6,)
    with pytest.raises(UsageError, match="sample shape given for 'z': the model has no such input"):
        first.respecified(sample_shapes={"z": (6,)})
