"""What `train` is asked for of the state that a model comes in, and what that sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import share

Start = Literal["scratch", "trained"]


PLAN = frozenset({"plan_observe", "plan_shrink", "plan_finish"})
"""Options of optimizers that are shares of one whole: who gives one of them gives the plan."""


@dataclass(frozen=True)
class Pace:
    """How a model in some state is trained. rate: of the learning rate of the direction. plan: of the optimizer."""

    rate: float
    schedule: str
    warm_up: float
    plan: Mapping[str, float] = field(default_factory=dict)


SCRATCH = Pace(1.0, "cosine", 0.05)
TRAINED = Pace(0.3, "cosine", 0.05, {"plan_observe": 0.05, "plan_shrink": 0.15})
TRAINED_PLAIN = Pace(0.1, "cosine", 0.05, {"plan_observe": 0.05, "plan_shrink": 0.15})
"""Of a model without norms, which large steps destroy. Chosen by the runs in docs/results.md."""
TRAINED_PLAIN_CUT = replace(TRAINED_PLAIN, rate=0.03)
"""Of one whose layers were fitted anew: little is left to learn, and much to destroy."""


def _schedules() -> Iterable[str]:
    from onnx_oto.training.schedule import SHAPES

    return SHAPES


@dataclass(frozen=True, kw_only=True)
class StartOptions(Settings, topic=topics.STEP):
    """How the model comes, and what depends on it unless it is given."""

    from_: Literal["auto", "scratch", "trained"] = setting(
        "auto",
        "Whether the model was trained before; auto finds out. It decides learning rate, schedule, warm-up and when "
        "groups are chosen, where these are not given.",
    )
    schedule: str | None = setting(
        None, "How the learning rate falls.", choices=_schedules, shown=SCRATCH.schedule
    )
    warm_up: float | None = setting(
        None, "Share of steps in which the learning rate rises.", check=share, shown=f"{SCRATCH.warm_up:g}"
    )

    def pace(self, *, normed: bool = True, cut: bool = False) -> Pace:
        """Return how the model is trained: what is given, the rest by its state.

        normed: whether layers have norms. cut: whether groups went before the first step.
        """
        plain = TRAINED_PLAIN_CUT if cut else TRAINED_PLAIN
        pace = SCRATCH if self.from_ != "trained" else TRAINED if normed else plain
        return replace(
            pace,
            schedule=self.schedule or pace.schedule,
            warm_up=pace.warm_up if self.warm_up is None else self.warm_up,
        )
