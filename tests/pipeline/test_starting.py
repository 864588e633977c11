"""Scratch or trained: who says so, and what follows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto.data import Batch
from onnx_oto.losses import make
from onnx_oto.pipeline import start_options
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.start_options import SCRATCH, TRAINED, TRAINED_PLAIN, TRAINED_PLAIN_CUT, Pace
from onnx_oto.pipeline.starting import Witness, by_labels, by_spread, cautions, set_by_start, spread, verdict
from onnx_oto.pipeline.train import train
from tests.contract.builder import build


class Points:
    """Samples whose targets are known."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices, rng=None) -> Batch:
        return Batch({"x": self.x[indices]}, {"y": self.y[indices]}, indices)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 5)).astype(np.float32)
LABELS = (X[:, 0] > 0.8).astype(np.int64)  # four of five are 0


def settled(name: str, shape: tuple[int, ...]):
    return make(name).settle([("N", *shape)], {"y": shape[1:] if name == "cross-entropy" else shape})


def logits(of: np.ndarray):
    return lambda batch: [np.stack([-of(batch["x"]), of(batch["x"])], 1).astype(np.float32)]


def test_the_most_frequent_class_is_chance():
    loss, source = settled("cross-entropy", (2,)), Points(X, LABELS)
    right = by_labels(logits(lambda x: x[:, 0] - 0.8), source, loss)
    assert right.trained is True
    share = 1 - LABELS.mean()
    assert right.words == f"accuracy 1 against {share:.4g} by chance on 400 training samples"
    assert by_labels(logits(lambda x: -1 + 0 * x[:, 0]), source, loss).trained is False
    assert (
        by_labels(logits(lambda x: x[:, 1]), source, loss).trained is False
    )  # 0.5, better than nothing only


def test_the_median_is_chance_of_numbers():
    y = (3 + X[:, :1]).astype(np.float32)
    loss, source = settled("mse", (1,)), Points(X, y)
    assert by_labels(lambda batch: [batch["x"][:, :1] + 3.1], source, loss).trained is True
    assert by_labels(lambda batch: [0 * batch["x"][:, :1] + 3], source, loss).trained is False
    assert by_labels(lambda batch: [batch["x"][:, 1:2]], source, loss).trained is False


def test_the_more_frequent_answer_is_chance():
    y = (X[:, :2] > 0.8).astype(np.float32)
    loss, source = settled("bce-with-logits", (2,)), Points(X, y)
    assert by_labels(lambda batch: [batch["x"][:, :2] - 0.8], source, loss).trained is True
    assert by_labels(lambda batch: [0 * batch["x"][:, :2] - 1], source, loss).trained is False
    assert by_labels(lambda batch: [batch["x"][:, 2:4]], source, loss).trained is False


def test_samples_of_several_sizes_have_one_best_answer():
    class Ragged(Points):
        def batch(self, indices, rng=None) -> Batch:
            width = 2 + int(indices[0]) % 3
            return Batch({"x": self.x[indices, :width]}, {"y": self.x[indices, :width]}, indices)

    loss = make("mse").settle([("N", "L")], {"y": (4,)})
    assert by_labels(lambda batch: [batch["x"]], Ragged(X, X), loss).trained is True
    assert by_labels(lambda batch: [0 * batch["x"] + 9], Ragged(X, X), loss).trained is False


def test_a_result_within_the_errors_is_no_better_than_chance():
    y = np.arange(400) % 2
    said = y.copy()
    said[np.random.default_rng(5).permutation(400)[:190]] ^= 1  # 210 of 400 are right, the error is 10
    source = Points(np.c_[said * 2 - 1.0, X].astype(np.float32), y)
    found = by_labels(logits(lambda x: x[:, 0]), source, settled("cross-entropy", (2,)))
    assert found.words.startswith("accuracy 0.525 against 0.5 by chance")
    assert found.trained is False


def test_a_lucky_network_is_told_by_others_like_it():
    loss, source = settled("cross-entropy", (2,)), Points(X, LABELS)
    others = [logits(lambda x, a=a: x[:, 0] - a) for a in (0.6, 0.2, 0.9)]
    right = logits(lambda x: x[:, 0] - 0.8)
    found = by_labels(right, source, loss, others=others)
    assert found.trained is False
    assert found.words.endswith("with its parameters shuffled")
    poor = [logits(lambda x, a=a: x[:, 1] - a) for a in (0.6, 0.8)]
    assert by_labels(right, source, loss, others=poor).trained is True


def test_outputs_that_are_not_numbers_tell_nothing():
    found = by_labels(lambda batch: [np.nan * batch["x"][:, :1]], Points(X, X[:, :1]), settled("mse", (1,)))
    assert found.trained is None


def test_spread_between_samples():
    fixed = np.arange(6.0).reshape(1, 6)
    assert spread([np.repeat(fixed, 9, 0)]) == 0
    assert spread([np.repeat(np.arange(9.0)[:, None], 6, 1)]) == 1
    assert spread([np.full((4, 4), 7.0)]) == 0
    assert 0 < spread([X]) < 1
    other = lambda batch: [np.arange(4.0) + 0.1 * batch["x"][:, :4]]  # noqa: E731
    assert by_spread(lambda batch: [batch["x"]], [other], Points(X, X)).trained is True
    assert by_spread(other, [other], Points(X, X)).trained is None


YES, NO, NONE = (Witness(answer, "words") for answer in (True, False, None))
SURE = Witness(True, "words", sure=True)


@pytest.mark.parametrize(
    ("witness", "excess", "start", "told"),
    [
        (YES, 0.1, "trained", "words"),
        (NO, -0.1, "scratch", "words"),
        (NONE, 0.1, "trained", "its weights are not random, though words"),
        (NONE, -0.1, "scratch", "its weights look random, though words"),
        (NO, 0.1, "trained", "its weights are not random, which contradicts words; look at --mean"),
        (YES, -0.1, "scratch", "its weights look random, which contradicts words; if that is wrong"),
        (SURE, -0.1, "trained", "words"),
        (YES, None, "trained", "words; its weights are too small to tell"),
        (NO, None, "scratch", "words; its weights are too small to tell"),
        (NONE, None, "scratch", "words; its weights are too small to tell"),
    ],
)
def test_who_decides(witness, excess, start, told):
    found = verdict(witness, excess)
    assert found.start == start
    assert found.evidence.startswith(told)


def test_what_is_given_stays_and_the_rest_follows_the_state():
    given = TrainOptions(lr=0.5, warm_up=0.2)
    options = given.resolved("trained")
    assert (options.lr, options.warm_up, options.schedule) == (0.5, 0.2, TRAINED.schedule)
    assert options.from_ == "trained"
    assert "learning rate" not in set_by_start(given, options)
    asked = TrainOptions(from_="scratch").resolved("trained")
    assert (asked.from_, asked.lr) == ("scratch", 0.1)
    every = TrainOptions(lr=1, warm_up=0, schedule="step", optimizer="dense")
    assert set_by_start(every, every.resolved("trained")) == "all that depends on it was given"
    for optimizer, how in (
        ("hesso", "groups are chosen after 5% of the steps and shrink over 35%"),
        ("magnitude", "groups are chosen after 50% of the steps and go at once"),
        ("one-shot", "warm-up 5%"),
    ):
        cut = TrainOptions(optimizer=optimizer)
        assert set_by_start(cut, cut.resolved("scratch")).endswith(how)


def test_milestones_make_the_rate_fall_in_steps():
    options = TrainOptions(milestones=(0.3, 0.6)).resolved("trained")
    assert (options.schedule, options.falls()) == ("step", ((0.3, 0.6), 0.1))
    assert TrainOptions(lr_factor=0.5).resolved("scratch").falls() == ((0.5, 0.75), 0.5)
    assert TrainOptions().resolved("scratch").schedule == "cosine"


@pytest.mark.parametrize("direction", ["sgd", "adam", "adamw"])
def test_the_state_scales_the_rate_of_the_direction(direction):
    fresh, trained = (TrainOptions(direction=direction).resolved(state) for state in ("scratch", "trained"))
    cut = TrainOptions(direction=direction).resolved("trained", normed=False)
    plain = TrainOptions(direction=direction, optimizer="dhspg").resolved("trained", normed=False)
    assert fresh.lr * SCRATCH.rate == fresh.lr > trained.lr == pytest.approx(fresh.lr * TRAINED.rate)
    assert trained.lr > plain.lr == pytest.approx(fresh.lr * TRAINED_PLAIN.rate)
    assert plain.lr > cut.lr == pytest.approx(fresh.lr * TRAINED_PLAIN_CUT.rate)
    assert fresh.as_json() == {**TrainOptions(direction=direction).resolved().as_json(), "from": "scratch"}


def test_a_plan_that_is_given_stays_whole(monkeypatch):
    monkeypatch.setattr(start_options, "TRAINED", Pace(1.0, "step", 0.1, {"plan_observe": 0.4}))
    assert TrainOptions(optimizer="dhspg").resolved("trained").optimizer_options["plan_observe"] == 0.4
    own = TrainOptions(optimizer_options={"plan_observe": 0.1})
    assert own.resolved("trained").optimizer_options["plan_observe"] == 0.1
    dense = TrainOptions(optimizer="dense").resolved("trained")
    assert "plan_observe" not in dense.optimizer_options
    assert dense.schedule == "step"


def test_a_trained_model_is_cut_first_unless_an_optimizer_is_set_up():
    assert TrainOptions().resolved("trained").optimizer == "refit"
    assert (
        TrainOptions(direction="adam", optimizer_options={"beta1": 0.8}).resolved("trained").optimizer
        == "refit"
    )
    assert TrainOptions().resolved("scratch").optimizer == TrainOptions().resolved().optimizer == "dhspg"
    for own in ({"plan_shrink": 0.2}, {"saliency": "taylor"}):
        assert TrainOptions(optimizer_options=own).resolved("trained").optimizer == "dhspg"
    assert TrainOptions(optimizer="dhspg").resolved("trained").optimizer == "dhspg"


def test_a_run_says_what_it_found_and_its_repetition_does_not_ask(model, data, tmp_path):
    said: list[str] = []
    train(model, data, tmp_path / "one", TrainOptions(epochs=2, batch=16, shards=1), say=said.append)
    (sentence,) = [text for text in said if text.startswith("the model comes ")]
    assert sentence.startswith("the model comes from scratch: accuracy ")
    assert "against 0.3333 by chance on 96 training samples; learning rate 0.1, schedule cosine" in sentence
    assert 'from = "scratch"' in (tmp_path / "one" / "run.toml").read_text()
    again: list[str] = []
    options = TrainOptions(epochs=2, batch=16, shards=1, from_="scratch")
    train(model, data, tmp_path / "two", options, say=again.append)
    assert not [text for text in again if text.startswith("the model comes ")]
    one, two = ((tmp_path / name / "compact.onnx").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_trained_model_is_recognised(model, data, tmp_path):
    options = TrainOptions(epochs=40, batch=16, lr=0.05, shards=1, optimizer="dense")
    train(model, data, tmp_path / "first", options)
    said: list[str] = []
    trained = tmp_path / "first" / "trained.onnx"
    train(trained, data, tmp_path / "next", TrainOptions(epochs=1, batch=16, shards=1), say=said.append)
    (sentence,) = [text for text in said if text.startswith("the model comes ")]
    assert "the model comes trained: " in sentence
    values = [numpy_helper.to_array(t) for t in onnx.load(trained).graph.initializer]
    assert all(np.isfinite(value).all() for value in values)


def test_a_loss_that_is_one_number_for_a_batch_leaves_it_to_the_weights(tmp_path):
    text = """g (float[N,4] x, float[N,1] t) => (float l) <float[4,16] w1, float[16] b1, float[16,1] w2> {
        h = Gemm(x, w1, b1)
        r = Relu(h)
        y = MatMul(r, w2)
        d = Sub(y, t)
        s = Mul(d, d)
        l = ReduceMean<keepdims=0>(s)
    }"""
    onnx.save(build(text), tmp_path / "loss.onnx")
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 64), ("test", 16)):
        x = rng.random((count, 4), np.float32)
        arrays |= {f"x_{split}__x": x, f"x_{split}__t": x.sum(1, keepdims=True)}
    np.savez(tmp_path / "data.npz", **arrays)
    said: list[str] = []
    options = TrainOptions(epochs=2, batch=16, shards=1, loss="output", lr=0.01, skip_latency=True)
    train(tmp_path / "loss.onnx", tmp_path / "data.npz", tmp_path / "run", options, say=said.append)
    line = next(each for each in said if each.startswith("the model comes "))
    assert "the loss 'output' says nothing of single samples" in line or "too small to tell" in line


def cautioned(steps: int = 1000, *, unlabelled: bool = True, scaled: bool = True, **options) -> list[str]:
    resolved = TrainOptions(**options).resolved("trained")
    return [*cautions(resolved, steps, unlabelled=unlabelled, scaled=scaled)]


def test_a_run_of_few_steps_is_warned_of():
    by_plan = {"optimizer": "dhspg", "scaled": False}
    assert cautioned(66, **by_plan) == [
        "warning: groups shrink within 9 of 66 steps, which is sudden: take more --epochs, a smaller --batch or a "
        "larger --plan-shrink"
    ]
    assert cautioned(67, **by_plan) == []
    assert cautioned(4, scaled=False) == []  # nothing is left to go
    assert cautioned(4, scaled=False, optimizer="dense") == []
    assert cautioned(4, **by_plan, sparsity=0) == []


def test_pixels_of_images_without_labels_are_worth_a_look():
    (sentence,) = cautioned()
    assert "numbers from 0 to 1: if it was trained on others, give --mean and --std" in sentence
    assert cautioned(unlabelled=False) == cautioned(scaled=False) == cautioned(mean=(0.5,)) == []
    assert cautioned(from_="scratch") == []
