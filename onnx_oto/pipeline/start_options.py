"""What `train` is asked for of the state that a model comes in, and what that sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from onnx_oto.errors import UsageError
from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import milestones, share, share_above_zero

Start = Literal["scratch", "trained"]


PLAN = frozenset({"plan_observe", "plan_shrink", "plan_finish", "plan_wait"})
"""Options of optimizers that are shares of one whole: who gives one of them gives the plan."""


@dataclass(frozen=True)
class Pace:
    """How a model in some state is trained. rate: of the learning rate of the direction. plan: of the optimizer."""

    rate: float
    schedule: str
    warm_up: float
    plan: Mapping[str, float] = field(default_factory=dict)


class Falls(NamedTuple):
    """Where a learning rate falls, as shares of the steps, and what it is multiplied by."""

    milestones: tuple[float, ...]
    factor: float


STEP = Falls((0.5, 0.75), 0.1)
SCRATCH = Pace(1.0, "cosine", 0.05, {"plan_wait": 0.25})
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
    milestones: tuple[float, ...] = setting(
        (),
        "Shares of the steps behind the warm-up at which the learning rate of the step schedule falls.",
        check=milestones,
        shown=",".join(f"{share:g}" for share in STEP.milestones),
    )
    lr_factor: float | None = setting(
        None,
        "What the step schedule multiplies the learning rate by at each of them.",
        check=share_above_zero,
        shown=f"{STEP.factor:g}",
    )
    warm_up: float | None = setting(
        None, "Share of steps in which the learning rate rises.", check=share, shown=f"{SCRATCH.warm_up:g}"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in (None, "step"):
            for name in ("milestones", "lr_factor"):
                if getattr(self, name) not in ((), None):
                    raise UsageError(
                        f"{name.replace('_', '-')} is for the step schedule: give --schedule step"
                    )

    def falls(self) -> Falls:
        """Return where the step schedule falls, and to what."""
        factor = STEP.factor if self.lr_factor is None else self.lr_factor
        return Falls(self.milestones or STEP.milestones, factor)

    def pace(self, *, normed: bool = True, cut: bool = False) -> Pace:
        """Return how the model is trained: what is given, the rest by its state.

        normed: whether layers have norms. cut: whether groups went before the first step.
        """
        has_falls = bool(self.milestones) or self.lr_factor is not None
        plain = TRAINED_PLAIN_CUT if cut else TRAINED_PLAIN
        pace = SCRATCH if self.from_ != "trained" else TRAINED if normed else plain
        return replace(
            pace,
            schedule=self.schedule or ("step" if has_falls else pace.schedule),
            warm_up=pace.warm_up if self.warm_up is None else self.warm_up,
        )
