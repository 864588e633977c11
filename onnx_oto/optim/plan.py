"""Which step of a training run does what: observe, shrink, finish, done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_oto.errors import UsageError

# Shares of the whole run. An early choice leaves most of the run to the parameters that stay. Accuracy at 60 %
# of the groups, the same share in every dimension, for observe / shrink: 0.05/0.3 0.8624, 0.1/0.2 0.8612,
# 0.2/0.1 0.8600, 0.1/0.5 0.8595, 0.2/0.3 0.8593; dense 0.8758; dense with the compact widths 0.8588. (Residual
# net of 12-24-48 channels, 14x14 Fashion-MNIST, 10,000 training and all test images, 8 epochs, SGD with cosine
# from 0.1, batch 64, means of seeds 0-2, standard error about 0.001.)
OBSERVE = 0.05
SHRINK = 0.3
FINISH = 0.05

PLAN_OBSERVE = "Share of steps that train in full, before groups are chosen."
PLAN_SHRINK = "Share of steps in which the chosen groups shrink."
PLAN_FINISH = "Share of steps that scale what is left of them to zero."
ROUNDS = "In how many parts groups go, each chosen anew, at equal distances while they shrink."


@dataclass(frozen=True)
class Plan:
    """The phases of a sparsifying run, in optimizer steps.

    Steps [0, observe) are plain. At step `partition` = observe the groups to drop are chosen; they are
    pushed towards zero for `shrink` steps; what is left then is scaled to zero over `finish` steps. From
    step `deadline` on, exactly the chosen groups are zero and the rest trains on.
    """

    observe: int
    shrink: int
    finish: int

    def __post_init__(self) -> None:
        if self.observe < 0 or self.shrink < 0 or self.finish < 1:
            raise UsageError(f"{self}: observe and shrink must be at least 0 and finish at least 1 steps")

    @property
    def partition(self) -> int:
        """The step that chooses the groups to drop."""
        return self.observe

    @property
    def deadline(self) -> int:
        """The first step that starts with every chosen group at zero."""
        return self.fade + self.finish

    def phase(self, step: int) -> str:
        """Return "observe", "shrink", "finish" or "done" for a step counted from 0."""
        if step < self.observe:
            return "observe"
        if step < self.fade:
            return "shrink"
        return "finish" if step < self.deadline else "done"

    @property
    def fade(self) -> int:
        """The first step that scales what is left to zero."""
        return self.observe + self.shrink

    def rounds(self, count: int, until: int) -> tuple[int, ...]:
        """Return at most `count` steps, in order, that cut what is from the partition to `until` into equal parts.

        >>> Plan(20, 30, 5).rounds(3, until=50)
        (20, 30, 40)
        """
        span = max(until - self.observe, 1)
        count = min(count, span)
        return tuple(self.observe + span * each // count for each in range(count))

    @classmethod
    def of(
        cls, total: int, *, observe: float = OBSERVE, shrink: float = SHRINK, finish: float = FINISH
    ) -> Plan:
        """Return the plan for a run of `total` steps from shares of it, which add up to at most 1.

        >>> Plan.of(1000, observe=0.2, shrink=0.3, finish=0.05)
        Plan(observe=200, shrink=300, finish=50)
        """
        if total < 1:
            raise UsageError(f"a run of {total} steps: at least 1 is needed")
        require_shares(observe, shrink, finish)
        first = min(round(total * observe), total - 1)
        last = min(max(round(total * (observe + shrink + finish)), first + 1), total)
        tail = min(max(1, round(total * finish)), last - first)
        return cls(first, last - first - tail, tail)


SCORED = 16
"""Steps that groups are scored in for one choice, at most: a score reads every parameter and every gradient."""


def is_scored(step: int, choices: Sequence[int], most: int = SCORED) -> bool:
    """Return whether groups are scored in a step, for the choice that comes next.

    It is at most `most` steps at equal distances, in the second half of the time since the choice before: the last is
    that of the choice itself. choices: steps, in order; the time before the first begins at 0.

    >>> [step for step in range(12) if is_scored(step, (4, 8))]
    [2, 3, 4, 6, 7, 8]
    >>> [step for step in range(200) if is_scored(step, (100,), most=4)]
    [61, 74, 87, 100]
    """
    number = bisect_left(choices, step)
    if number == len(choices):
        return False
    end = choices[number]
    first = ((choices[number - 1] if number else 0) + end) // 2
    return step >= first and (end - step) % -(-(end - first + 1) // most) == 0


def require_shares(observe: float, shrink: float, finish: float) -> None:
    """Raise UsageError unless these can be shares of a run."""
    if not (min(observe, shrink, finish) >= 0 and observe + shrink + finish <= 1 + 1e-9):
        raise UsageError(
            f"plan: observe {observe:g}, shrink {shrink:g} and finish {finish:g} are shares of the run: "
            "give numbers from 0 that add up to at most 1"
        )


def require_share(name: str, share: float) -> None:
    """Raise UsageError unless this, which the user gave by `name`, can be a share of a run."""
    if not 0 <= share <= 1:
        raise UsageError(f"{name} is {share}: give a share of the run from 0 to 1")


def require_rounds(rounds: int) -> None:
    """Raise UsageError unless groups can be chosen so often."""
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}: give at least 1")
