"""The training loop: epochs over shuffled batches, an optimizer step per batch, evaluation every epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onnx_oto.data import Batch, Dataset, batches, prefetched
from onnx_oto.errors import DataError, UsageError
from onnx_oto.gradients import GradientSession
from onnx_oto.losses import Loss, make
from onnx_oto.metrics import metrics_for
from onnx_oto.optim import Optimizer
from onnx_oto.training.checkpoint import Progress, save_checkpoint
from onnx_oto.training.evaluate import Provider, Score, evaluate, gather
from onnx_oto.training.events import EpochEnded, Observer, Observers, Started, Stepped
from onnx_oto.training.guard import Guard


@dataclass(frozen=True)
class Recipe:
    """How to train.

    lr: the learning rate of a step counted from 0 (see schedule.py). batch: samples per step.
    evaluate_every: epochs from one evaluation to the next (the last epoch is always evaluated). metrics: by name, none
    for the loss's own. providers: of targets that the data do not hold, by name.
    """

    epochs: int
    batch: int
    lr: Callable[[int], float]
    loss: str | Loss
    seed: int = 0
    evaluate_every: int = 1
    evaluation_batch: int = 256
    metrics: tuple[str, ...] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluate_every", "evaluation_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least 1")


@dataclass(frozen=True)
class History:
    """What happened. score: of the last evaluation, None when stopped before one; stopped.

    Before the last step.
    """

    epochs: tuple[EpochEnded, ...]
    steps: int
    seconds: float
    stopped: bool
    score: Score | None


def total_steps(samples: int, batch: int, epochs: int) -> int:
    """Return the optimizer steps of a run: full batches only. Schedules and plans are made from it."""
    return samples // batch * epochs


def train(
    session: GradientSession,
    optimizer: Optimizer,
    data: Dataset,
    recipe: Recipe,
    *,
    observer: Observer | None = None,
    stop: Callable[[], bool] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    run: Mapping[str, Any] | None = None,
    start: Progress | None = None,
) -> History:
    """Train the parameters of `session` in place and return what happened.

    stop: asked between steps; when it says True, the state is saved and the history returned. checkpoint:
    file that is replaced after every epoch and on stopping; `run` is stored in it. start: where to go on,
    from `checkpoint.restore`. Raises DivergedError within the step in which loss or gradient stop being
    finite (the parameters of the step before are back in the session), DataError when not one batch can be
    filled.
    """
    training = _Training(session, optimizer, data, recipe, observer or Observers(), stop or _never)
    begin = time.perf_counter()
    progress = start or Progress()
    training.announce(progress)
    score: Score | None = None
    while progress.epoch < recipe.epochs:
        progress, finished = training.epoch(progress)
        training.check(progress)
        if finished:
            progress, score = training.close_epoch(progress, score)
        if checkpoint is not None:
            save_checkpoint(checkpoint, session, optimizer, progress, run=run)
        if not finished:
            break
    stopped = progress.epoch < recipe.epochs
    return History(progress.history, progress.step, time.perf_counter() - begin, stopped, score)


def _never() -> bool:
    return False


class _Training:
    """The parts of a run that stay the same from step to step."""

    def __init__(
        self,
        session: GradientSession,
        optimizer: Optimizer,
        data: Dataset,
        recipe: Recipe,
        observer: Observer,
        stop: Callable[[], bool],
    ) -> None:
        self.session, self.optimizer, self.data, self.recipe = session, optimizer, data, recipe
        self.observer, self.stop = observer, stop
        self.per_epoch = len(data.train) // recipe.batch
        if self.per_epoch == 0:
            raise DataError(
                f"the training data have {len(data.train)} samples: not one batch of {recipe.batch}; "
                "choose a smaller batch"
            )
        self.total = self.per_epoch * recipe.epochs
        self.guard = Guard(session)
        self.epoch_begin = time.perf_counter()

    def announce(self, progress: Progress) -> None:
        self.observer.notice(Started(self.recipe.epochs, self.per_epoch, self.total, progress.step))

    def epoch(self, progress: Progress) -> tuple[Progress, bool]:
        """Train from the batch where `progress` stands to the end of its epoch.

        False when asked to stop before.
        """
        recipe = self.recipe
        self.epoch_begin = time.perf_counter()
        shuffled = batches(
            self.data.train, recipe.batch, seed=recipe.seed, epoch=progress.epoch, start=progress.batch
        )
        for batch in prefetched(shuffled):
            if self.stop():
                return progress, False
            progress = self.step(batch, progress)
        return progress, True

    def step(self, batch: Batch, progress: Progress) -> Progress:
        """Take one step; raise DivergedError instead of using a loss or gradient that is not finite."""
        begin = time.perf_counter()
        lr = self.recipe.lr(progress.step)
        loss = self.session.step(batch.inputs, gather(batch, self.recipe.providers))
        self.guard.check(loss, step=progress.step + 1, lr=lr)
        phase = self.optimizer.phase
        self.optimizer.step(self.session.params, self.session.grads, lr)
        progress = replace(
            progress, batch=progress.batch + 1, step=progress.step + 1, losses=progress.losses + loss
        )
        self.observer.notice(
            Stepped(
                epoch=progress.epoch + 1,
                step=progress.step,
                total=self.total,
                loss=loss,
                lr=lr,
                phase=phase,
                zeroed=self.optimizer.zeroed,
                target=self.optimizer.target,
                seconds=time.perf_counter() - begin,
            )
        )
        return progress

    def check(self, progress: Progress) -> None:
        """Raise DivergedError when the last step left what is not finite."""
        if progress.step:
            self.guard.check_state(step=progress.step, lr=self.recipe.lr(progress.step - 1))

    def close_epoch(self, progress: Progress, score: Score | None) -> tuple[Progress, Score | None]:
        """Evaluate when it is due, report the epoch, and move to the next; returns the newest score too."""
        recipe, number = self.recipe, progress.epoch + 1
        due = number % recipe.evaluate_every == 0 or number == recipe.epochs
        if due:
            score = evaluate(
                self.session.predict,
                self.data.test,
                recipe.loss,
                recipe.metrics,
                batch=recipe.evaluation_batch,
                providers=recipe.providers,
            )
        if score is not None and number == recipe.epochs:
            self.guard.check_score(score.loss, step=progress.step, lr=recipe.lr(progress.step - 1))
        ended = EpochEnded(
            epoch=number,
            step=progress.step,
            total=self.total,
            loss=progress.losses / self.per_epoch,
            lr=recipe.lr(progress.step - 1),
            phase=self.optimizer.phase,
            zeroed=self.optimizer.zeroed,
            target=self.optimizer.target,
            metric=metrics_for(make(recipe.loss), recipe.metrics)[0].name,
            value=score.value if due and score is not None else None,
            test_loss=score.loss if due and score is not None else None,
            further=dict(score.further) if due and score is not None else {},
            seconds=time.perf_counter() - self.epoch_begin,
        )
        self.observer.notice(ended)
        following = replace(progress, epoch=number, batch=0, losses=0.0, history=(*progress.history, ended))
        return following, score
