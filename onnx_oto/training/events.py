"""What a training run tells whoever watches it. The loop itself prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on after `step` of `total` steps, `skipped` left out. samples: of one step."""

    epochs: int
    steps_per_epoch: int
    total: int
    step: int
    skipped: int = 0
    samples: int = 0


@dataclass(frozen=True)
class Stepped:
    """One optimizer step is done. step: steps taken so far; skipped: those left out; seconds: of this step.

    loss: the mean over the batches of the step. waited: seconds of it until these were there. Epoch counts from 1.
    """

    epoch: int
    step: int
    total: int
    loss: float
    lr: float
    phase: str
    zeroed: int
    target: int | None
    seconds: float
    skipped: int = 0
    waited: float = 0.0


@dataclass(frozen=True)
class PutOff:
    """Groups are not chosen yet, because the loss has not begun to fall. step: steps taken so far."""

    epoch: int
    step: int
    total: int
    loss: float


@dataclass(frozen=True)
class Skipped:
    """A step was left out and its batches with it, because of `reason`: nothing has changed.

    step: steps taken so far; skipped: those left out, with this one, of the `allowed`.
    """

    epoch: int
    step: int
    total: int
    reason: str
    skipped: int
    allowed: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is done. loss: mean of the losses of its steps; skipped: steps left out so far.

    metric: the first one on the data of `split`, "val" or "test" (see `metrics`); value and test_loss, the loss there,
    are None in epochs without evaluation, `further` (the other metrics by name) is empty then; seconds: of this epoch,
    evaluation included. best: whether it is the best epoch so far of those that meet the target, where one is chosen.
    waited: seconds that its steps waited for batches.
    """

    epoch: int
    step: int
    total: int
    loss: float
    lr: float
    phase: str
    zeroed: int
    target: int | None
    metric: str
    value: float | None
    test_loss: float | None
    seconds: float
    further: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0
    split: str = "test"
    best: bool = False
    waited: float = 0.0


@dataclass(frozen=True)
class Kept:
    """What is handed back at the end, where that is not the last step as it is.

    epoch: whose parameters; epochs, step: how many were trained. split: what it was chosen by, with its `metric` and
    `value` there; None where nothing was chosen. averaged: whether it is the moving average. early: whether training
    ended before its last epoch, because nothing became better.
    """

    epoch: int
    epochs: int
    step: int
    total: int
    split: str | None
    metric: str
    value: float | None
    averaged: bool
    early: bool


@dataclass(frozen=True)
class Judged:
    """How good the model was as it was brought: a metric on the data of `split`. Told before training begins."""

    split: str
    metric: str
    value: float


Event = Judged | Started | Stepped | PutOff | Skipped | EpochEnded | Kept


class Observer(Protocol):
    """Anything that wants to know."""

    def notice(self, event: Event) -> None:
        """Take one event. Called in the training thread: be quick. What it raises ends the training."""
        ...


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    all: tuple[Observer, ...] = ()

    def notice(self, event: Event) -> None:
        """Pass the event on, in order."""
        for observer in self.all:
            observer.notice(event)
