"""The training loop: epochs over shuffled batches, evaluation every epoch.

An optimizer step is: the mean gradient of its batches, the guard, the transforms, the optimizer.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice

from onnx_oto.data import Batch, Dataset, batch_jobs, made_ahead
from onnx_oto.errors import DataError, DivergedError, UsageError
from onnx_oto.gradients import GradientSession
from onnx_oto.losses import Loss, make
from onnx_oto.metrics import metrics_for
from onnx_oto.optim import Optimizer
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.training.agreement import Agreement
from onnx_oto.training.checkpoint import Position
from onnx_oto.training.evaluate import Provider, Score, evaluate, gather
from onnx_oto.training.events import EpochEnded, Kept, Observer, Observers, PutOff, Skipped, Started, Stepped
from onnx_oto.training.guard import Guard
from onnx_oto.training.keeping import Keeper
from onnx_oto.training.selection import Selection
from onnx_oto.training.transforms import GradientTransform, Mean


@dataclass(frozen=True)
class Recipe:
    """How to train.

    lr: the learning rate of a step counted from 0 (see schedule.py). batch: samples per forward and backward pass;
    accumulate: so many of them make a step, with the mean of their gradients. transforms: what is done to that before
    the optimizer has it, in order. skip_bad_steps: how many steps may be left out, with all their batches, because the
    loss or a gradient is not finite; the next one more ends training.
    evaluate_every: epochs from one evaluation to the next (the last epoch is always evaluated). metrics: by name, none
    for the loss's own. providers: of targets that the data do not hold.
    """

    epochs: int
    batch: int
    lr: Callable[[int], float]
    loss: str | Loss
    seed: int = 0
    evaluate_every: int = 1
    evaluation_batch: int = 256
    metrics: tuple[str, ...] = ()
    providers: tuple[Provider, ...] = ()
    accumulate: int = 1
    transforms: tuple[GradientTransform, ...] = ()
    skip_bad_steps: int = 0
    loaders: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluate_every", "evaluation_batch", "accumulate", "loaders"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least 1")


@dataclass(frozen=True)
class History:
    """What happened. steps: those taken; skipped: those left out; stopped: before the last one.

    score: of the last evaluation, None when stopped before one. kept: what was handed back, None for the last step.
    """

    epochs: tuple[EpochEnded, ...]
    steps: int
    seconds: float
    stopped: bool
    score: Score | None
    skipped: int = 0
    kept: Kept | None = None

    @property
    def waited(self) -> float:
        """Seconds that steps waited for their batches, over all epochs that ended."""
        return sum(epoch.waited for epoch in self.epochs)


def total_steps(samples: int, batch: int, epochs: int, accumulate: int = 1) -> int:
    """Return the optimizer steps of a run: full ones only. Schedules and plans are made from it.

    Raises DataError when not one step can be filled.
    """
    per_epoch = samples // (batch * accumulate)
    if per_epoch == 0:
        many = f", let alone {accumulate} of them, which make a step" if accumulate > 1 else ""
        few = " or fewer of them per step" if accumulate > 1 else ""
        raise DataError(
            f"the training data have {samples} samples: not one batch of {batch}{many}; choose a smaller batch{few}"
        )
    return per_epoch * epochs


def train(
    session: GradientSession,
    optimizer: Optimizer,
    data: Dataset,
    recipe: Recipe,
    *,
    observer: Observer | None = None,
    stop: Callable[[], bool] | None = None,
    keeper: Keeper | None = None,
    start: Position | None = None,
    selection: Selection | None = None,
    peers: Peers = ALONE,
) -> History:
    """Train the parameters of `session` in place and return what happened.

    stop: asked before every batch; when it says True, a step that has begun is undone, the state is saved and the
    history returned. keeper: writes checkpoints. start: where to go on, from `checkpoint.restore`. selection: what is
    handed back in the end besides the last step, which may end training early; the keeper has its parts. peers: who
    train the same model, each on its own rows of every batch; one that stops stops all. Raises
    DivergedError within the step in which loss or gradient stop being finite and that may not be skipped (the
    parameters of the step before are back in the session, and the keeper has set its checkpoint apart), DataError when
    not one step can be filled.
    """
    selection = selection or Selection()
    training = _Training(
        session,
        optimizer,
        data,
        recipe,
        selection,
        observer or Observers(),
        stop or _never,
        keeper,
        start or Position(),
        peers,
    )
    progress = training.begin()
    score: Score | None = None
    try:
        with keeper or nullcontext():
            while progress.epoch < recipe.epochs and not selection.is_enough:
                progress, finished = training.epoch(progress)
                training.check(progress)
                if finished:
                    progress, score = training.close_epoch(progress, score)
                training.save(progress)
                if not finished:
                    break
    except DivergedError as error:
        if keeper is None:
            raise
        raise DivergedError(f"{error}; the last checkpoint before it is in '{keeper.keep_good()}'") from None
    stopped = progress.epoch < recipe.epochs and not selection.is_enough
    kept = None if stopped else training.hand_back(progress)
    return History(progress.history, progress.step, training.seconds, stopped, score, progress.skipped, kept)


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
        selection: Selection,
        observer: Observer,
        stop: Callable[[], bool],
        keeper: Keeper | None,
        start: Position,
        peers: Peers,
    ) -> None:
        self.session, self.optimizer, self.data, self.recipe = session, optimizer, data, recipe
        self.selection, self.observer = selection, observer
        self.agreement = Agreement(peers, session, optimizer, stop, keeper)
        self.total = total_steps(len(data.train), recipe.batch, recipe.epochs, recipe.accumulate)
        self.per_epoch = self.total // recipe.epochs
        self.guard = Guard(session)
        self.mean = Mean(session.grads, recipe.accumulate)
        self.keeper, self.start = keeper, start
        self.run_begin = self.epoch_begin = time.perf_counter()
        self.waited = 0.0

    def begin(self) -> Position:
        """Announce the run and write its first checkpoint; return where it begins."""
        start = self.start
        self.agreement.begin()
        samples = self.recipe.batch * self.recipe.accumulate
        self.observer.notice(
            Started(self.recipe.epochs, self.per_epoch, self.total, start.step, start.skipped, samples)
        )
        if start.step + start.skipped == 0:
            best, optimizer = self.selection.best, self.optimizer
            if (
                best is not None
                and not best.found
                and optimizer.zeroed
                and optimizer.zeroed == optimizer.target
            ):
                self.evaluate(
                    0
                )  # nothing is left to go: the beginning may be what nothing after it is better than
            self.save(start)
            if self.keeper is not None:
                self.keeper.finish()  # a full disk is told before the first step
        return start

    @property
    def seconds(self) -> float:
        """How long the run has taken, parts before an interruption included."""
        return self.start.seconds + time.perf_counter() - self.run_begin

    def save(self, progress: Position) -> None:
        if self.keeper is not None:
            self.keeper.save(self.session, self.optimizer, replace(progress, seconds=self.seconds))

    def epoch(self, progress: Position) -> tuple[Position, bool]:
        """Train from the batch where `progress` stands to the end of its epoch.

        False when asked to stop before.
        """
        recipe = self.recipe
        self.epoch_begin = time.perf_counter()
        shuffled = batch_jobs(
            self.data.train,
            recipe.batch,
            seed=recipe.seed,
            epoch=progress.epoch,
            start=progress.batch,
            lengths=self.data.lengths,
            keep=self.session.rows,
        )
        with contextlib.closing(made_ahead(shuffled, recipe.loaders)) as ahead:
            stream = self.timed(ahead)
            self.waited = 0.0
            for _ in range(progress.batch // recipe.accumulate, self.per_epoch):
                begin, before = time.perf_counter(), self.waited
                loss = self.gradient(islice(stream, recipe.accumulate))
                if loss is None:
                    return progress, False
                progress = self.step(loss, progress, begin, self.waited - before)
                is_last = progress.batch // recipe.accumulate == self.per_epoch
                if not is_last and self.agreement.is_due:
                    self.check(progress)
                    self.save(progress)
        return progress, True

    def timed(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches and add up how long each was waited for."""
        while True:
            begin = time.perf_counter()
            batch = next(stream, None)
            self.waited += time.perf_counter() - begin
            if batch is None:
                return
            yield batch
            del batch  # so that it is freed while the next one is waited for

    def gradient(self, group: Iterator[Batch]) -> float | None:
        """Fill the session's gradients with the mean over the batches of a step; return their mean loss.

        None when asked to stop: then it is as if the step had not begun. A loss that is not finite ends it early.
        """
        losses = 0.0
        for number, batch in enumerate(group):
            if self.agreement.stops():
                self.guard.undo(rewind=True)
                return None
            losses += self.session.step(batch.inputs, gather(batch, self.recipe.providers))
            if not math.isfinite(losses):
                deque(group, maxlen=0)  # the batches of a step go together
                return losses
            self.mean.add(number)
        return losses / self.recipe.accumulate

    def step(self, loss: float, progress: Position, begin: float, waited: float) -> Position:
        """Take one step with the gradients as they are; leave it out, or raise, where something is not finite."""
        recipe, session, optimizer = self.recipe, self.session, self.optimizer
        self.agreement.look(progress.step)
        progress = replace(progress, batch=progress.batch + recipe.accumulate)
        fault = self.guard.fault(loss)
        if fault is not None:
            return self.skip(fault, progress)
        self.guard.accept()
        for transform in recipe.transforms:
            transform(session.grads)
        if optimizer.hear(loss):
            self.observer.notice(PutOff(progress.epoch + 1, progress.step, self.total, loss))
        lr, phase = recipe.lr(progress.step), optimizer.phase
        optimizer.step(session.params, session.grads, lr)
        if self.selection.average is not None:
            self.selection.average.add()
        progress = replace(progress, step=progress.step + 1, losses=progress.losses + loss)
        self.observer.notice(
            Stepped(
                epoch=progress.epoch + 1,
                step=progress.step,
                total=self.total,
                loss=loss,
                lr=lr,
                phase=phase,
                zeroed=optimizer.zeroed,
                target=optimizer.target,
                seconds=time.perf_counter() - begin,
                skipped=progress.skipped,
                waited=waited,
            )
        )
        return progress

    def skip(self, fault: str, progress: Position) -> Position:
        """Leave a step out, its traces in the running statistics too; raise DivergedError when that is too often."""
        allowed, step = self.recipe.skip_bad_steps, progress.step
        if progress.skipped >= allowed:
            before = f" ({allowed} steps were skipped before)" if allowed else ""
            self.guard.refuse(f"{fault}{before}", step=step + 1, lr=self.recipe.lr(step))
        self.guard.undo(rewind=False)
        progress = replace(progress, skipped=progress.skipped + 1)
        self.observer.notice(Skipped(progress.epoch + 1, step, self.total, fault, progress.skipped, allowed))
        return progress

    def check(self, progress: Position) -> None:
        """Raise DivergedError when the last step left what is not finite, OtoError where not all have the same."""
        self.agreement.check(progress.step)
        if progress.step:
            self.guard.check_state(step=progress.step, lr=self.recipe.lr(progress.step - 1))

    def close_epoch(self, progress: Position, score: Score | None) -> tuple[Position, Score | None]:
        """Evaluate when it is due, report the epoch, and move to the next; returns the newest score too."""
        recipe, number = self.recipe, progress.epoch + 1
        due = number % recipe.evaluate_every == 0 or number == recipe.epochs
        is_best = False
        if due:
            score, is_best = self.evaluate(number)
        if score is not None and number == recipe.epochs:
            self.guard.check_score(score.loss, step=progress.step, lr=recipe.lr(max(progress.step - 1, 0)))
        taken = progress.step - (progress.history[-1].step if progress.history else 0)
        ended = EpochEnded(
            epoch=number,
            step=progress.step,
            total=self.total,
            loss=progress.losses / taken if taken else math.nan,
            lr=recipe.lr(max(progress.step - 1, 0)),
            phase=self.optimizer.phase,
            zeroed=self.optimizer.zeroed,
            target=self.optimizer.target,
            metric=metrics_for(make(recipe.loss), recipe.metrics)[0].name,
            value=score.value if due and score is not None else None,
            test_loss=score.loss if due and score is not None else None,
            further=dict(score.further) if due and score is not None else {},
            seconds=time.perf_counter() - self.epoch_begin,
            skipped=progress.skipped,
            split=self.split,
            best=is_best,
            waited=self.waited,
        )
        self.observer.notice(ended)
        following = replace(progress, epoch=number, batch=0, losses=0.0, history=(*progress.history, ended))
        return following, score

    @property
    def split(self) -> str:
        """Which data are evaluated on after an epoch."""
        return "test" if self.data.val is None else "val"

    def evaluate(self, epoch: int) -> tuple[Score, bool]:
        """Return the score of what would be handed back now, and whether it is the best one so far."""
        recipe, data = self.recipe, self.data
        examples = data.test if data.val is None else data.val
        with self.selection.shown(), self.session.evaluating(len(examples)) as predict:
            score = evaluate(
                predict,
                examples,
                recipe.loss,
                recipe.metrics,
                batch=recipe.evaluation_batch,
                providers=recipe.providers,
                loaders=recipe.loaders,
                peers=self.agreement.peers,
            )
            best = self.selection.best
            return score, best is not None and best.judge(epoch, score, self.optimizer)

    def hand_back(self, progress: Position) -> Kept | None:
        """Put what is kept into the session and tell it; None where that is the last step as it is."""
        selection = self.selection
        if selection.best is None and selection.average is None:
            return None
        epoch = selection.hand_back()
        kept = Kept(
            epoch=progress.epoch if epoch is None else epoch,
            epochs=progress.epoch,
            step=progress.step,
            total=self.total,
            split=None if epoch is None else self.split,
            value=None if selection.best is None or epoch is None else selection.best.value,
            metric=metrics_for(make(self.recipe.loss), self.recipe.metrics)[0].name,
            averaged=selection.average is not None,
            early=progress.epoch < self.recipe.epochs,
        )
        self.observer.notice(kept)
        return kept
