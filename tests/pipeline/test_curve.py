"""`inspect --curve`: rows are what `prune` yields, ends have their reasons, and data are judged as `train` does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_oto
from onnx_oto import InspectOptions, TrainOptions
from onnx_oto.errors import DataError, OtoError, UsageError
from onnx_oto.pipeline.curve import SHARES, curve
from onnx_oto.pipeline.opening import Opened, open_model
from tests.contract.builder import build

CHAIN = """g (float[N,3,6,6] x) => (float[N,4] y)
<float[16,3,3,3] w0, float[16] b0, float[16] s, float[16] t, float[16] m, float[16] var, float[24,16,1,1] w1,
 float[12,24,1,1] w2, float[12,4] w3>
{ c = Conv(x, w0, b0) n = BatchNormalization(c, s, t, m, var) r = Relu(n) d = Conv(r, w1) e = Relu(d)
  f = Conv(e, w2) p = GlobalAveragePool(f) q = Flatten(p) y = MatMul(q, w3) }"""
GROUPED = """g (float[N,3,6,6] x) => (float[N,4,4,4] y) <float[12,3,1,1] w0, float[12,4,3,3] w1, float[4,12,1,1] w2>
{ a = Conv(x, w0) b = Relu(a) [c] c = Conv<group=3>(b, w1) d = Relu(c) y = Conv(d, w2) }"""
FROZEN = """g (float[N,5] x) => (float[N,40] y) <float[5,4] w0, float[4,40] w1> { a = MatMul(x, w0) b = Relu(a)
  y = MatMul(b, w1) }"""


def saved(text: str, folder: Path) -> Path:
    onnx.save(build(text), folder / "model.onnx")
    return folder / "model.onnx"


# --- what is left -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [CHAIN, GROUPED])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"round_to": 1},
        {"round_to": 4, "scope": "global"},
        {"by": "random", "seed": 3, "scope": "global", "keep": ["w1"]},
    ],
    ids=str,
)
def test_every_row_is_what_prune_yields(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    """Nothing here is repaired, so that parameters and MACs are the same; the file may differ by some lengths."""
    model = saved(text, tmp_path)
    found = onnx_oto.inspect(model, curve=True, **settings).curve
    assert found is not None
    assert [point.sparsity for point in found] == list(SHARES)
    for point in found:
        pruned = onnx_oto.prune(
            model, tmp_path / "small.onnx", sparsity=point.sparsity, skip_latency=True, **settings
        )
        summary = pruned.summary
        assert (point.removed, point.prunable) == (summary.removed, summary.prunable)
        assert (point.params, point.macs) == (summary.params, summary.macs)
        assert point.size.before == model.stat().st_size
        assert point.size.after == pytest.approx(len(unexplained(tmp_path / "small.onnx")), abs=200)
        assert pruned.plan is not None
        assert point.round_to == pruned.plan.rounding.block


def unexplained(path: Path) -> bytes:
    """Return a model without what it says of how it was made, which depends on the command."""
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if not entry.key.startswith("onnx_oto.")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model.SerializeToString()


def test_nothing_goes_at_the_first_row(tmp_path: Path) -> None:
    model = saved(CHAIN, tmp_path)
    first = onnx_oto.inspect(model, curve=True).curve[0]
    assert (first.removed, first.achieved, first.why) == (0, 0.0, None)
    assert first.params.kept == first.macs.kept == first.size.kept == 1.0
    assert first.size.after == model.stat().st_size


def test_names_in_json_are_those_of_prune(tmp_path: Path) -> None:
    model = saved(CHAIN, tmp_path)
    plain = onnx_oto.inspect(model).as_json()
    found = json.loads(json.dumps(onnx_oto.inspect(model, curve=True).as_json()))
    assert found.keys() - plain.keys() == {"curve", "end"}
    pruned = onnx_oto.prune(model, tmp_path / "small.onnx", sparsity=0.5, skip_latency=True).as_json()
    row = found["curve"][5]
    for name in ("sparsity", "lanes", "round_to", "params"):
        assert row[name] == pruned[name]
    assert set(row) == {"sparsity", "lanes", "round_to", "params", "macs", "bytes", "why"}
    assert set(found["end"]) == {"sparsity", "removed", "params", "reasons"}


def test_estimated_milliseconds_stand_in_a_row_where_they_are_known(tmp_path: Path) -> None:
    opened = open_model(saved(CHAIN, tmp_path))
    points, _ = curve(opened, InspectOptions(curve=True), estimated_ms=lambda drop: 10.0 - drop.sum() / 10)
    assert [point.milliseconds for point in points] == [(10.0, 10.0 - point.removed / 10) for point in points]
    assert points[5].as_json()["estimated_ms"] == {"before": 10.0, "after": 7.4}
    points, _ = curve(opened, InspectOptions(curve=True), estimated_ms=lambda drop: None)
    assert "estimated_ms" not in points[5].as_json()


def test_random_scores_read_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    def recording(*arguments: Any, weights: bool) -> Opened:
        opened.append(weights)
        return open_model(*arguments, weights=weights)

    monkeypatch.setattr("onnx_oto.pipeline.inspecting.open_model", recording)
    model = tmp_path / "m.onnx"
    onnx.save(build(CHAIN), model, save_as_external_data=True, location="w", size_threshold=0)
    onnx_oto.inspect(model)
    unread = onnx_oto.inspect(model, curve=True, by="random", round_to=1).curve
    read = onnx_oto.inspect(model, curve=True, round_to=1).curve
    assert opened == [False, False, True]
    for one, other in zip(unread, read, strict=True):
        assert (one.params, one.macs, one.size) == (other.params, other.macs, other.size)


# --- what ends it -----------------------------------------------------------------------------------------------------
def test_widths_end_it(tmp_path: Path) -> None:
    found = onnx_oto.inspect(saved(CHAIN, tmp_path), curve=True, round_to=8)
    last = found.curve[9]
    assert (last.removed, last.prunable) == (8 + 16 + 4, 52)  # of 16, 24 and 12
    assert last.why == "nothing more can go: widths in multiples of 8 keep 21 groups (see --round-to)"
    assert (found.end.removed, found.end.reasons[0]) == (28, last.why.removeprefix("nothing more can go: "))
    assert found.curve[2].why == "8 groups are the nearest to 10 that widths in multiples of 8 allow"


def test_the_last_channels_end_it(tmp_path: Path) -> None:
    found = onnx_oto.inspect(saved(FROZEN, tmp_path), curve=True, round_to=1)
    assert [point.removed for point in found.curve] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.curve[9].why == "nothing more can go: 1 of 1 dimensions are down to their last channel"
    assert found.end.reasons == (
        "1 of 1 dimensions are down to their last channel",
        "25.0% of the parameters (45) stay then; most of it is kept by 'w1' (40 channels): it is part of the model's "
        "output 'y'",
    )


def test_what_every_dimension_keeps_ends_it(tmp_path: Path) -> None:
    model = saved(CHAIN, tmp_path)
    found = onnx_oto.inspect(model, curve=True, round_to=1, scope="global", min_keep=0.25)
    assert found.end.removed == 12 + 18 + 9
    assert found.curve[9].why == "nothing more can go: --min-keep 0.25 keeps 10 groups"
    assert (
        onnx_oto.inspect(model, curve=True, round_to=1, min_keep=0.25).end.removed == 49
    )  # scope global only


def test_groups_end_it(tmp_path: Path) -> None:
    found = onnx_oto.inspect(saved(GROUPED, tmp_path), curve=True, round_to=1)
    told = "'w0' keeps 3 of 12 channels (balanced over the 3 groups of 'c'), and 1 more keep several"
    assert found.curve[9].why == f"nothing more can go: {told}"
    assert found.curve[1].why == "3 groups are the nearest to 2 that channels that go together allow"


def test_a_model_in_which_nothing_can_go(tmp_path: Path) -> None:
    model = saved("g (float[N,5] x) => (float[N,4] y) <float[5,4] w> { y = MatMul(x, w) }", tmp_path)
    found = onnx_oto.inspect(model, curve=True)
    assert {point.removed for point in found.curve} == {0}
    assert found.end.reasons[0] == "no dimension can be pruned"
    assert "it is part of the model's output 'y'" in found.end.reasons[1]


# --- on data ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def trained(model: Path, data: Path, tmp_path: Path) -> onnx_oto.Trained:
    """Return a run that trained the classifier and cut nothing."""
    settings = {"optimizer": "dense", "epochs": 12, "batch": 16, "lr": 0.1, "metric": ("accuracy", "f1")}
    return onnx_oto.train(model, data, tmp_path / "run", TrainOptions(**settings, skip_latency=True))


def test_the_loss_along_the_curve(trained: onnx_oto.Trained, data: Path) -> None:
    """At the first row it is that of the full model in the table of `train`, and it rises."""
    said: list[str] = []
    found = onnx_oto.inspect(
        trained.run / "trained.onnx",
        curve=True,
        data=data,
        metric=["accuracy", "f1"],
        round_to=1,
        say=said.append,
    )
    scores = [point.judgement.score for point in found.curve]
    assert trained.gain is not None
    told = trained.gain.scores[0]
    assert replace(scores[0], loss=told.loss) == told
    assert scores[0].loss == pytest.approx(told.loss, rel=1e-14)  # batches of other sizes are added up
    assert scores[0].value > 0.9
    assert scores[0].loss < 0.5 * scores[5].loss < scores[9].loss
    assert sum(text.startswith("share ") for text in said) == 10
    row = found.as_json()["curve"][0]
    assert (row["samples"], row["loss"], row["metric"]["name"]) == (40, scores[0].loss, "accuracy")
    assert [each["name"] for each in row["metrics"]] == ["f1"]


def test_the_loss_of_a_row_is_that_of_the_model_that_prune_writes(
    trained: onnx_oto.Trained, data: Path, tmp_path: Path
) -> None:
    model, small = trained.run / "trained.onnx", tmp_path / "small.onnx"
    row = onnx_oto.inspect(model, curve=True, data=data).curve[4]
    onnx_oto.prune(model, small, sparsity=0.4)
    again = onnx_oto.inspect(small, curve=True, data=data).curve[0]
    assert again.judgement.score.loss == pytest.approx(row.judgement.score.loss, rel=1e-6)


def test_a_final_softmax_is_the_loss_s_own(model: Path, data: Path, tmp_path: Path) -> None:
    ended = onnx.load(model)
    ended.graph.node[-1].output[0] = "z"
    ended.graph.node.append(onnx.helper.make_node("Softmax", ["z"], ["y"]))
    onnx.save(ended, tmp_path / "ended.onnx")
    one, other = (onnx_oto.inspect(m, curve=True, data=data) for m in (model, tmp_path / "ended.onnx"))
    for a, b in zip(one.curve, other.curve, strict=True):
        assert a.judgement.score.loss == pytest.approx(b.judgement.score.loss, rel=1e-6)


def test_some_samples_are_enough(model: Path, data: Path) -> None:
    said: list[str] = []
    points = [
        onnx_oto.inspect(model, curve=True, data=data, samples=7, seed=seed, say=said.append)
        .curve[0]
        .judgement
        for seed in (0, 0, 1)
    ]
    assert {point.samples for point in points} == {7}
    assert points[0] == points[1] != points[2]
    assert "7 of 40 test samples, drawn at random, are used: see --samples" in said


def test_data_without_labels_tell_how_far_outputs_are_off(model: Path, data: Path, tmp_path: Path) -> None:
    arrays = {name: array for name, array in np.load(data).items() if name.startswith("x")}
    np.savez(tmp_path / "bare.npz", **arrays)
    said: list[str] = []
    found = onnx_oto.inspect(model, curve=True, data=tmp_path / "bare.npz", round_to=1, say=said.append)
    assert "holds no labels (y_test), which the loss needs" in said[0]
    changes = [point.judgement.change for point in found.curve]
    assert changes[0] == 0.0
    assert 0 < changes[1] < changes[9] < 3
    assert found.as_json()["curve"][9].keys() >= {"samples", "output_change"}

    zeroed, small = tmp_path / "zeroed.onnx", tmp_path / "small.onnx"
    onnx_oto.prune(model, small, sparsity=0.5, round_to=1, save_zeroed=zeroed)
    outputs = [
        onnx.reference.ReferenceEvaluator(onnx.load(p)).run(None, {"x": arrays["x_test"]})[0]
        for p in (model, zeroed)
    ]
    full, cut = outputs
    assert changes[5] == pytest.approx(np.abs(cut - full).sum() / np.abs(full).sum(), rel=1e-4)


def test_a_model_for_one_sample(one_sample_model: Path, model: Path, data: Path) -> None:
    one, many = (onnx_oto.inspect(m, curve=True, data=data).curve for m in (one_sample_model, model))
    for a, b in zip(one, many, strict=True):
        assert a.judgement.score.loss == pytest.approx(b.judgement.score.loss, rel=1e-5)


def _wrong_label(arrays: dict[str, np.ndarray]) -> None:
    arrays["y_test"] = arrays["y_test"].copy()
    arrays["y_test"][3] = 7


def _float_labels(arrays: dict[str, np.ndarray]) -> None:
    for split in ("train", "test"):
        arrays[f"y_{split}"] = arrays[f"y_{split}"].astype(np.float32)


def _other_shape(arrays: dict[str, np.ndarray]) -> None:
    for split in ("train", "test"):
        arrays[f"x_{split}"] = arrays[f"x_{split}"][:, :4]


def _not_finite(arrays: dict[str, np.ndarray]) -> None:
    arrays["x_test"][2, 1] = np.nan


def _no_test(arrays: dict[str, np.ndarray]) -> None:
    del arrays["x_test"]


@pytest.mark.parametrize(
    ("change", "settings", "kind"),
    [
        (_wrong_label, {}, DataError),
        (_float_labels, {}, DataError),
        (_other_shape, {}, DataError),
        (_not_finite, {}, DataError),
        (_no_test, {}, DataError),
        (dict, {"model_output": "z"}, UsageError),
        (dict, {"set_input": ("z:0",)}, UsageError),
        (dict, {"loss": "mse"}, DataError),
    ],
)
def test_what_train_refuses_is_refused_in_its_words(
    model: Path, data: Path, tmp_path: Path, change: Any, settings: dict[str, Any], kind: type[OtoError]
) -> None:
    arrays = dict(np.load(data))
    change(arrays)
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(kind) as by_train:
        onnx_oto.train(model, tmp_path / "odd.npz", tmp_path / "run", epochs=1, batch=16, **settings)
    with pytest.raises(kind) as by_curve:
        onnx_oto.inspect(model, curve=True, data=tmp_path / "odd.npz", **settings)
    assert str(by_curve.value) == str(by_train.value)


def test_data_without_a_curve_are_refused(model: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="data is for the curve: give --curve too"):
        onnx_oto.inspect(model, data=data)
