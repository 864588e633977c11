"""The phases of a run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.errors import UsageError
from onnx_oto.optim.plan import Plan


def test_the_phases_in_order() -> None:
    plan = Plan(2, 3, 1)
    phases = [plan.phase(step) for step in range(8)]
    assert phases == ["observe"] * 2 + ["shrink"] * 3 + ["finish"] + ["done"] * 2
    assert (plan.partition, plan.deadline) == (2, 6)


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_shares_always_give_a_plan_that_ends_within_the_run(total: int, a: float, b: float, c: float) -> None:
    whole = max(a + b + c, 1.0)
    plan = Plan.of(total, observe=a / whole, shrink=b / whole, finish=c / whole)
    assert plan.deadline <= total
    assert plan.finish >= 1


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.1), (-0.1, 0.5, 0.1)])
def test_shares_beyond_the_run_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="shares of the run"):
        Plan.of(100, observe=shares[0], shrink=shares[1], finish=shares[2])


def test_a_plan_without_a_last_step_is_refused() -> None:
    with pytest.raises(UsageError, match="finish at least 1"):
        Plan(1, 1, 0)
    with pytest.raises(UsageError, match="a run of 0 steps"):
        Plan.of(0)


def test_more_rounds_than_steps_are_as_many_as_steps() -> None:
    assert Plan(3, 4, 1).rounds(10**12, until=7) == (3, 4, 5, 6)
    assert Plan(3, 0, 1).rounds(5, until=3) == (3,)
