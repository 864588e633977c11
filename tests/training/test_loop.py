"""Whole small runs on a plain numpy session.

Learning, sparsity, divergence, stopping, going on bit for bit.
"""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_oto.data import Batch, Dataset
from onnx_oto.errors import DataError, DivergedError, StorageError, UsageError
from onnx_oto.gradients.spec import Predict
from onnx_oto.optim import Dense, Dhspg, GroupIndex, Optimizer, Plan, Sgd
from onnx_oto.training import (
    ClipNorm,
    EpochEnded,
    Event,
    Keeper,
    MetricsFile,
    Observers,
    Places,
    Position,
    Recipe,
    Schedule,
    Skipped,
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
    assert recorder.events[0] == Started(epochs=4, steps_per_epoch=6, total=24, step=0, samples=16)
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
    assert list(dict.fromkeys(phases)) == ["observe", "shrink", "finish", "done"]
    assert history.score is not None
    assert history.score.value > 0.85


class Endless:
    """Any number of batches, made when they are asked for; it notes how many of them there were at once."""

    def __init__(self, samples: int) -> None:
        self.samples, self.most = samples, 0
        self.alive: list[None] = []  # appending is atomic

    def __len__(self) -> int:
        return self.samples

    def batch(self, indices: np.ndarray, rng: np.random.Generator | None) -> Batch:
        x = np.random.default_rng(int(indices[0])).standard_normal((len(indices), 6)).astype(np.float32)
        self.alive.append(None)
        self.most = max(self.most, len(self.alive))
        weakref.finalize(x, self.freed)
        return Batch({"x": x}, {"y": indices % 3}, indices)

    def freed(self) -> None:
        self.alive.pop()


@pytest.mark.parametrize("loaders", [1, 3])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_batches_are_gone_when_they_were_used(make_session: Any, loaders: int, accumulate: int) -> None:
    """In training and in evaluation: memory does not grow with the data."""
    source = Endless(1600)
    rules = recipe(
        2, batch=8, evaluation_batch=8, loaders=loaders, accumulate=accumulate, lr=lambda step: 1e-3
    )
    train(make_session(), Dense(Sgd(), SIZE), Dataset(source, source), rules)
    assert source.most <= loaders + 3
    assert not source.alive


def test_evaluation_can_be_rare_but_the_last_epoch_has_one(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    history = train(make_session(), Dense(Sgd(), SIZE), make_dataset(), recipe(5, evaluate_every=2))
    assert [epoch.value is not None for epoch in history.epochs] == [False, True, False, True, True]


@pytest.mark.parametrize("stop_at", [1, 5, 6, 13, 19])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("bad", [(), (4, 15)])
def test_stop_and_go_on_equals_an_uninterrupted_run(
    stop_at: int,
    accumulate: int,
    bad: tuple[int, ...],
    tmp_path: Path,
    make_session: Any,
    make_dataset: Callable[..., Dataset],
    hidden_units: GroupIndex,
) -> None:
    """Bit for bit: parameters, running statistics, optimizer state and history.

    Stopped before any batch: between the batches of a step too, and with steps that are skipped before and after.
    """
    data, path = make_dataset(), tmp_path / "state.npz"
    rules = recipe(accumulate=accumulate, skip_bad_steps=2, transforms=(ClipNorm(0.5),))
    total = total_steps(100, 16, 4, accumulate) - 2

    def session(seed: int = 0) -> Any:
        return Sick(make_session(seed), bad, loss=math.nan)

    whole, whole_optimizer = session(), dhspg(hidden_units, total)
    expected = train(whole, whole_optimizer, data, rules)
    assert expected.skipped == len(bad)

    first, asked = session(), iter(range(1000))
    stopped = train(
        first,
        dhspg(hidden_units, total),
        data,
        rules,
        stop=lambda: next(asked) >= stop_at,
        keeper=Keeper(Places(path)),
    )
    assert stopped.stopped
    assert first.steps % accumulate == 0 or bad
    second, optimizer = session(seed=99), dhspg(hidden_units, total)
    progress = restore(load_checkpoint(path), second, optimizer)
    assert second.steps == first.steps
    history = train(second, optimizer, data, rules, start=progress, keeper=Keeper(Places(path)))

    assert history.steps == expected.steps
    assert history.skipped == expected.skipped
    np.testing.assert_array_equal(second.params, whole.params)
    np.testing.assert_array_equal(second.statistics, whole.statistics)
    for key, value in whole_optimizer.state().items():
        np.testing.assert_array_equal(optimizer.state()[key], value)
    for one, other in zip(history.epochs, expected.epochs, strict=True):
        assert (one.loss, one.value, one.test_loss) == (other.loss, other.value, other.test_loss)
    assert history.score == expected.score
    assert second.steps == whole.steps


def test_a_checkpoint_is_written_every_epoch_and_knows_the_run(
    tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    path = tmp_path / "state.npz"
    session = make_session()
    train(
        session,
        Dense(Sgd(), SIZE),
        make_dataset(),
        recipe(2),
        keeper=Keeper(Places(path), {"model": "m.onnx"}),
    )
    content = load_checkpoint(path)
    assert content.run == {"model": "m.onnx"}
    assert (content.progress.epoch, content.progress.batch, content.progress.step) == (2, 0, 12)
    np.testing.assert_array_equal(content.params, session.params)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


class Sick:
    """A session that turns bad in its step numbers `when`, from 1: the loss, or one element of a gradient."""

    def __init__(
        self,
        session: Any,
        when: int | Collection[int],
        *,
        loss: float | None = None,
        gradient: float | None = None,
    ):
        self._session, self._loss, self._gradient = session, loss, gradient
        self._when = {when} if isinstance(when, int) else set(when)
        self.params, self.grads, self.slices = session.params, session.grads, session.slices
        self.statistics, self.statistic_slices = session.statistics, session.statistic_slices
        self.steps, self.rows = 0, None

    def step(self, batch: Mapping[str, np.ndarray], target: np.ndarray | None) -> float:
        loss = float(self._session.step(batch, target))
        self.steps += 1
        if self.steps not in self._when:
            return loss
        if self._loss is not None:
            self.statistics[:] = np.nan
        if self._gradient is not None:
            self.grads[50] = self._gradient
        return loss if self._loss is None else self._loss

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._session.predict(batch))

    def evaluating(self, samples: int) -> AbstractContextManager[Predict]:
        return nullcontext(self.predict)

    def weights(self) -> dict[str, np.ndarray]:
        return dict(self._session.weights())

    def close(self) -> None:
        """Nothing runs."""


class Linear:
    """loss = mean(x w): a gradient that is the mean of x, whatever w is; the running mean is BatchNorm's."""

    def __init__(self) -> None:
        self.slices = {"w": (0, (6,))}
        self.params, self.grads = np.zeros(6, np.float32), np.zeros(6, np.float32)
        self.statistics, self.statistic_slices = np.zeros(6, np.float32), {"mean": (0, (6,))}
        self.steps, self.rows = 0, None
        self.seen: list[np.ndarray] = []

    def step(self, batch: Mapping[str, np.ndarray], target: np.ndarray | None) -> float:
        self.seen.append(batch["x"])
        self.grads[:] = batch["x"].mean(axis=0)
        self.statistics[:] = 0.9 * self.statistics + 0.1 * self.grads
        self.steps += 1
        return float((batch["x"] @ self.params).mean())

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(batch["x"]), 3))

    def evaluating(self, samples: int) -> AbstractContextManager[Predict]:
        return nullcontext(self.predict)

    def weights(self) -> dict[str, np.ndarray]:
        return {"w": self.params.copy()}

    def close(self) -> None:
        """Nothing runs."""


@pytest.mark.parametrize(("batch", "accumulate"), [(20, 1), (10, 2), (5, 4), (4, 5)])
def test_accumulated_batches_are_one_large_batch(
    batch: int, accumulate: int, make_dataset: Callable[..., Dataset]
) -> None:
    """The same samples in the same steps, the mean of their gradients; statistics are updated by every batch."""
    sessions = Linear(), Linear()
    histories = [
        train(session, Dense(Sgd(weight_decay=0.0), 6), make_dataset(), rules)
        for session, rules in zip(
            sessions,
            (recipe(2, batch=20), recipe(2, batch=batch, accumulate=accumulate)),
            strict=True,
        )
    ]
    np.testing.assert_allclose(sessions[1].params, sessions[0].params, rtol=1e-5)
    assert histories[0].steps == histories[1].steps == 10
    assert histories[1].epochs[1].loss == pytest.approx(histories[0].epochs[1].loss, rel=1e-4)
    assert sessions[1].steps == 10 * accumulate
    mean = np.zeros(6, np.float32)
    for x in sessions[1].seen:
        mean = 0.9 * mean + 0.1 * x.mean(axis=0)
    np.testing.assert_allclose(sessions[1].statistics, mean, rtol=1e-4)


def test_the_rest_of_a_step_is_dropped_and_none_at_all_is_refused(
    make_dataset: Callable[..., Dataset],
) -> None:
    assert total_steps(100, 16, 3) == 18
    assert total_steps(100, 16, 3, accumulate=4) == 3
    session = Linear()
    train(session, Dense(Sgd(), 6), make_dataset(), recipe(3, accumulate=4))
    assert session.steps == 12
    with pytest.raises(
        DataError, match="100 samples: not one batch of 16, let alone 7 of them, which make a"
    ):
        train(Linear(), Dense(Sgd(), 6), make_dataset(), recipe(accumulate=7))


def test_a_long_gradient_is_scaled_to_the_limit(make_dataset: Callable[..., Dataset]) -> None:
    """Plain steps of rate 1 move by the mean gradient, or by `limit` in its direction."""
    free, held, loose = Linear(), Linear(), Linear()
    for session, transforms in ((free, ()), (held, (ClipNorm(0.01),)), (loose, (ClipNorm(1e3),))):
        rules = recipe(1, batch=50, lr=lambda step: 1.0, transforms=transforms)
        plain = Dense(Sgd(momentum=0.0, weight_decay=0.0), 6)
        asked = iter(range(10))
        train(session, plain, make_dataset(), rules, stop=lambda asked=asked: next(asked) >= 1)  # type: ignore[misc]
    assert np.linalg.norm(free.params) > 0.1
    np.testing.assert_allclose(held.params, free.params * (0.01 / np.linalg.norm(free.params)), rtol=1e-5)
    np.testing.assert_array_equal(loose.params, free.params)


def test_clipping_knows_gradients_whose_squares_overflow() -> None:
    grads = np.array([3e25, 0.0, -4e25], np.float32)
    ClipNorm(10.0)(grads)
    np.testing.assert_allclose(grads, [6.0, 0.0, -8.0], rtol=1e-6)
    with pytest.raises(UsageError, match="clip-norm 0: give a positive number"):
        ClipNorm(0)


@pytest.mark.parametrize("sickness", [{"loss": math.nan}, {"gradient": math.inf}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_bad_steps_are_skipped_without_a_trace_as_often_as_is_allowed(
    sickness: dict[str, float],
    accumulate: int,
    tmp_path: Path,
    make_session: Any,
    make_dataset: Callable[..., Dataset],
) -> None:
    """The first batch of the first step and one of the last are bad; statistics stay as they were before a bad step."""
    session, recorder = Sick(make_session(), (1, 20), **sickness), Recorder()
    before = session.params.copy()
    rules = recipe(accumulate=accumulate, skip_bad_steps=2)

    class Look(Recorder):
        def notice(self, event: Event) -> None:
            super().notice(event)
            if isinstance(event, Skipped) and event.skipped == 1:
                np.testing.assert_array_equal(session.params, before)
                assert not session.statistics.any()

    look = Look()
    with MetricsFile(tmp_path / "m.jsonl", every=1) as metrics:
        observers = Observers((recorder, look, metrics))
        history = train(session, Dense(Sgd(), SIZE), make_dataset(), rules, observer=observers)
    total = total_steps(100, 16, 4, accumulate)
    assert (history.steps, history.skipped) == (total - 2, 2)
    skipped = recorder.of(Skipped)
    assert (skipped[0].step, skipped[0].skipped, skipped[0].allowed) == (0, 1, 2)
    assert ("loss is nan" in skipped[0].reason) == ("loss" in sickness)
    steps = recorder.of(Stepped)
    assert [each.step for each in steps] == list(range(1, total - 1))
    last = recorder.events[-2]
    assert last.step + last.skipped == total  # type: ignore[union-attr]
    assert [each.skipped for each in recorder.of(EpochEnded)][-1] == 2
    first = recorder.of(EpochEnded)[0]
    assert first.loss == pytest.approx(np.mean([each.loss for each in steps if each.epoch == 1]))
    assert np.isfinite(session.statistics).all()
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "skipped" for line in lines) == 2


def test_one_bad_step_more_than_allowed_ends_training(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    session = Sick(make_session(), (3, 4, 5), gradient=math.nan)
    with pytest.raises(
        DivergedError, match=r"in step 3 the gradient of 'b1' is not finite \(2 steps were sk"
    ):
        train(session, Dense(Sgd(), SIZE), make_dataset(), recipe(skip_bad_steps=2))
    assert np.isfinite(session.params).all()
    assert session.steps == 5


def test_an_epoch_of_skipped_steps_alone_has_no_loss(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    session = Sick(make_session(), range(1, 7), loss=math.nan)
    history = train(session, Dense(Sgd(), SIZE), make_dataset(), recipe(2, skip_bad_steps=6))
    assert math.isnan(history.epochs[0].loss)
    assert math.isfinite(history.epochs[1].loss)
    assert (history.steps, history.skipped) == (6, 6)


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
            keeper=Keeper(Places(tmp_path / "s.npz", good=tmp_path / "good.npz")),
        )
    assert session.steps == 9
    assert len(recorder.of(Stepped)) == 8
    np.testing.assert_array_equal(session.params, good.params)
    assert np.isfinite(session.statistics).all()
    assert (tmp_path / "good.npz").read_bytes() == (tmp_path / "s.npz").read_bytes()
    assert load_checkpoint(tmp_path / "good.npz").progress.step == 6


def test_checkpoints_within_an_epoch_and_the_one_before(
    tmp_path: Path, make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """Each state of a run of two epochs of six steps is written; going on from the one before gives the same."""
    path, before = tmp_path / "s.npz", tmp_path / "before.npz"
    keeper = Keeper(Places(path, before), minutes=0)
    session, optimizer = make_session(), Dense(Sgd(), SIZE)
    seen: list[Position] = []

    class Watching:
        def notice(self, event: Any) -> None:
            if isinstance(event, Stepped) and event.step > 1:
                keeper.finish()
                seen.append(load_checkpoint(path).progress)
                if event.step > 2:
                    assert load_checkpoint(before).progress == seen[-2]

    train(session, optimizer, make_dataset(), recipe(2), keeper=keeper, observer=Watching())
    assert [position.step for position in seen] == list(range(1, 12))
    second, other = make_session(seed=9), Dense(Sgd(), SIZE)
    start = restore(load_checkpoint(before), second, other)
    assert (start.epoch, start.batch, start.step) == (1, 5, 11)
    train(second, other, make_dataset(), recipe(2), start=start)
    np.testing.assert_array_equal(second.params, session.params)


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
        train(session, Dense(Sgd(), SIZE), make_dataset(), short, keeper=Keeper(Places(tmp_path / "s.npz")))
    np.testing.assert_array_equal(session.params, good.params)
    assert load_checkpoint(tmp_path / "s.npz").progress == Position()


def test_a_running_statistic_that_is_not_finite_is_noticed(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    session = make_session()
    guard = Guard(session)
    session.statistics[2] = np.nan
    with pytest.raises(DivergedError, match="running statistic 'mean' became nan"):
        guard.check_state(step=3, lr=0.1)
    assert np.isfinite(session.statistics).all()
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
    keys = "kind epoch step loss lr phase zeroed target seconds skipped waited"
    assert set(lines[0]) == set(keys.split())
    assert set(lines[1]) == {
        *lines[0],
        *("metric", "value", "test_loss", "further", "split", "best"),
    }
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_metrics_on_a_full_disk() -> None:
    """What could not be written is written again when the file is closed, which fails too."""
    step = Stepped(1, 1, 10, 0.5, 0.1, "done", 0, None, 0.1)
    with (
        pytest.raises(StorageError, match="cannot write '/dev/full': No space left"),
        MetricsFile("/dev/full", every=1) as metrics,
    ):
        metrics.notice(step)


def test_what_cannot_be_trained_is_refused(make_session: Any, make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="10 samples: not one batch of 16; choose a smaller batch"):
        train(make_session(), Dense(Sgd(), SIZE), make_dataset(10), recipe())
    with pytest.raises(UsageError, match="epochs is 0"):
        Recipe(0, 16, lambda step: 0.1, "cross-entropy")
