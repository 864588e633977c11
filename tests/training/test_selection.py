"""What is handed back: the best epoch by validation data, the moving average; both go on bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_oto.data import Batch, Dataset
from onnx_oto.optim import Dense, Dhspg, GroupIndex, Plan, Sgd
from onnx_oto.training import (
    Average,
    Best,
    EpochEnded,
    Event,
    Keeper,
    Kept,
    Places,
    Recipe,
    Schedule,
    Score,
    Selection,
    load_checkpoint,
    restore,
    total_steps,
    train,
)

SIZE = 6 * 8 + 8 + 8 * 3


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Never:
    """Data that nobody may look at."""

    def __len__(self) -> int:
        return 60

    def batch(self, indices: Any, rng: Any) -> Batch:
        raise AssertionError("the test data were used")


def recipe(epochs: int = 6, lr: float = 0.2, **changes: Any) -> Recipe:
    schedule = Schedule("constant", lr, total_steps(100, 16, epochs))
    return Recipe(epochs, 16, schedule, "cross-entropy", **{"seed": 5, **changes})


def dhspg(groups: GroupIndex, total: int = 36, drop: int = 5) -> Dhspg:
    def lowest(scores: np.ndarray, share: float = 1.0, gone: Any = None) -> np.ndarray:
        chosen = np.zeros(len(scores), np.bool_)
        chosen[np.argsort(scores, kind="stable")[:drop]] = True
        return chosen

    return Dhspg(Sgd(weight_decay=1e-3), SIZE, groups, lowest, Plan.of(total))


def with_val(data: Dataset) -> Dataset:
    return replace(data, val=data.test, test=Never())


def score(value: float, loss: float = 1.0, better: Any = "higher") -> Score:
    return Score("accuracy", value, loss, 10, better=better)


def test_the_average_is_the_formula(make_session: Any) -> None:
    """float32 against float64 over 200 steps: 1e-5."""
    session, rng = make_session(), np.random.default_rng(0)
    average, expected = Average(session, 0.9), session.params.astype(np.float64)
    means = session.statistics.astype(np.float64)
    for step in range(1, 201):
        session.params[:] = rng.standard_normal(SIZE) + 0.1
        session.statistics[:] = rng.standard_normal(6)
        average.add()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * session.params
        means = decay * means + (1 - decay) * session.statistics
    raw = session.params.copy()
    with average.shown():
        np.testing.assert_allclose(session.params, expected, atol=1e-5)
        np.testing.assert_allclose(session.statistics, means, atol=1e-5)
    np.testing.assert_array_equal(session.params, raw)


def test_what_does_not_move_stays_to_the_last_bit(make_session: Any) -> None:
    """Held parameters and running statistics that are fixed."""
    session = make_session()
    average = Average(session, 0.999)
    for _ in range(50):
        average.add()
    before = session.params.copy()
    average.show()
    np.testing.assert_array_equal(session.params, before)


def test_groups_that_are_zero_are_zero_in_the_average(
    make_session: Any, make_dataset: Callable[..., Dataset], hidden_units: GroupIndex
) -> None:
    session, recorder = make_session(), Recorder()
    selection = Selection.of(session, ema=0.99)
    history = train(
        session, dhspg(hidden_units), make_dataset(), recipe(), observer=recorder, selection=selection
    )
    zero = hidden_units.square_norms(session.params) == 0
    assert np.count_nonzero(zero) == 5
    assert history.kept == recorder.of(Kept)[0]
    assert history.kept is not None
    assert (history.kept.averaged, history.kept.split, history.kept.epoch) == (True, None, 6)
    plain = make_session()
    train(plain, dhspg(hidden_units), make_dataset(), recipe())
    np.testing.assert_array_equal(hidden_units.square_norms(plain.params) == 0, zero)
    assert not np.array_equal(plain.params, session.params)


def test_validation_data_are_used_and_test_data_are_not(
    make_session: Any, make_dataset: Callable[..., Dataset], hidden_units: GroupIndex
) -> None:
    """The best epoch that meets the target is handed back, whatever came after it."""
    session, recorder = make_session(), Recorder()
    data = with_val(make_dataset())
    selection = Selection.of(session, choose=True)
    rules = recipe(lr=1.5)  # restless: the last epoch need not be the best
    history = train(session, dhspg(hidden_units), data, rules, observer=recorder, selection=selection)
    epochs: list[EpochEnded] = recorder.of(EpochEnded)
    assert {epoch.split for epoch in epochs} == {"val"}
    met = [epoch for epoch in epochs if epoch.zeroed == epoch.target == 5]
    assert met
    assert not any(epoch.best for epoch in epochs if epoch not in met)
    best = max(met, key=lambda epoch: (epoch.value or 0, -(epoch.test_loss or 0)))
    assert history.kept is not None
    assert (history.kept.epoch, history.kept.value, history.kept.split) == (best.epoch, best.value, "val")
    assert [epoch for epoch in epochs if epoch.best][-1].epoch == best.epoch
    assert np.count_nonzero(hidden_units.square_norms(session.params) == 0) == 5
    again = make_session()
    asked = iter(range(1000))
    train(again, dhspg(hidden_units), make_dataset(), rules, stop=lambda: next(asked) >= best.step)
    np.testing.assert_array_equal(again.params, session.params)
    np.testing.assert_array_equal(again.statistics, session.statistics)


def test_patience_counts_once_the_target_is_met(make_session: Any, hidden_units: GroupIndex) -> None:
    session, optimizer = make_session(), dhspg(hidden_units)
    best = Best(session, patience=2)
    assert not best.judge(1, score(0.9), optimizer)  # nothing was chosen yet
    dense = Dense(Sgd(), SIZE)
    assert [best.judge(epoch, score(value), dense) for epoch, value in ((2, 0.5), (3, 0.4), (4, 0.6))] == [
        True,
        False,
        True,
    ]
    assert not best.is_enough
    assert not best.judge(5, score(0.6, 1.5), dense)
    assert not best.is_enough
    assert not best.judge(6, score(math.nan), dense)
    assert best.is_enough
    assert best.epoch == 4


def test_the_loss_decides_between_equal_metrics_and_lower_may_be_better(make_session: Any) -> None:
    dense = Dense(Sgd(), SIZE)
    equal = Best(make_session())
    found = [equal.judge(i, score(1.0, loss), dense) for i, loss in enumerate((0.5, 0.6, 0.4), start=1)]
    assert found == [True, False, True]
    lower = Best(make_session())
    found = [lower.judge(i, score(v, better="lower"), dense) for i, v in enumerate((0.5, 0.6, 0.4), start=1)]
    assert found == [True, False, True]
    unclear = Best(make_session())
    assert unclear.judge(1, score(math.nan), dense)
    assert unclear.judge(2, score(0.1), dense)


def test_training_ends_early_and_hands_the_best_back(
    make_session: Any, make_dataset: Callable[..., Dataset]
) -> None:
    """With a learning rate of next to nothing the first epoch's score stays what it is."""
    session, recorder = make_session(), Recorder()
    selection = Selection.of(session, choose=True, patience=2)
    rules = recipe(20, lr=1e-30)
    history = train(
        session, Dense(Sgd(), SIZE), with_val(make_dataset()), rules, observer=recorder, selection=selection
    )
    ended = recorder.of(EpochEnded)
    assert len(ended) < 20
    assert not history.stopped
    assert history.kept is not None
    assert history.kept.early
    assert history.kept.epochs == len(ended) == history.kept.epoch + 2


@pytest.mark.parametrize("stop_at", [1, 14, 20, 26, 31])
@pytest.mark.parametrize("kind", ["average", "best", "both"])
def test_stop_and_go_on_equals_an_uninterrupted_run(
    stop_at: int,
    kind: str,
    tmp_path: Path,
    make_session: Any,
    make_dataset: Callable[..., Dataset],
    hidden_units: GroupIndex,
) -> None:
    """Bit for bit: what is handed back, which epoch it is, and when training ends."""
    data, path, rules = make_dataset(), tmp_path / "state.npz", recipe(lr=1.5)
    if kind != "average":
        data = with_val(data)

    def selection(session: Any) -> Selection:
        return Selection.of(
            session, ema=None if kind == "best" else 0.9, choose=kind != "average", patience=3
        )

    whole = make_session()
    expected = train(whole, dhspg(hidden_units), data, rules, selection=selection(whole))

    first, asked = make_session(), iter(range(1000))
    chosen = selection(first)
    train(
        first,
        dhspg(hidden_units),
        data,
        rules,
        stop=lambda: next(asked) >= stop_at,
        keeper=Keeper(Places(path), parts=chosen.parts),
        selection=chosen,
    )
    second, optimizer = make_session(9), dhspg(hidden_units)
    kept = selection(second)
    start = restore(load_checkpoint(path), second, optimizer, kept.parts)
    found = train(second, optimizer, data, rules, start=start, selection=kept)
    assert found.kept == expected.kept
    np.testing.assert_array_equal(second.params, whole.params)
    np.testing.assert_array_equal(second.statistics, whole.statistics)


def test_a_stopped_run_hands_nothing_back(make_session: Any, make_dataset: Callable[..., Dataset]) -> None:
    """The session holds the parameters of the last step, as the checkpoint does."""
    session, plain = make_session(), make_session()
    for each, selection in ((session, Selection.of(session, ema=0.9, choose=True)), (plain, None)):
        asked = iter(range(1000))
        history = train(
            each,
            Dense(Sgd(), SIZE),
            replace(make_dataset(), val=make_dataset().test),
            recipe(),
            stop=lambda asked=asked: next(asked) >= 15,  # type: ignore[misc]
            selection=selection,
        )
        assert history.kept is None
    np.testing.assert_array_equal(session.params, plain.params)
