"""One training run, from files to files, in this process."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import DataError, UsageError
from onnx_oto.pipeline.folder import MANIFEST
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare
from onnx_oto.training import Stepped

SHORT = {"epochs": 30, "batch": 16, "lr": 0.05}


class Watch:
    """Collects events."""

    def __init__(self) -> None:
        self.steps: list[Stepped] = []

    def notice(self, event) -> None:
        if isinstance(event, Stepped):
            self.steps.append(event)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("scope", ["global", "dimension"])
def test_the_target_is_met_exactly_and_the_compact_model_is_the_trained_one(
    model, data, tmp_path, sparsity, scope
):
    watch = Watch()
    options = TrainOptions(sparsity=sparsity, scope=scope, **SHORT)
    result = train(model, data, tmp_path / "run", options, observer=watch)
    wanted = round(sparsity * 17)
    assert result.gain.summary.removed == wanted
    assert result.achieved == wanted / 17
    assert watch.steps[-1].zeroed == (watch.steps[-1].target or 0) == wanted
    counts = [step.zeroed for step in watch.steps]
    assert counts == sorted(counts)
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert compare(trained, compact, seed=5).passed
    weights = {t.name: numpy_helper.to_array(t) for t in trained.graph.initializer}
    zeros = sum(not weights["w1"][:, k].any() and weights["b1"][k] == 0 for k in range(10))
    zeros += sum(not weights["w2"][:, k].any() and weights["b2"][k] == 0 for k in range(7))
    assert zeros == wanted
    full, small = result.gain.scores
    learned = 0.9 if sparsity < 0.6 else 0.5  # 7 of 17 hidden units cannot always tell three classes apart
    assert full.value == small.value > learned


def test_the_same_seed_gives_the_same_model(model, data, tmp_path):
    for name in ("a", "b"):
        train(model, data, tmp_path / name, TrainOptions(sparsity=0.4, shards=1, seed=3, **SHORT))
    assert (tmp_path / "a" / "compact.onnx").read_bytes() == (tmp_path / "b" / "compact.onnx").read_bytes()


def test_a_model_for_one_sample_is_trained_and_stays_one(one_sample_model, data, tmp_path):
    result = train(one_sample_model, data, tmp_path / "run", TrainOptions(sparsity=0.4, **SHORT))
    assert result.gain.summary.removed == 7
    full, small = result.gain.scores
    assert full.samples == 40
    assert full.value == small.value > 0.9
    compact = onnx.load(tmp_path / "run" / "compact.onnx")
    assert compact.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


GROUPED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) <int64[4] form = {0,6,1,1}, int64[2] flat = {0,-1}> {
    m = Reshape(x, form)
    a = Conv(m, w0)
    b = Relu(a)
    c = Conv<group=2>(b, w1)
    d = Reshape(c, flat)
    y = MatMul(d, w2)
}
"""


def test_channels_that_are_zero_before_training_do_not_stand_in_its_way(data, tmp_path):
    """Behind a grouped convolution they cannot all go: every group keeps as many channels as the others do."""
    model = parser.parse_model(GROUPED)
    rng = np.random.default_rng(0)
    for name, shape in {"w0": (8, 6, 1, 1), "w1": (8, 4, 1, 1), "w2": (8, 3)}.items():
        weight = (rng.standard_normal(shape) * 0.5).astype(np.float32)
        if name == "w0":
            weight[:3] = 0  # three of the first group
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, tmp_path / "grouped.onnx")
    result = train(tmp_path / "grouped.onnx", data, tmp_path / "run", TrainOptions(sparsity=0.3, **SHORT))
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert result.gain.summary.removed >= 4
    assert compare(trained, compact, seed=5).passed


def test_stopping_leaves_a_checkpoint_and_no_models(model, data, tmp_path):
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 20

    result = train(model, data, tmp_path / "run", TrainOptions(**SHORT), stop=stop)
    assert result.gain is None
    assert result.history.steps == 20
    assert result.as_json()["stopped"] is True
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        MANIFEST,
        "checkpoint.npz",
        "checkpoint-before.npz",
        "metrics.jsonl",
        "run.toml",
    }


def test_overwriting_removes_what_the_earlier_run_left(model, data, tmp_path):
    run = tmp_path / "run"
    train(model, data, run, TrainOptions(sparsity=0.4, **SHORT))
    (run / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        train(model, data, run, TrainOptions(**SHORT))
    train(model, data, run, TrainOptions(overwrite=True, **SHORT), stop=lambda: True)
    assert {path.name for path in run.iterdir()} == {
        MANIFEST,
        "checkpoint.npz",
        "checkpoint-before.npz",
        "metrics.jsonl",
        "notes.txt",
        "run.toml",
    }


def test_bad_data_do_not_cost_an_earlier_run(model, data, tmp_path):
    run = tmp_path / "run"
    train(model, data, run, TrainOptions(sparsity=0.4, **SHORT))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    np.savez(tmp_path / "bad.npz", x_train=np.ones(3))
    with pytest.raises(DataError, match="samples have shape"):
        train(model, tmp_path / "bad.npz", run, TrainOptions(overwrite=True, **SHORT))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("scope", ["dimension", "global"])
def test_constraints_that_miss_the_target_are_said(model, data, tmp_path, scope):
    """Without `min_keep` all 7 channels could go: that it forbids this one way is no reason to refuse the share."""
    said: list[str] = []
    options = TrainOptions(sparsity=0.4, round_to=4, scope=scope, **SHORT)
    result = train(model, data, tmp_path / "run", options, say=said.append)
    assert result.gain.summary.removed == 6  # 10 and 7 channels lose 0, 2 or 6, and 0 or 3
    assert any(
        "asked for were 7 groups; 6 is the nearest that constraints and widths" in line for line in said
    )


def test_what_min_keep_forbids_is_refused(model, data, tmp_path):
    with pytest.raises(
        UsageError, match=r"sparsity 0.8 asks for 14 of 17 groups, min-keep 0.5 leaves only 8"
    ):
        train(model, data, tmp_path / "run", TrainOptions(sparsity=0.8, min_keep=0.5, **SHORT))


def test_other_losses(model, data, tmp_path):
    arrays = dict(np.load(data))
    for split in ("train", "test"):
        arrays[f"y_{split}"] = np.eye(3, dtype=np.float32)[arrays[f"y_{split}"]]
    np.savez(tmp_path / "hot.npz", **arrays)
    for loss in ("mse", "bce-with-logits"):
        options = TrainOptions(sparsity=0.3, loss=loss, **SHORT)
        result = train(model, tmp_path / "hot.npz", tmp_path / loss, options)
        full, small = result.gain.scores
        assert full.metric == "loss"
        assert small.value == pytest.approx(full.value, rel=1e-5)
        assert result.gain.summary.removed == 5


def test_the_written_result_is_the_returned_one(model, data, tmp_path):
    result = train(model, data, tmp_path / "run", TrainOptions(sparsity=0.3, **SHORT))
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written.pop("options") == TrainOptions(sparsity=0.3, **SHORT).resolved("scratch").as_json()
    provenance = written.pop("provenance")
    assert (provenance["model"]["name"], provenance["data"]["name"]) == (model.name, data.name)
    assert len(provenance["model"]["sha256"]) == 64
    assert written == result.as_json()


COPIES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,1,8,8] x) => (float[N,1,8,8] y) {
    a = Conv<pads=[1,1,1,1]>(x, w0)
    b = Relu(a)
    y = Conv(b, w1)
}
"""


def test_augmentation_changes_image_targets_with_their_images(tmp_path):
    """The target is the input: what is learned on augmented samples is as good as without augmentation."""
    model = parser.parse_model(COPIES)
    rng = np.random.default_rng(0)
    for name, shape in {"w0": (8, 1, 3, 3), "w1": (1, 8, 1, 1)}.items():
        weight = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, tmp_path / "copies.onnx")
    images = {
        split: rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
        for split, count in (("train", 128), ("test", 32))
    }
    arrays = {f"{letter}_{split}": x for split, x in images.items() for letter in "xy"}
    np.savez(tmp_path / "same.npz", **arrays)
    said: list[str] = []
    losses = []
    for name, more in (("plain", {}), ("augmented", {"flip": True, "crop": 2})):
        options = TrainOptions(
            optimizer="dense", sparsity=0.0, loss="mse", epochs=12, batch=16, lr=0.05, shards=1, **more
        )
        result = train(
            tmp_path / "copies.onnx", tmp_path / "same.npz", tmp_path / name, options, say=said.append
        )
        losses.append(result.history.epochs[-1].loss)
    assert max(losses) < 0.05
    assert any("changes x_train, y_train; edges are repeated" in line for line in said)


def test_outputs_that_the_loss_does_not_read_are_named(model, data, tmp_path):
    loaded = onnx.load(model)
    extra = onnx.helper.make_node("Neg", [loaded.graph.output[0].name], ["extra"], name="extra")
    loaded.graph.node.append(extra)
    loaded.graph.output.append(onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, None))
    onnx.save(loaded, tmp_path / "two.onnx")
    said = []
    train(tmp_path / "two.onnx", data, tmp_path / "run", TrainOptions(sparsity=0.3, **SHORT), say=said.append)
    name = loaded.graph.output[0].name
    assert f"the loss reads output '{name}': what only 'extra' need does not learn" in said
