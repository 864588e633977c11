"""Optimizers, directions and what is done to gradients, through the whole of `train`."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import DataError, UsageError
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare
from onnx_oto.training import Skipped, Stepped, loop
from tests.optim.progressive import ProgressiveOptions, Sign

SHORT = {"epochs": 30, "batch": 16}

NET = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) <int64[4] form = {0,6,1,1}, int64[2] flat = {0,-1}> {
    m = Reshape(x, form)
    [conv] a = Conv(m, w0, b0)
    [norm] n = BatchNormalization(a, scale, shift, mean, var)
    b = Relu(n)
    [second] c = Conv(b, w1)
    d = Relu(c)
    e = Reshape(d, flat)
    y = Gemm(e, w2, b2)
}
"""
SHAPES = {"w0": (10, 6, 1, 1), "b0": (10,), "w1": (8, 10, 1, 1), "w2": (8, 3), "b2": (3,)}


@pytest.fixture
def net(tmp_path):
    """Return the path of a network with a BatchNormalization: 18 prunable channels."""
    model = parser.parse_model(NET)
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape) * 0.5 for name, shape in SHAPES.items()}
    arrays |= {"scale": rng.random(10) + 0.5, "shift": rng.standard_normal(10) * 0.1}
    arrays |= {"mean": rng.standard_normal(10), "var": rng.random(10) + 0.5}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


class Watch:
    """Collects events."""

    def __init__(self) -> None:
        self.events = []

    def notice(self, event) -> None:
        self.events.append(event)


def test_a_new_optimizer_and_a_new_direction_train_by_one_entry_each(model, data, tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "progressive", ProgressiveOptions)
    monkeypatch.setitem(DIRECTIONS, "sign", Sign)
    options = TrainOptions(
        optimizer="progressive",
        direction="sign",
        sparsity=0.4,
        optimizer_options={"stages": 3, "memory": 0.8},
        **SHORT,
    )
    assert options.prunes
    watch = Watch()
    result = train(model, data, tmp_path / "run", options, observer=watch)
    assert result.gain.summary.removed == 7
    zeroed = [event.zeroed for event in watch.events if isinstance(event, Stepped)]
    assert sorted(set(zeroed)) == [0, 2, 5, 7]
    full, small = result.gain.scores
    assert full.value == small.value > 0.9
    stored = json.loads((tmp_path / "run" / "result.json").read_text())["options"]
    assert stored["lr"] == Sign.rate
    assert stored["weight_decay"] == 0.1
    assert stored["optimizer_options"] == {"stages": 3, "memory": 0.8}


@pytest.mark.parametrize("optimizer", [name for name, kind in OPTIMIZERS.items() if kind.prunes])
def test_every_optimizer_meets_its_target_with_accumulation_and_a_skipped_step(
    net, data, tmp_path, optimizer, monkeypatch
):
    """90 steps of two batches, of which the third finds a gradient that is not finite."""

    class Faulty(loop.Guard):
        calls = 0

        def fault(self, loss):
            Faulty.calls += 1
            return "a fault for this test" if Faulty.calls == 3 else super().fault(loss)

    monkeypatch.setattr(loop, "Guard", Faulty)
    watch = Watch()
    options = TrainOptions(
        optimizer=optimizer, sparsity=0.4, accumulate=2, skip_bad_steps=3, lr=0.05, shards=1, **SHORT
    )
    result = train(net, data, tmp_path / "run", options, observer=watch)
    assert sum(isinstance(event, Skipped) for event in watch.events) == 1
    steps = [event for event in watch.events if isinstance(event, Stepped)]
    assert len(steps) == 89
    assert steps[-1].phase == "done"
    assert steps[-1].zeroed == steps[-1].target == result.gain.summary.removed == 7
    assert result.gain.scores[0].value == result.gain.scores[1].value


@pytest.mark.parametrize("optimizer", ["hspg", "proximal"])
def test_a_penalty_on_all_groups_leaves_what_is_frozen_alone(net, data, tmp_path, optimizer):
    before = weights(net)
    options = TrainOptions(optimizer=optimizer, sparsity=0.5, freeze=("conv", "norm"), lr=0.05, **SHORT)
    train(net, data, tmp_path / "run", options)
    after = weights(tmp_path / "run" / "trained.onnx")
    stays = after["w0"].any(axis=(1, 2, 3))
    assert 0 < stays.sum() < 10
    for name in ("w0", "b0", "scale", "shift"):
        np.testing.assert_array_equal(after[name][stays], before[name][stays])
        assert not after[name][~stays].any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_trains_at_its_own_rate(net, data, tmp_path, direction):
    options = TrainOptions(direction=direction, sparsity=0.4, epochs=150, batch=16)
    result = train(net, data, tmp_path / "run", options)
    assert result.gain.summary.removed == 7
    assert result.gain.scores[0].value > 0.9


@pytest.mark.parametrize("freeze", [("norm",), ("w1", "b0"), ("conv", "norm", "second")])
def test_what_is_frozen_stays_or_goes_with_its_group(net, data, tmp_path, freeze):
    """Exactly zero in groups that go, bit for bit as it was elsewhere; a frozen norm keeps its statistics."""
    before = weights(net)
    options = TrainOptions(sparsity=0.5, freeze=freeze, lr=0.05, **SHORT)
    result = train(net, data, tmp_path / "run", options)
    assert result.gain.summary.removed == 9
    after = weights(tmp_path / "run" / "trained.onnx")
    names = {"norm": ("scale", "shift"), "conv": ("w0", "b0"), "second": ("w1",)}
    still = {name for pattern in freeze for name in names.get(pattern, (pattern,))}
    gone = {
        1: (after["w0"] == 0).all(axis=(1, 2, 3)),
        2: (after["w1"] == 0).all(axis=(1, 2, 3)),
    }
    assert gone[1].sum() + gone[2].sum() == 9
    for name in ("w0", "b0", "scale", "shift", "w1"):
        lost = gone[2 if name == "w1" else 1]
        assert not after[name][lost].any()
        assert np.array_equal(after[name][~lost], before[name][~lost]) == (name in still)
    assert not np.array_equal(after["w2"], before["w2"])
    for name in ("mean", "var"):
        assert np.array_equal(after[name], before[name]) == ("norm" in freeze)
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert compare(trained, compact, seed=5).passed


def test_without_pruning_the_frozen_is_bit_for_bit_as_it_was(net, data, tmp_path):
    before = weights(net)
    options = TrainOptions(optimizer="dense", freeze=("conv", "norm"), decay_all=True, lr=0.05, **SHORT)
    train(net, data, tmp_path / "run", options)
    after = weights(tmp_path / "run" / "trained.onnx")
    for name in ("w0", "b0", "scale", "shift", "mean", "var"):
        assert np.array_equal(after[name], before[name])
    assert not np.array_equal(after["w1"], before["w1"])


@pytest.mark.parametrize(
    ("freeze", "message"),
    [(("*",), "--freeze leaves no parameter to train"), (("w9",), "--freeze 'w9' matches no parameter")],
)
def test_freezing_everything_or_nothing_is_refused(net, data, tmp_path, freeze, message):
    with pytest.raises(UsageError, match=message):
        train(net, data, tmp_path / "run", TrainOptions(freeze=freeze, **SHORT))
    assert not (tmp_path / "run").exists()


def test_norms_and_biases_are_not_decayed_unless_asked(net, data, tmp_path):
    """A decay that leaves nothing of a weight within the run, and hardly a gradient."""
    before = weights(net)
    for decay_all in (False, True):
        options = TrainOptions(
            optimizer="dense",
            direction="adamw",
            lr=1e-4,
            weight_decay=300.0,
            decay_all=decay_all,
            schedule="constant",
            **SHORT,
        )
        train(net, data, tmp_path / f"{decay_all}", options)
        after = weights(tmp_path / f"{decay_all}" / "trained.onnx")
        for name in ("w0", "w1", "w2"):
            assert np.abs(after[name]).mean() < 0.1 * np.abs(before[name]).mean()
        for name in ("b0", "scale", "shift", "b2"):
            assert (np.abs(after[name] - before[name]).max() < 0.05) != decay_all


def test_accumulation_clipping_and_skipping_reach_the_loop(net, data, tmp_path):
    """96 samples: 3 steps per epoch of 2 batches of 16; the groups are in time although steps may be skipped."""
    watch = Watch()
    shares = {"plan_observe": 0.2, "plan_shrink": 0.5, "plan_finish": 0.3}
    options = TrainOptions(
        sparsity=0.4,
        accumulate=2,
        clip_norm=1e-3,
        skip_bad_steps=5,
        lr=0.05,
        optimizer_options=shares,
        **SHORT,
    )
    before = weights(net)
    result = train(net, data, tmp_path / "run", options, observer=watch)
    steps = [event for event in watch.events if isinstance(event, Stepped)]
    assert len(steps) == result.history.steps == 90
    assert not any(isinstance(event, Skipped) for event in watch.events)
    first_done = next(event.step for event in steps if event.phase == "done")
    assert first_done == 86
    assert steps[84].zeroed == steps[84].target == 7
    after = weights(tmp_path / "run" / "trained.onnx")
    assert np.abs(after["w2"] - before["w2"]).max() < 90 * 0.05 * (1e-3 * 10 + 5e-4)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["options"]["accumulate"] == 2


def test_steps_that_cannot_be_filled_are_refused(net, data, tmp_path):
    with pytest.raises(DataError, match="96 samples: not one batch of 16, let alone 7 of them"):
        train(net, data, tmp_path / "run", TrainOptions(accumulate=7, **SHORT))
