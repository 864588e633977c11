"""Whole small runs on a plain numpy session.

Learning, sparsity, divergence, stopping, going on bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_oto.data import Dataset
from onnx_oto.errors import DataError, DivergedError, StorageError, UsageError
from onnx_oto.optim import Dense, Dhspg, GroupIndex, Optimizer, Plan, Sgd
from onnx_oto.training import (
    EpochEnded,
    Event,
    MetricsFile,
    Observers,
    Recipe,
    Schedule,
    Started,
    Stepped,
    load_checkpoint,
    restore,
    total_steps,
    train,
)
from onnx_oto.training.guard import Guard

SIZE = 6 * 8 + 8 + 8 * 3


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def recipe(epochs: int = 4, **changes: Any) -> Recipe:
    schedule = Schedule("cosine", 0.2, total_steps(100, 16, epochs), warm_up=3)
    return Recipe(
        **{"epochs": epochs, "batch": 16, "lr": schedule, "loss": "cross-entropy", "seed": 5, **changes}
    )


def dhspg(groups: GroupIndex, total: int = 24, drop: int = 5) -> Dhspg:
    def lowest(scores: np.ndarray) -> np.ndarray:
        chosen = np.zeros(len(scores), np.bool_)
        chosen[np.argsort(scores, kind="stable")[:drop]] = True
        return chosen

    return Dhspg(Sgd(weight_decay=1e-3), SIZE, groups, lowest, Plan.of(total))


def test_it_learns_and_reports(make_session: Any, make_dataset: Callable[..., Dataset]) -> None:
    """Accuracy 0.9 on three blobs after four epochs; every step and epoch is told, in order."""
    session, recorder = make_session(), Recorder()
    history = train(session, Dense(Sgd(), SIZE), make_dataset(), recipe(), observer=recorder)
    assert history.score is not None
    assert history.score.metric == "accuracy"
    assert history.score.value > 0.9
    assert (history.steps, history.stopped, len(history.epochs)) == (24, False, 4)
    assert recorder.events[0] == Started(epochs=4, steps_per_epoch=6, total=24, step=0)
    steps, epochs = recorder.of(Stepped), recorder.of(EpochEnded)
    assert [step.step for step in steps] == list(range(1, 25))
    assert [(epoch.epoch, epoch.step) for epoch in epochs] == [(1, 6), (2, 12), (3, 18), (4, 24)]
    assert epochs[0].loss == pytest.approx(np.mean([step.loss for step in steps[:6]]))
    assert epochs[3].value == history.score.value
    assert epochs[3].loss < epochs[0].loss / 2
    assert steps[0].lr == recipe().lr(0)


def test_the_target_is_met_and_the_rest_still_predicts(
    make_session: Any, make_dataset: Callable[..., Dataset], hidden_units: GroupIndex
) -> None:
    session, recorder = make_session(), Recorder()
    optimizer = dhspg(hidden_units)
    history = train(session, optimizer, make_dataset(), recipe(), observer=recorder)
    assert np.count_nonzero(hidden_units.square_norms(session.params) == 0) == 5
    last = recorder.of(Stepped)[-1]
    assert (last.zeroed, last.target, last.phase) == (5, 5, "done")
    phases = [step.phase for step in recorder.of(Stepped)]
    assert list(dict.fromkeys(phases)) == ["warm-up", "shrink", "finish", "done"]
    assert history.score is not None
    assert history.score.value > 0.85


def test_evaluation_can_be_rare_but_the_last_epoch_has_one(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    history = train(make_session(), Dense(Sgd(), SIZE), make_dataset(), recipe(5, evaluate_every=2))
    assert [epoch.value is not None for epoch in history.epochs] == [False, True, False, True, True]


@pytest.mark.parametrize("stop_at", [1, 5, 6, 13, 23])
def test_stop_and_go_on_equals_an_uninterrupted_run(
    stop_at: int,
    tmp_path: Path,
    make_session: Any,
    make_dataset: Callable[..., Dataset],
    hidden_units: GroupIndex,
) -> None:
    """Bit for bit: parameters, running statistics, optimizer state and history.

    Stopped anywhere in an epoch.
    """
    data, path = make_dataset(), tmp_path / "state.npz"
    whole, whole_optimizer = make_session(), dhspg(hidden_units)
    expected = train(whole, whole_optimizer, data, recipe())

    first, asked = make_session(), iter(range(1000))
    stopped = train(
        first, dhspg(hidden_units), data, recipe(), stop=lambda: next(asked) >= stop_at, checkpoint=path
    )
    assert stopped.stopped
    assert stopped.steps == stop_at
    second, optimizer = make_session(seed=99), dhspg(hidden_units)
    progress = restore(load_checkpoint(path), second, optimizer)
    assert second.steps == stop_at
    history = train(second, optimizer, data, recipe(), start=progress, checkpoint=path)

    np.testing.assert_array_equal(second.params, whole.params)
    np.testing.assert_array_equal(second.buffers["mean"], whole.buffers["mean"])
    for key, value in whole_optimizer.state().items():
        np.testing.assert_array_equal(optimizer.state()[key], value)
    for one, other in zip(history.epochs, expected.epochs, strict=True):
        assert (one.loss, one.value, one.test_loss) == (other.loss, other.value, other.test_loss)
    assert history.score == expected.score


def test_a_checkpoint_is_written_every_epoch_and_knows_the_run(
    tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    path = tmp_path / "state.npz"
    session = make_session()
    train(session, Dense(Sgd(), SIZE), make_dataset(), recipe(2), checkpoint=path, run={"model": "m.onnx"})
    content = load_checkpoint(path)
    assert content.run == {"model": "m.onnx"}
    assert (content.progress.epoch, content.progress.batch, content.progress.step) == (2, 0, 12)
    np.testing.assert_array_equal(content.params, session.params)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


class Sick:
    """A session that turns bad in its step number `when`: the loss, or one element of a gradient."""

    def __init__(self, session: Any, when: int, *, loss: float | None = None, gradient: float | None = None):
        self._session, self._when, self._loss, self._gradient = session, when, loss, gradient
        self.params, self.grads, self.slices = session.params, session.grads, session.slices
        self.buffers, self.steps = session.buffers, 0

    def step(self, batch: Mapping[str, np.ndarray], target: np.ndarray | None) -> float:
        loss = float(self._session.step(batch, target))
        self.steps += 1
        if self.steps != self._when:
            return loss
        if self._loss is not None:
            self.buffers["mean"][:] = np.nan
        if self._gradient is not None:
            self.grads[50] = self._gradient
        return loss if self._loss is None else self._loss

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._session.predict(batch))

    def weights(self) -> dict[str, np.ndarray]:
        return dict(self._session.weights())

    def close(self) -> None:
        """Nothing runs."""


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_ends_training_in_that_step_with_the_parameters_before(
    loss: float, tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """Step 9 is bad, perhaps because of step 8's update: the parameters that step 8 began with are good."""
    good, recorder = make_session(), Recorder()
    asked = iter(range(100))
    train(good, Dense(Sgd(), SIZE), make_dataset(), recipe(), stop=lambda: next(asked) >= 7)
    session = Sick(make_session(), 9, loss=loss)
    with pytest.raises(DivergedError, match=rf"in step 9 the loss is {loss}.*Lower the learning rate"):
        train(
            session,
            Dense(Sgd(), SIZE),
            make_dataset(),
            recipe(),
            observer=recorder,
            checkpoint=tmp_path / "s.npz",
        )
    assert session.steps == 9
    assert len(recorder.of(Stepped)) == 8
    np.testing.assert_array_equal(session.params, good.params)
    assert np.isfinite(session.buffers["mean"]).all()
    assert load_checkpoint(tmp_path / "s.npz").progress.step == 6


def test_a_bad_gradient_is_named_before_it_is_used(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    session = Sick(make_session(), 1, gradient=math.inf)
    before = session.params.copy()
    with pytest.raises(DivergedError, match="in step 1 the gradient of 'b1' is not finite"):
        train(session, Dense(Sgd(), SIZE), make_dataset(), recipe())
    np.testing.assert_array_equal(session.params, before)


def test_a_last_step_that_diverges_is_noticed_before_anything_is_written(
    tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """No later loss or gradient shows what the last update did."""
    last = total_steps(len(make_dataset().train), 16, 1)
    short = recipe(1, lr=lambda step: math.inf if step == last - 1 else 0.1)
    good, asked = make_session(), iter(range(100))
    train(good, Dense(Sgd(), SIZE), make_dataset(), short, stop=lambda: next(asked) >= last - 1)
    session = make_session()
    with pytest.raises(DivergedError, match=rf"in step {last} parameter 'w1' became nan.*Lower the"):
        train(session, Dense(Sgd(), SIZE), make_dataset(), short, checkpoint=tmp_path / "s.npz")
    np.testing.assert_array_equal(session.params, good.params)
    assert not (tmp_path / "s.npz").exists()


def test_a_running_statistic_that_is_not_finite_is_noticed(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    session = make_session()
    guard = Guard(session)
    session.buffers["mean"][2] = np.nan
    with pytest.raises(DivergedError, match="running statistic 'mean' became nan"):
        guard.check_state(step=3, lr=0.1)
    assert np.isfinite(session.buffers["mean"]).all()
    with pytest.raises(DivergedError, match="in step 3 the loss on the test data became nan"):
        guard.check_score(math.nan, step=3, lr=0.1)


def test_large_finite_gradients_are_not_mistaken_for_divergence(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """The dot product of the gradient overflows float32, every element is finite."""
    session = Sick(make_session(), 2, gradient=1e25)
    asked = iter(range(100))
    optimizer: Optimizer = Dense(Sgd(momentum=0.0), SIZE)
    train(session, optimizer, make_dataset(), recipe(), stop=lambda: next(asked) >= 2)
    assert session.params[50] < -1e20


def test_metrics_are_one_json_object_per_line(
    tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path, every=4) as metrics:
        train(make_session(), Dense(Sgd(), SIZE), make_dataset(), recipe(2), observer=Observers((metrics,)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("step", 4),
        ("epoch", 6),
        ("step", 8),
        ("step", 12),
        ("epoch", 12),
    ]
    assert set(lines[0]) == {"kind", "epoch", "step", "loss", "lr", "phase", "zeroed", "target", "seconds"}
    assert set(lines[1]) == {*lines[0], "metric", "value", "test_loss", "further"}
    assert lines[1]["metric"] == "accuracy"
    with MetricsFile(path) as metrics:
        metrics.notice(Stepped(1, 10, 10, math.nan, 0.1, "done", 0, None, 0.1))
    last = path.read_text().splitlines()[-1]
    assert len(path.read_text().splitlines()) == 6
    assert json.loads(last)["loss"] is None


def test_metrics_reach_the_disk_while_training_runs(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path, every=1) as metrics:
        metrics.notice(Stepped(1, 1, 10, 0.5, 0.1, "done", 0, None, 0.1))
        assert json.loads(path.read_text())["loss"] == 0.5


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere"):
        MetricsFile(tmp_path / "nowhere" / "metrics.jsonl")


def test_what_cannot_be_trained_is_refused(make_session: Any, make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="10 samples: not one batch of 16; choose a smaller batch"):
        train(make_session(), Dense(Sgd(), SIZE), make_dataset(10), recipe())
    with pytest.raises(UsageError, match="epochs is 0"):
        Recipe(0, 16, lambda step: 0.1, "cross-entropy")
