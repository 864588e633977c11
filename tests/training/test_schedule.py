"""Learning rates by hand."""

from __future__ import annotations

import math
import pickle

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.training import Schedule


def test_warm_up_rises_linearly_to_the_base() -> None:
    rate = Schedule("constant", 0.8, 100, warm_up=4)
    assert [rate(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_cosine_falls_from_base_to_last() -> None:
    rate = Schedule("cosine", 1.0, 110, warm_up=10, last=0.2)
    assert rate(10) == pytest.approx(1.0)
    assert rate(60) == pytest.approx(0.6)
    assert rate(35) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate(110) == rate(500) == pytest.approx(0.2)
    rates = [rate(step) for step in range(10, 110)]
    assert rates == sorted(rates, reverse=True)


def test_steps_fall_at_the_milestones() -> None:
    rate = Schedule("step", 1.0, 100, milestones=(0.5, 0.75), factor=0.1)
    assert [rate(step) for step in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_schedule_is_a_value() -> None:
    rate = Schedule("cosine", 0.1, 10, warm_up=2)
    assert pickle.loads(pickle.dumps(rate)) == rate


def test_a_run_that_is_all_warm_up() -> None:
    rate = Schedule("cosine", 1.0, 2, warm_up=2)
    assert [rate(0), rate(1), rate(2)] == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wave", 0.1, 10), "schedule 'wave': choose one of constant, step, cosine"),
        (("cosine", 0.0, 10), "learning rate 0.0"),
        (("cosine", math.nan, 10), "learning rate nan"),
        (("cosine", 0.1, 10, 11), "warm-up of 11 steps: the run has 10"),
    ],
)
def test_nonsense_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Schedule(*arguments)  # type: ignore[arg-type]
