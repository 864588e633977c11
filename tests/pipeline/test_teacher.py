"""A teacher in whole runs: what it says is right, written down or not, and the same after a run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.data import Batch
from onnx_oto.errors import DataError, StorageError, UnsupportedError
from onnx_oto.losses import Blend, Distill, make
from onnx_oto.pipeline import answers
from onnx_oto.pipeline.folder import ANSWERS, claim
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.preparing import make_ready
from onnx_oto.pipeline.teacher import Teacher
from onnx_oto.pipeline.train import train

HEAD = '<ir_version: 8, opset_import: ["": 17]> g '
BODY = "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) z = MatMul(d, w3)"
SHORT = {"epochs": 3, "batch": 16, "lr": 0.02, "sparsity": 0.3, "shards": 2, "skip_latency": True}


def saved(path: Path, text: str, **shapes: tuple[int, ...]) -> Path:
    model = parser.parse_model(HEAD + text)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (6, 10), "w2": (10, 7), "w3": (7, 3), **shapes}.items():
        if name in text:
            array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


@pytest.fixture
def unlabelled(data):
    arrays = {key: value for key, value in np.load(data).items() if key.startswith("x")}
    np.savez(data.with_name("unlabelled.npz"), **arrays)
    return data.with_name("unlabelled.npz")


def ready_for(model, data, **options):
    return make_ready(model, data, TrainOptions(**{**SHORT, **options}), lambda text: None)


def by_numpy(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the scores of the small network in float64."""
    w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(path).graph.initializer}
    return np.maximum(np.maximum(x @ w["w1"], 0) @ w["w2"], 0) @ w["w3"]


def test_it_says_what_stands_in_front_of_the_softmax(unlabelled, tmp_path):
    path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} y = Softmax(z) }}")
    ready = ready_for(path, unlabelled)
    assert ready.aim.loss == Distill()
    batch = ready.dataset.train.batch(np.arange(5), None)
    assert set(batch.targets) == set()
    (said,) = ready.teacher(batch).values()
    np.testing.assert_allclose(said, by_numpy(path, batch.inputs["x"]), rtol=1e-4, atol=1e-5)


def test_two_tensors_that_are_read_as_one_are_two_copies(unlabelled, tmp_path):
    """The chances and the scores in front of them, both asked for: the loss reads the scores twice."""
    text = f"(float[N,6] x) => (float[N,3] y, float[N,3] z) {{ {BODY} y = Softmax(z) }}"
    path = saved(tmp_path / "m.onnx", text)
    ready = ready_for(path, unlabelled, teacher_tensor=("y", "z"))
    batch = ready.dataset.train.batch(np.arange(4), None)
    first, second = ready.teacher(batch).values()
    np.testing.assert_array_equal(first, second)
    assert train(path, unlabelled, tmp_path / "run", TrainOptions(**SHORT, teacher_tensor=("y", "z"))).gain


def test_the_task_and_the_teacher_share_an_output(model, data, tmp_path):
    ready = ready_for(model, data, teacher="self", teacher_weight=0.25)
    assert isinstance(ready.aim.loss, Blend)
    assert (ready.aim.outputs, ready.aim.loss.at, ready.aim.loss.weight) == (("y",), (0,), 0.25)
    assert ready.aim.loss.task == make("cross-entropy").settle([(16, 3)], {"y": ()})
    assert set(ready.dataset.train.batch(np.arange(2), None).targets) == {"y"}


def test_only_the_teacher_counts_at_weight_one(model, data, tmp_path):
    """Labels are there for the metric: without them the same weights come out."""
    options = {**SHORT, "teacher": "self", "teacher_weight": 1.0, "seed": 3}
    with_labels = train(model, data, tmp_path / "a", TrainOptions(**options))
    without = train(model, data, tmp_path / "b", TrainOptions(**{**options, "loss": "distill"}))
    one, other = (onnx.load(tmp_path / run / "trained.onnx") for run in ("a", "b"))
    for mine, theirs in zip(one.graph.initializer, other.graph.initializer, strict=True):
        np.testing.assert_allclose(
            numpy_helper.to_array(mine), numpy_helper.to_array(theirs), rtol=1e-3, atol=1e-4
        )
    assert (with_labels.gain.scores[0].metric, without.gain.scores[0].metric) == ("accuracy", "agreement")


def test_the_kind_follows_from_the_end_of_the_model(unlabelled, tmp_path):
    for tail, axis in (
        ("y = Add(z, z)", 1),
        ("y = Tanh(z)", None),
        ("y = LogSoftmax(z)", 1),
        ("n = ReduceL2<axes = [1]>(z) y = Div(z, n)", None),
    ):
        path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} {tail} }}")
        (match,) = ready_for(path, unlabelled).aim.loss.matches
        assert match.axis == axis, tail
        (match,) = ready_for(path, unlabelled, teacher_match="values").aim.loss.matches
        assert match.axis is None
        (match,) = ready_for(path, unlabelled, teacher_match="classes").aim.loss.matches
        assert match.axis == 1


def test_yes_or_no_is_compared_in_front_of_the_sigmoid(unlabelled, tmp_path):
    path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} y = Sigmoid(z) }}")
    x = np.load(unlabelled)["x_train"]
    batch = ready_for(path, unlabelled).dataset.train.batch(np.arange(len(x)), None)
    for kind, expected in (("auto", by_numpy(path, x)), ("values", 1 / (1 + np.exp(-by_numpy(path, x))))):
        (said,) = ready_for(path, unlabelled, teacher_match=kind).teacher(batch).values()
        np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-5)


def test_errors_are_in_units_of_the_teachers_variance(unlabelled, tmp_path):
    path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} y = Tanh(z) }}")
    (match,) = ready_for(path, unlabelled).aim.loss.matches
    x = np.load(unlabelled)["x_train"]
    assert match.scale == pytest.approx(np.tanh(by_numpy(path, x)).var(axis=0).mean(), rel=1e-4)
    (match,) = ready_for(path, unlabelled, teacher_scale=(2.5,)).aim.loss.matches
    assert match.scale == 2.5


def test_what_is_written_down_is_what_is_said(unlabelled, tmp_path, monkeypatch):
    """With and without the file of answers the same bits come out, and the file is gone at the end."""
    path = saved(tmp_path / "m.onnx", f"(float[N,6] x) => (float[N,3] y) {{ {BODY} y = Tanh(z) }}")
    asked = []
    plain = Teacher.say
    monkeypatch.setattr(
        Teacher, "say", lambda self, batch: asked.append(len(batch.rows)) or plain(self, batch)
    )
    train(path, unlabelled, tmp_path / "a", TrainOptions(**SHORT))
    written = sum(asked)
    asked.clear()
    monkeypatch.setattr(answers, "MOST_BYTES", 0)
    train(path, unlabelled, tmp_path / "b", TrainOptions(**SHORT))
    assert sum(asked) > written, "asked for every batch of every epoch"
    assert (tmp_path / "a" / "trained.onnx").read_bytes() == (tmp_path / "b" / "trained.onnx").read_bytes()
    for run in ("a", "b"):
        assert not any((tmp_path / run / name).exists() for name in ANSWERS.values())


def test_a_disk_that_takes_no_answers_costs_only_time(unlabelled, model, tmp_path, monkeypatch):
    def full(*arguments):
        raise StorageError("cannot write 'teacher-test.npy': No space left on device")

    monkeypatch.setattr(answers, "_fill", full)
    said = []
    result = train(model, unlabelled, tmp_path / "run", TrainOptions(**SHORT), say=said.append)
    assert result.gain is not None
    assert any("the teacher is asked for every batch: cannot write" in text for text in said)


def test_augmented_samples_are_asked_for_every_time(model, unlabelled, tmp_path):
    """What is drawn anew for every batch is never written down, whoever says that it is not augmented."""

    class Drawn:
        def __len__(self):
            return 20

        def batch(self, indices, rng):
            x = (
                np.zeros((len(indices), 6), np.float32)
                if rng is None
                else rng.random((len(indices), 6), np.float32)
            )
            return Batch({"x": x}, {}, indices)

    ready = ready_for(model, unlabelled)
    with claim(tmp_path / "run", verb="train") as folder:
        for name, augmented in (("train", False), ("test", True)):
            dataset = type(ready.dataset)(
                Drawn() if name == "train" else ready.dataset.train, ready.dataset.test
            )
            found = answers.answered(dataset, ready.teacher, folder, augmented=augmented, say=print)
            assert not isinstance(found.train, answers.Answered)
            assert isinstance(found.test, answers.Answered)


def test_a_sample_without_numbers_is_named(unlabelled, model):
    ready = ready_for(model, unlabelled)
    batch = ready.dataset.train.batch(np.array([4, 7]), None)
    batch.inputs["x"][1] = np.nan
    with pytest.raises(
        DataError, match=r"the teacher's 'y' is not finite for sample 7: leave the sample out"
    ):
        ready.teacher(batch)


def test_what_counts_no_samples_is_left_out_unless_it_was_asked_for(unlabelled, tmp_path):
    text = f"(float[N,6] x) => (float[N,3] z, float[1,3] m) {{ {BODY} m = ReduceMean<axes = [0]>(z) }}"
    path = saved(tmp_path / "m.onnx", text)
    assert ready_for(path, unlabelled).aim.outputs == ("z",)
    with pytest.raises(
        UnsupportedError, match=r"'m' has shape \[1, 3\] for 3 samples: only floats whose first axis"
    ):
        ready_for(path, unlabelled, teacher_tensor=("m",))


KILLED = """
import sys
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.pipeline import answers
import time
fill = answers._fill
def slowly(file, source, teacher, width):
    fill(file, source, teacher, width)
    file.flush()
    print("written", flush=True)
    time.sleep(60)
answers._fill = slowly
train(sys.argv[1], sys.argv[2], sys.argv[3], TrainOptions(epochs=1, batch=16, sparsity=0.3, skip_latency=True))
"""


def test_answers_are_whole_or_not_there(model, unlabelled, tmp_path):
    """Killed while it writes: what is left is no file of answers, and the next run is none the wiser."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, model, unlabelled, run],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert not any((run / name).exists() for name in ANSWERS.values())
    result = train(model, unlabelled, run, TrainOptions(**SHORT, overwrite=True))
    assert result.gain is not None
    assert not [path.name for path in run.iterdir() if "teacher" in path.name]


def test_damaged_answers_are_none(tmp_path):
    place = tmp_path / "answers.npy"
    np.save(place, np.zeros((4, 3), np.float32))
    good = place.read_bytes()
    assert answers._is_whole(place, (4, 3))
    for content in (good[:-1], good[:20], good.replace(b"'shape'", b"'\x0eshape")):
        place.write_bytes(content)
        assert not answers._is_whole(place, (4, 3))


def test_normal_form_keeps_the_names_that_are_asked_for(model):
    assert {"a", "b", "c", "d"} <= {
        name for node in open_model(model).model.graph.node for name in node.output
    }


def test_half_precision_teaches_in_its_own_types(unlabelled, tmp_path):
    """What came is judged and asked in float16, and trained in float32."""
    text = f"(float16[N,6] x) => (float16[N,3] y) {{ {BODY} y = Softmax(z) }}"
    model = parser.parse_model(HEAD + text)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (6, 10), "w2": (10, 7), "w3": (7, 3)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array((rng.standard_normal(shape) * 0.5).astype(np.float16), name)
        )
    onnx.save(model, tmp_path / "half.onnx")
    ready = ready_for(tmp_path / "half.onnx", unlabelled)
    batch = ready.dataset.train.batch(np.arange(5), None)
    (said,) = ready.teacher(batch).values()
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, by_numpy(tmp_path / "half.onnx", batch.inputs["x"]), atol=0.05)
    result = train(tmp_path / "half.onnx", unlabelled, tmp_path / "run", TrainOptions(**SHORT))
    assert result.gain.original.value == 1.0


def test_a_recurrent_model_whose_samples_are_behind_the_time(tmp_path):
    """The teacher is served as the model is: samples first."""
    text = """(float[T,B,4] x, float[1,B,5] h) => (float[T,B,3] y) {
        o, last = GRU<hidden_size = 5>(x, w, r, , , h) s = Squeeze(o, one) m = MatMul(s, v) y = Tanh(m) }"""
    model = parser.parse_model(HEAD + text)
    rng = np.random.default_rng(0)
    for name, shape in {"w": (1, 15, 4), "r": (1, 15, 5), "v": (5, 3)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    onnx.save(model, tmp_path / "gru.onnx")
    x = rng.standard_normal((24, 6, 4)).astype(np.float32)
    np.savez(tmp_path / "series.npz", x_train=x, x_test=x[:8])
    options = TrainOptions(**{**SHORT, "batch": 8}, batch_axis=("x:1", "h:1"), optimizer="dense")
    result = train(tmp_path / "gru.onnx", tmp_path / "series.npz", tmp_path / "run", options)
    assert result.gain.original.value < 1e-6
    assert result.gain.scores[0].value < 0.5
