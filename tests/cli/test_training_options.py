"""Augmentation, weights, averages and loaders as a user asks for them; what makes no sense ends in one line."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

SHORT = ("--epochs", "2", "--batch", "16", "--shards", "1", "--skip-latency")
EVERY = (
    *("--flip", "--crop", "1", "--zoom", "0.6", "--cutout", "3", "--brightness", "0.3", "--contrast", "0.3"),
    *("--mixup", "0.2", "--class-weights", "1,2,1.5", "--ema", "0.9"),
)


@pytest.fixture(scope="session")
def weighted(data_arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weighted") / "weighted.npz"
    np.savez(path, **data_arrays(w_train=np.linspace(0, 2, 96)))
    return path


def test_everything_at_once_is_said_and_repeats_on_any_number_of_loaders(cli, model, weighted, tmp_path):
    for run, loaders in (("a", 1), ("b", 3)):
        done = cli(
            *(
                "train",
                model,
                "--data",
                weighted,
                "--run",
                tmp_path / run,
                *SHORT,
                *EVERY,
                "--loaders",
                loaders,
            )
        )
        assert done.returncode == 0, done.stderr
    assert (
        "augmentation, random flip left to right, random shift by up to 1 pixels, random parts of 0.6 to all of the "
        "area, enlarged, brightness changed by up to 0.3, contrast changed by up to 0.3 and a random square of 3 "
        "pixels blanked: changes x_train; zeros move in; y_train is left as it is"
    ) in done.stderr
    assert "w_train: what samples count for in the loss" in done.stderr
    assert "mixup: pairs of samples are mixed with their labels" in done.stderr
    assert "kept is the moving average of the last step" in done.stderr
    for name in ("trained.onnx", "compact.onnx"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    stored = json.loads((tmp_path / "a/result.json").read_text())
    assert stored["kept"]["averaged"] is True
    assert stored["options"]["class_weights"] == [1.0, 2.0, 1.5]
    again = cli("train", "--config", tmp_path / "a/run.toml", "--run", tmp_path / "c")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "c/compact.onnx").read_bytes() == (tmp_path / "a/compact.onnx").read_bytes()


def test_the_best_epoch_by_what_was_set_apart_is_kept(cli, model, weighted, tmp_path):
    """A share of the training samples, with what they count for; training ends when nothing becomes better."""
    done = cli(
        *(
            "train",
            model,
            "--data",
            weighted,
            "--run",
            tmp_path / "run",
            "--epochs",
            40,
            "--batch",
            16,
            "--lr",
            "0.01",
        ),
        *(
            "--shards",
            1,
            "--skip-latency",
            "--val-share",
            0.25,
            "--patience",
            3,
            "--class-weights",
            "balanced",
        ),
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert {line["split"] for line in epochs} == {"val"}
    kept = json.loads((tmp_path / "run/result.json").read_text())["kept"]
    assert kept["split"] == "val"
    assert kept["epoch"] == [line["epoch"] for line in epochs if line["best"]][-1]
    assert kept["early"] == (len(epochs) < 40)
    assert (
        f"kept are the parameters of epoch {kept['epoch']}, the best: val accuracy {kept['value']:.4f}"
        in done.stderr
    )
    assert "val accuracy" in done.stderr
    assert "test accuracy" in done.stdout


def test_balanced_weights_are_said(cli, model, data_arrays, tmp_path):
    few = np.array([0] * 64 + [1] * 16 + [2] * 16)
    np.savez(tmp_path / "few.npz", **data_arrays(y_train=few))
    done = cli(
        *("train", model, "--data", tmp_path / "few.npz", "--run", tmp_path / "run", *SHORT),
        *("--class-weights", "balanced"),
    )
    assert done.returncode == 0, done.stderr
    assert "class weights: 0.5, 2, 2" in done.stderr


@pytest.mark.parametrize(
    ("code", "options", "says"),
    [
        (
            5,
            ["--saturation", "0.2"],
            "saturation: x_train [8, 8] has 1, it is for images of 3 channels: leave it out",
        ),
        (5, ["--cutout", "8"], "cutout 8: x_train is 8 by 8 pixels: blank less"),
        (2, ["--zoom", "0"], "zoom is 0.0: give a share above 0 and up to 1"),
        (2, ["--class-weights", "1,2"], "class-weights has 2 numbers, the model has 3 classes"),
        (
            2,
            ["--class-weights", "evenly"],
            "class-weights is 'evenly': give a number, or several such as 1,2,3 or bal",
        ),
        (2, ["--patience", "3"], "patience is for validation data"),
        (2, ["--pad-value", "0"], "pad-value: no input reads sequences of integers or of an open length"),
        (2, ["--ema", "1"], "ema is 1.0: give a number above 0 and below 1"),
        (2, ["--loaders", "0"], "loaders is 0: give at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_line(refused, model, data, tmp_path, code, options, says):
    line = refused(code, "train", model, "--data", data, "--run", tmp_path / "run", *SHORT, *options)
    assert says in line
    assert not (tmp_path / "run").exists()


def test_weights_for_a_loss_that_is_one_number_are_refused(refused, tmp_path, weighted):
    """The model's own loss cannot tell which sample is which."""
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["o"]),
        helper.make_node("ReduceMean", ["o"], ["loss"], keepdims=0),
    ]
    rng = np.random.default_rng(0)
    arrays = {
        "flat": np.array([0, -1]),
        "w": rng.standard_normal((64, 16)).astype(np.float32),
        "v": rng.standard_normal((16, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "own.onnx",
    )
    line = refused(
        2, "train", tmp_path / "own.onnx", "--data", weighted, "--run", tmp_path / "run", "--loss", "output"
    )
    assert "the loss 'output' is one number for all samples or reads other targets" in line
