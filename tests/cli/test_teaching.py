"""Training without targets, and with a teacher, as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import tomllib
from onnx import TensorProto, helper, numpy_helper

from tests.cli.warm import cold, run

SHORT = ("--epochs", 3, "--batch", 24, "--sparsity", 0.3, "--shards", 1, "--skip-latency")
HEAD = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,8,8] image) => ({outputs}) {{
    a = Conv<pads = [1,1,1,1]>(image, w1, b1)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1], strides = [2,2]>(b, w2, b2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    logits = Gemm<transB = 1>(f, w3, b3)
    {tail}
}}
"""
SHAPES = {"w1": (8, 1, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,), "w3": (3, 12), "b3": (3,)}


@pytest.fixture
def net(models, write):
    """Return a function that writes a network with another tail."""

    def make(outputs="float[N,3] logits", tail="", name="net.onnx", **shapes):
        return write(models(HEAD.format(outputs=outputs, tail=tail), {**SHAPES, **shapes}), name)

    return make


@pytest.fixture
def unlabelled(tmp_path, data_arrays):
    path = tmp_path / "images.npz"
    np.savez(path, **data_arrays(y_train=None, y_test=None))
    return path


def result_of(run):
    return json.loads((run / "result.json").read_text())


def test_data_without_targets_teach_by_the_model_itself(cli, model, unlabelled, tmp_path):
    run = tmp_path / "run"
    done = cli("train", model, "--data", unlabelled, "--run", run, *SHORT, "--lr", 0.02)
    assert done.returncode == 0, done.stderr
    assert (
        "the data hold no targets (y_train, y_test): the model learns from itself as it was brought"
        in done.stderr
    )
    assert (
        "teacher: the model as it was brought, in inference form; compared at temperature 2: 'logits' [3] as "
        in (done.stderr)
    )
    assert "the model as it was brought: test agreement 1.0000, loss 0.0000 on 48 samples" in done.stderr
    table = next(line for line in done.stdout.splitlines() if line.startswith("test agreement"))
    assert table.split()[2] == "1.0000"
    metric = result_of(run)["metric"]
    assert (metric["name"], metric["original"]) == ("agreement", 1.0)
    assert 0.5 < metric["full"] <= 1 and metric["full"] == metric["compact"]  # noqa: PT018
    assert not list(run.glob("teacher-*.npy")), "what the teacher said is gone with the run"


def test_it_repeats_from_its_own_settings(cli, model, unlabelled, tmp_path):
    """Augmented, so the teacher sees every batch; the scales that were measured stand in run.toml."""
    first, again = tmp_path / "first", tmp_path / "again"
    more = ("--teacher-match", "values", "--flip", "--seed", 5, "--lr", 0.001)
    done = cold("train", model, "--data", unlabelled, "--run", first, *SHORT, *more)
    assert done.returncode == 0, done.stderr
    settings = tomllib.loads((first / "run.toml").read_text())["train"]
    assert len(settings["teacher-scale"]) == 1
    assert settings["teacher-scale"][0] > 0
    done = cli("train", "--config", first / "run.toml", "--run", again)
    assert done.returncode == 0, done.stderr
    for name in ("trained.onnx", "compact.onnx"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_a_teacher_beside_labels(cli, model, data, tmp_path):
    run = tmp_path / "run"
    done = cli(
        "train", model, "--data", data, "--run", run, *SHORT, "--teacher", "self", "--teacher-weight", 0.25
    )
    assert done.returncode == 0, done.stderr
    assert "0.25 of the loss beside cross-entropy" in done.stderr
    assert result_of(run)["metric"]["name"] == "accuracy"


def test_labels_are_the_task_unless_a_teacher_is_asked_for(cli, model, data, tmp_path):
    done = cli("train", model, "--data", data, "--run", tmp_path / "run", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "teacher" not in done.stderr
    assert "the model as it was brought: test accuracy" in done.stderr
    metric = result_of(tmp_path / "run")["metric"]
    assert metric["name"] == "accuracy"
    assert 0 <= metric["original"] <= 1


def test_another_model_teaches(cli, net, unlabelled, tmp_path):
    """A wider one, whose input and output have other names and which ends in Softmax."""
    teacher = onnx.load(
        net("float[N,3] chances", "chances = Softmax(logits)", "teacher.onnx", w1=(8, 1, 3, 3))
    )
    for tensor in teacher.graph.initializer:
        if tensor.name == "w3":
            tensor.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(tensor), "w3"))
    for node in teacher.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    teacher.graph.input[0].name = "pixels"
    onnx.save(teacher, tmp_path / "teacher.onnx")
    run = tmp_path / "run"
    more = ("--teacher", tmp_path / "teacher.onnx", "--lr", 0.05, "--epochs", 12)
    done = cli("train", net(), "--data", unlabelled, "--run", run, *SHORT, *more)
    assert done.returncode == 0, done.stderr
    metric = result_of(run)["metric"]
    assert metric["original"] <= metric["full"] == metric["compact"]
    assert tomllib.loads((run / "run.toml").read_text())["train"]["teacher"].endswith("teacher.onnx")


def test_a_teacher_that_does_not_fit_is_refused_with_both_shapes(
    refused, net, models, write, unlabelled, tmp_path
):
    other = net("float[N,4] logits", "", "four.onnx", w3=(4, 12), b3=(4,))
    said = ("--data", unlabelled, "--run", tmp_path / "run", "--teacher")
    line = refused(2, "train", net(), *said, other)
    assert "four.onnx' gives 'logits' [2, 4] float32 for 2 samples, the model 'logits' [2, 3]" in line
    two = net("float[N,3] p, float[N,3] q", "p = Softmax(logits) q = Tanh(logits)", "two.onnx")
    three = models(HEAD.format(outputs="float[N,3] z", tail="z = Neg(logits)"), SHAPES)
    three.graph.node[-2].output[0] = three.graph.node[-1].input[0] = "inner"
    line = refused(2, "train", write(three, "three.onnx"), *said, two)
    assert "two.onnx' has no tensor 'z', its outputs are 'p' [N, 3], 'q' [N, 3]" in line
    text = HEAD.format(outputs="float[N,3] logits", tail="").replace("image)", "image, float[N,3] more)", 1)
    line = refused(2, "train", net(), *said, write(models(text, SHAPES), "inputs.onnx"))
    assert "inputs.onnx' reads input 'more', the model reads image" in line
    assert not (tmp_path / "run").exists()
    line = refused(8, "train", net(), *said, tmp_path / "nothing.onnx")
    assert "teacher: cannot read" in line
    assert "nothing.onnx" in line


def test_what_the_data_cannot_give_is_left_out_and_said(cli, net, unlabelled, tmp_path):
    done = cli("train", net(), "--data", unlabelled, "--run", tmp_path / "run", *SHORT, "--teacher", "self")
    assert done.returncode == 0, done.stderr
    assert (
        "hold no targets (y_train, y_test): cross-entropy is left out, only the teacher is learned"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (
            ("--teacher-tensor", "logitz"),
            2,
            "the model has no tensor 'logitz' to compare; did you mean 'logits'",
        ),
        (
            ("--teacher-tensor", "logits:much"),
            2,
            "teacher-tensor is 'logits:much': write NAME or NAME:WEIGHT",
        ),
        (("--teacher-tensor", "logits", "--teacher-tensor", "logits:2"), 2, "'logits' is given twice"),
        (
            ("--teacher-tensor", "place"),
            2,
            "tensor 'place' cannot be compared: it holds no floats with a slope",
        ),
        (("--teacher", "none", "--loss", "distill"), 2, "the loss distill needs a teacher"),
        (("--teacher", "none", "--teacher-tensor", "logits"), 2, "teacher-tensor is for a teacher"),
        (("--teacher", "none"), 5, "'y_train' is missing: the loss needs a target"),
        (("--loss", "mse"), 5, "'y_train' is missing: the loss needs a target"),
        (("--teacher-scale", "1,2"), 2, "teacher-scale has 2 numbers, 1 tensors are compared"),
        (
            ("--loss", "distill:temperature=2", "--teacher-temperature", "3"),
            2,
            "the temperature is given twice",
        ),
        (("--loss", "output", "--teacher", "self"), 2, "'output' is one number for a batch"),
        (("--metric", "accuracy"), 2, "metric 'accuracy' cannot be computed for the loss 'distill'"),
    ],
)
def test_what_cannot_be_compared_is_refused(refused, net, unlabelled, tmp_path, given, code, message):
    both = net("float[N,3] logits, int64[N,1] place", "place = ArgMax<axis = 1>(logits)")
    assert message in refused(code, "train", both, "--data", unlabelled, "--run", tmp_path / "run", *given)
    assert not (tmp_path / "run").exists()


def test_only_places_come_out_and_what_they_come_from_is_taught(cli, net, unlabelled, tmp_path):
    """No output has a slope: the scores in front of ArgMax are compared."""
    run = tmp_path / "run"
    path = net("int64[N,1] place", "place = ArgMax<axis = 1>(logits)")
    done = cli("train", path, "--data", unlabelled, "--run", run, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "'logits' [3] as scores of 3 classes" in done.stderr
    assert result_of(run)["metric"]["original"] == 1.0
    compact = onnx.load(run / "compact.onnx")
    assert [value.name for value in compact.graph.output] == ["place"]


def test_a_model_without_any_slope_has_nothing_to_learn(refused, models, write, unlabelled, tmp_path):
    """What trains is behind the places: it is never reached by a slope from floats in front of the outputs."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,1,8,8] image) => (int64[N,1,1,8] y) { y = ArgMax<axis = 2>(image) }"""
    line = refused(4, "train", write(models(text, {})), "--data", unlabelled, "--run", tmp_path / "run",
                   "--optimizer", "dense")  # fmt: skip
    assert "parameters to train" in line
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,1,8,8] image) => (int64[M] y) {
        f = Flatten(image) r = Round(f) h = MatMul(r, w) k = Relu(h) s = ReduceSum<keepdims = 0>(k) n = Cast<to = 7>(s)
        u = Unsqueeze(n, z) t = ConstantOfShape(u) c = Cast<to = 7>(t) y = Identity(c)
    }"""
    built = models(text, {"w": (64, 8)})
    built.graph.initializer.append(helper.make_tensor("z", TensorProto.INT64, [1], [0]))
    line = refused(4, "train", write(built, "m.onnx"), "--data", unlabelled, "--run", tmp_path / "run",
                   "--optimizer", "dense")  # fmt: skip
    assert "nothing of the model can be taught" in line


def test_a_detector_learns_in_front_of_its_tail_and_keeps_it(cli, net, unlabelled, tmp_path):
    """Boxes and scores of 16 places, the best three of which come out."""
    tail = """
        raw = Conv(d, w4, b4) flat = Reshape(raw, shape) places = Transpose<perm = [0,2,1]>(flat)
        wide, tall = Split<axis = 2>(places, halves) boxes = Mul(wide, big) scores = Sigmoid(tall)
        joined = Concat<axis = 2>(boxes, scores)
        best = ReduceMax<axes = [2], keepdims = 0>(scores) top, which = TopK(best, three)
        rows = Unsqueeze(which, last) every = Expand(rows, width) chosen = GatherElements<axis = 1>(joined, every)
    """
    path = net("float[N,3,6] chosen, float[N,3] top", tail, "detector.onnx", w4=(6, 12, 1, 1), b4=(6,))
    built = onnx.load(path)
    constants = {"shape": [0, 6, 16], "halves": [4, 2], "three": [3], "last": [2], "width": [1, 1, 6]}
    for name, value in constants.items():
        built.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(value)], value))
    built.graph.initializer.append(helper.make_tensor("big", TensorProto.FLOAT, [], [300.0]))
    del built.graph.node[6]  # the classifier's head
    onnx.save(built, path)
    run = tmp_path / "run"
    done = cli("train", path, "--data", unlabelled, "--run", run, "--epochs", 8, "--batch", 24, "--sparsity", 0,
               "--macs", 0.7, "--min-keep", 0, "--shards", 1, "--lr", 0.02, "--skip-latency")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "'boxes' [16, 4] as numbers, 'scores' [16, 2] as numbers in front of the Sigmoid" in done.stderr
    found = result_of(run)
    assert found["metric"]["name"] == "relative-error"
    assert found["metric"]["original"] == 0.0
    assert found["metric"]["full"] == pytest.approx(found["metric"]["compact"], rel=1e-3)
    assert found["metric"]["full"] < 0.7
    compact = onnx.load(run / "compact.onnx")
    assert {"TopK", "GatherElements"} <= {node.op_type for node in compact.graph.node}


def test_an_inner_tensor_keeps_its_channels(cli, net, unlabelled, tmp_path):
    run = tmp_path / "run"
    more = ("--teacher-tensor", "logits", "--teacher-tensor", "d:0.5", "--round-to", 1)
    done = cli("train", net(), "--data", unlabelled, "--run", run, *SHORT, *more)
    assert done.returncode == 0, done.stderr
    assert "'d' [12, 4, 4] as numbers, weight 0.5" in done.stderr
    assert result_of(run)["metric"]["name"] == "agreement", "of the output, not of what is inside"
    assert "the channels of 'd' stay: the teacher's are compared with them" in done.stderr
    sizes = {t.name: tuple(t.dims) for t in onnx.load(run / "compact.onnx").graph.initializer}
    assert sizes["w2"][0] == 12
    assert sizes["w1"][0] < 8


def test_a_run_does_not_write_over_its_teacher(refused, net, unlabelled, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    teacher = net(name="run/compact.onnx")
    before = teacher.read_bytes()
    line = refused(2, "train", net(), "--data", unlabelled, "--run", run, "--teacher", teacher)
    assert "would overwrite the teacher: give another folder" in line
    assert teacher.read_bytes() == before


@pytest.mark.parametrize("name", ["self", "none"])
def test_a_file_may_have_the_name_of_a_choice(cli, refused, net, unlabelled, tmp_path, name):
    """The word means the choice, ./WORD the file; both stay what they are in run.toml."""
    line = refused(
        8, "train", net(), "--data", unlabelled, "--run", tmp_path / "run", "--teacher", f"./{name}"
    )
    assert f"'{name}'" in line


def test_inspect_has_no_teacher(refused, net, unlabelled):
    line = refused(2, "inspect", net(), "--curve", "--data", unlabelled, "--loss", "distill")
    assert "the loss distill needs a teacher: `train` has one" in line


KILL = """
import os, signal
import onnx_oto.training.loop as loop
before, calls = loop.evaluate, []
def leaving(*arguments, **options):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*arguments, **options)
loop.evaluate = leaving
from onnx_oto.cli import main
main()
"""


@pytest.mark.parametrize("more", [("--flip",), (), ("--teacher-match", "classes")], ids=" ".join)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(cli, net, unlabelled, tmp_path, more):
    """With a teacher that is asked for every batch, and with answers that were written down before."""
    path = net("float[N,3] y", "y = Tanh(logits)")
    asked = ["train", path, "--data", unlabelled, *SHORT, "--lr", 0.01, *more]
    assert cli(*asked, "--run", tmp_path / "whole").returncode == 0
    left = tmp_path / "left"
    done = run(*asked, "--run", left, code=KILL)
    assert done.returncode == -9
    kept = {path.name: path.stat().st_mtime_ns for path in left.glob("teacher-*.npy")}
    assert set(kept) == (
        {"teacher-test.npy"} if more == ("--flip",) else {"teacher-test.npy", "teacher-train.npy"}
    )
    done = cli("resume", left)
    assert done.returncode == 0, done.stderr
    for name in ("trained.onnx", "compact.onnx"):
        assert (tmp_path / "whole" / name).read_bytes() == (left / name).read_bytes()
    assert result_of(left)["metric"] == result_of(tmp_path / "whole")["metric"]
    assert not list(left.glob("teacher-*.npy"))
