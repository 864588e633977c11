"""Which step of a training run does what: warm-up, shrink, finish, done."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_oto.errors import UsageError

# Shares of the whole run. Chosen by experiment, see docs/training.md.
WARM_UP = 0.2
SHRINK = 0.3
FINISH = 0.05


@dataclass(frozen=True)
class Plan:
    """The phases of a sparsifying run, in optimizer steps.

    Steps [0, warm_up) are plain. At step `partition` = warm_up the groups to drop are chosen; they are
    pushed towards zero for `shrink` steps; what is left then is scaled to zero over `finish` steps. From
    step `deadline` on, exactly the chosen groups are zero and the rest trains on.
    """

    warm_up: int
    shrink: int
    finish: int

    def __post_init__(self) -> None:
        if self.warm_up < 0 or self.shrink < 0 or self.finish < 1:
            raise UsageError(f"{self}: warm_up and shrink must be at least 0 and finish at least 1 steps")

    @property
    def partition(self) -> int:
        """The step that chooses the groups to drop."""
        return self.warm_up

    @property
    def deadline(self) -> int:
        """The first step that starts with every chosen group at zero."""
        return self.warm_up + self.shrink + self.finish

    def phase(self, step: int) -> str:
        """Return "warm-up", "shrink", "finish" or "done" for a step counted from 0."""
        if step < self.warm_up:
            return "warm-up"
        if step < self.warm_up + self.shrink:
            return "shrink"
        return "finish" if step < self.deadline else "done"

    @classmethod
    def of(
        cls, total: int, *, warm_up: float = WARM_UP, shrink: float = SHRINK, finish: float = FINISH
    ) -> Plan:
        """Return the plan for a run of `total` steps from shares of it, which add up to at most 1.

        >>> Plan.of(1000, warm_up=0.2, shrink=0.3, finish=0.05)
        Plan(warm_up=200, shrink=300, finish=50)
        """
        if total < 1:
            raise UsageError(f"a run of {total} steps: at least 1 is needed")
        if min(warm_up, shrink, finish) < 0 or warm_up + shrink + finish > 1 + 1e-9:
            raise UsageError(
                f"warm-up {warm_up:g}, shrink {shrink:g} and finish {finish:g} are shares of the run: "
                "give numbers from 0 that add up to at most 1"
            )
        first = min(round(total * warm_up), total - 1)
        last = min(max(round(total * (warm_up + shrink + finish)), first + 1), total)
        tail = min(max(1, round(total * finish)), last - first)
        return cls(first, last - first - tail, tail)
