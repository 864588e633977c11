"""Losses and metrics through whole runs: one function in training and evaluation, a new one is one entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.data import Input, open_data
from onnx_oto.errors import DataError, UsageError
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.losses import LOSSES, Judged
from onnx_oto.metrics import METRICS
from onnx_oto.optim import Dense
from onnx_oto.optim.directions import Sgd
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.training import Recipe
from onnx_oto.training import train as run_loop
from tests.losses.toys import Both, Distilled

SHORT = {"epochs": 20, "batch": 16, "lr": 0.05, "sparsity": 0.3}
STILL = {"epochs": 1, "batch": 96, "lr": 1e-9, "sparsity": 0.0, "optimizer": "dense", "weight_decay": 0.0}
HEAD = '<ir_version: 8, opset_import: ["": 17]> g '
BODY = "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) z = MatMul(d, w3)"


def saved(path: Path, text: str, **shapes: tuple[int, ...]) -> Path:
    model = parser.parse_model(HEAD + text)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (6, 10), "w2": (10, 7), "w3": (7, 3), **shapes}.items():
        if name in text:
            array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


def with_targets(data: Path, change) -> Path:
    """Return a copy of the data, the training samples in both splits, with other targets."""
    arrays = dict(np.load(data))
    x, y = arrays["x_train"], change(arrays["y_train"])
    np.savez(data.with_name("other.npz"), x_train=x, y_train=y, x_test=x, y_test=y)
    return data.with_name("other.npz")


@pytest.mark.parametrize(
    ("loss", "tail", "change"),
    [
        ("cross-entropy", "y = Identity(z)", lambda y: y),
        ("cross-entropy", "y = Softmax(z)", lambda y: y),
        ("cross-entropy", "y = LogSoftmax(z)", lambda y: y),
        ("cross-entropy:smoothing=0.2", "p = Softmax(z) y = Identity(p)", lambda y: y),
        ("cross-entropy", "y = Softmax(z)", lambda y: np.where(np.arange(96) % 5, y, -100)),
        ("bce-with-logits", "y = Sigmoid(z)", lambda y: np.eye(3, dtype=np.float32)[y]),
        ("mse", "y = Softmax(z)", lambda y: np.eye(3, dtype=np.float32)[y]),
        ("smooth-l1:beta=0.1", "y = Sigmoid(z)", lambda y: np.eye(3, dtype=np.float32)[y]),
    ],
)
def test_training_and_test_loss_are_one_function(data, tmp_path, loss, tail, change):
    """The same samples and a step that changes nothing: the numbers agree, in the session and in a stock runtime."""
    model = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} {tail} }}")
    result = train(model, with_targets(data, change), tmp_path / "run", TrainOptions(loss=loss, **STILL))
    (epoch,) = result.history.epochs
    assert epoch.test_loss == pytest.approx(epoch.loss, rel=1e-5)
    assert [score.loss for score in result.gain.scores] == pytest.approx([epoch.loss] * 2, rel=1e-5)


@pytest.mark.parametrize("shards", [1, 4])
def test_tokens_have_their_classes_on_the_last_axis(tmp_path, shards):
    """[N, L, K] with labels [N, L], some of them ignored: nobody has to say where the classes are."""
    model = saved(
        tmp_path / "m.onnx", f"(float[N,L,6] x) => (float[N,L,3] y) {{ {BODY} y = Softmax<axis=2>(z) }}"
    )
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 5, 6)).astype(np.float32)
    y = np.abs(x[..., :3]).argmax(axis=-1)
    y[rng.random(y.shape) < 0.3] = -100
    np.savez(tmp_path / "tokens.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    options = TrainOptions(
        **{**SHORT, "epochs": 60, "lr": 0.1},
        round_to=1,
        shards=shards,
        metric=("token-accuracy", "perplexity", "loss"),
    )
    result = train(model, tmp_path / "tokens.npz", tmp_path / "run", options)
    full, small = result.gain.scores
    assert full.value == small.value > 0.6
    assert full.further["perplexity"] == pytest.approx(np.exp(full.loss), rel=1e-6)
    losses = [epoch.loss for epoch in result.history.epochs]
    assert losses[-1] < 0.8 * losses[0]


def test_metrics_are_reported_under_their_names(model, data, tmp_path):
    options = TrainOptions(**SHORT, metric=("f1", "top-1"))
    result = train(model, data, tmp_path / "run", options)
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    full, small = result.gain.scores
    first = result.gain.original
    assert written["metric"] == {
        "name": "f1", "original": first.value, "full": full.value, "compact": small.value
    }  # fmt: skip
    assert written["metrics"] == [
        {"name": "accuracy", **{who: score.further["accuracy"] for who, score in
            (("original", first), ("full", full), ("compact", small))}}
    ]  # fmt: skip
    assert first.value < full.value
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["metric"] == "f1"
    assert line["further"]["accuracy"] == pytest.approx(full.further["accuracy"], rel=1e-5)


def test_an_ignored_label_is_asked_for(model, data, tmp_path):
    masked = with_targets(data, lambda y: np.where(np.arange(96) % 4, y, 255).astype(np.uint8))
    with pytest.raises(DataError, match=r"y_train\[0\] is 255: labels are 0 to 2.*--ignore-label 255"):
        train(model, masked, tmp_path / "run", TrainOptions(**SHORT))
    result = train(model, masked, tmp_path / "run", TrainOptions(**SHORT, ignore_label=255))
    assert result.gain.scores[0].value > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss is 'hinge': choose one of"),
        ({"loss": "mse", "ignore_label": 255}, "loss 'mse' has no option 'ignore'"),
        (
            {"loss": "cross-entropy:ignore=1", "ignore_label": 2},
            "is given twice, as 1 and as 2: leave one out",
        ),
        (
            {"loss": "mse", "metric": ("accuracy",)},
            "metric 'accuracy' cannot be computed for the loss 'mse'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


def test_a_metric_that_cannot_be_computed_is_refused_before_the_first_step(model, tmp_path):
    x = np.zeros((40, 6), np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=x[:, :3], x_test=x, y_test=x[:, :3])
    options = TrainOptions(loss="mse", metric=("ssim",), batch=16)
    with pytest.raises(DataError, match=r"ssim: images have shape \[3\]"):
        train(model, tmp_path / "data.npz", tmp_path / "run", options)
    assert not (tmp_path / "run" / "run.toml").exists(), "no run has begun"


def test_a_new_loss_is_one_entry(data, tmp_path, monkeypatch):
    """A loss that reads two outputs, known to nothing but the registry, through a whole run."""
    monkeypatch.setitem(LOSSES, "both", Both)
    tail = "y = Identity(z) aux = MatMul(b, w4)"
    text = f"(float[N,6] x) => (float[N,3] y, float[N,3] aux, float[N,7] d) {{ {BODY} {tail} }}"
    model = saved(tmp_path / "m.onnx", text, w4=(10, 3))
    hot = with_targets(data, lambda y: np.eye(3, dtype=np.float32)[y])
    options = TrainOptions(
        **{**SHORT, "epochs": 60, "lr": 0.02, "sparsity": 0.1}, loss="both:share=0.25", metric=("r2", "loss")
    )
    result = train(model, hot, tmp_path / "run", options)
    losses = [epoch.loss for epoch in result.history.epochs]
    assert losses[-1] < 0.5 * losses[0]
    full, small = result.gain.scores
    assert full.metric == "r2"
    assert full.value == pytest.approx(small.value, rel=1e-4)
    assert full.value > 0.3


def test_a_teacher_provides_the_target(data, tmp_path):
    """The target "teacher" is not in the data: what provides it sees every batch as the model does."""
    path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} y = Softmax(z) }}")
    dataset = open_data(data).fit({"x": Input((6,), np.dtype(np.float32))}, {})
    matrix = np.random.default_rng(5).standard_normal((6, 3)).astype(np.float32) * 2
    spec = TrainingSpec(("w1", "w2", "w3"), Distilled(), batch=16, shards=2)
    session = prepare(onnx.load(path), spec, choose_backend()).build()
    providers = (lambda batch: {"teacher": batch.inputs["x"] @ matrix},)
    recipe = Recipe(30, 16, lambda step: 0.2, Distilled(), providers=providers)
    history = run_loop(session, Dense(Sgd(), session.params.size), dataset, recipe)
    (x,) = (dataset.test.inputs["x"].take(slice(None)),)
    agreed = (session.predict({"x": x}).argmax(axis=1) == (x @ matrix).argmax(axis=1)).mean()
    session.close()
    assert history.epochs[-1].test_loss < history.epochs[0].test_loss
    assert agreed > 0.8


@dataclass(frozen=True)
class Worst:
    """A metric as a stranger would write it: the largest loss of a sample."""

    name: ClassVar[str] = "worst"
    text: ClassVar[str] = "largest loss of a sample"
    better: ClassVar[str] = "lower"
    point: ClassVar[float | None] = None
    compares: ClassVar[tuple[str, ...]] = ("classes", "binary", "values", "nothing")

    def start(self) -> WorstTally:
        return WorstTally()


class WorstTally:
    value = float("nan")

    def add(self, batch: Judged) -> None:
        self.value = float(np.fmax(self.value, batch.losses.max()))

    def join(self, other: WorstTally) -> None:
        self.value = float(np.fmax(self.value, other.value))


def test_a_new_metric_is_one_entry(model, data, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "worst", Worst)
    result = train(model, data, tmp_path / "run", TrainOptions(**SHORT, metric=("worst", "loss")))
    full, small = result.gain.scores
    assert full.metric == "worst"
    assert full.value > full.loss
    assert full.value == pytest.approx(small.value, rel=1e-4)
