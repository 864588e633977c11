"""Which parameters of a run are handed back: those of the last step, a moving average, the best of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.gradients import GradientSession
from onnx_oto.metrics.metric import Better
from onnx_oto.optim import Optimizer
from onnx_oto.training.checkpoint import Part
from onnx_oto.training.evaluate import Score

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Average:
    """The moving average of parameters and running statistics (a Part of checkpoints).

    After step t, counted from 1: a += (1 - d) (p - a), d = min(decay, (1 + t) / (10 + t)): the first steps weigh less
    the longer a run is. Where a parameter is exactly 0 its average is: what an optimizer made zero for good is zero in
    the average at once, though it was something else before.
    """

    def __init__(self, session: GradientSession, decay: float) -> None:
        self._session, self._decay = session, decay
        self._taken = 0
        held = State.of(session)
        self._params, self._statistics = held.params, held.statistics

    def add(self) -> None:
        """Take the parameters as a step left them into the average."""
        self._taken += 1
        decay = min(self._decay, (1 + self._taken) / (10 + self._taken))
        share = np.float32(1 - decay)
        params = self._session.params
        self._params += share * (params - self._params)
        np.copyto(self._params, np.float32(0), where=params == 0)
        self._statistics += share * (self._session.statistics - self._statistics)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the session holds the average; behind it what it held before."""
        held = State.of(self._session)
        State(self._params, self._statistics).show(self._session)
        try:
            yield
        finally:
            held.show(self._session)

    def show(self) -> None:
        """Put the average into the session."""
        State(self._params, self._statistics).show(self._session)

    def state(self) -> dict[str, Array]:
        """See `Part.state`."""
        return {"taken": np.array(self._taken), **State(self._params, self._statistics).arrays()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Part.restore`."""
        self._taken = int(state["taken"])
        np.copyto(self._params, state["params"])
        np.copyto(self._statistics, state["buffers"])


@dataclass(frozen=True, eq=False)
class State:
    """What a session has learned. params float32 [P], statistics float32 [S]: where those of the session are."""

    params: Floats
    statistics: Floats

    @staticmethod
    def of(session: GradientSession) -> State:
        """Return a copy of what a session holds."""
        return State(session.params.copy(), session.statistics.copy())

    def show(self, session: GradientSession) -> None:
        """Put it into a session."""
        np.copyto(session.params, self.params)
        np.copyto(session.statistics, self.statistics)

    def arrays(self) -> dict[str, Array]:
        """Return it as arrays by names without a dot."""
        return {"params": np.asarray(self.params), "buffers": np.asarray(self.statistics)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array], session: GradientSession) -> State:
        """Return what `arrays` gave, in copies that lie where those of a session do."""
        found = State.of(session)
        np.copyto(found.params, arrays["params"])
        np.copyto(found.statistics, arrays["buffers"])
        return found


class Best:
    """The parameters of the best epoch so far of those at whose end all groups that are to go are zero.

    Epoch 0 is the beginning, where nothing is left to go then. Epochs are told apart by the first metric, and by the
    loss where that is equal (a Part of checkpoints).
    patience: after how many epochs without a better one it is enough; None: never.
    """

    def __init__(self, session: GradientSession, patience: int | None = None) -> None:
        self._session, self._patience = session, patience
        self._state: State | None = None
        self._stale = 0
        self.epoch = 0
        self.value = self.loss = float("nan")

    @property
    def found(self) -> bool:
        """Whether there is one."""
        return self._state is not None

    @property
    def is_enough(self) -> bool:
        """Whether training is to end."""
        return self._patience is not None and self.found and self._stale >= self._patience

    def judge(self, epoch: int, score: Score, optimizer: Optimizer) -> bool:
        """Keep what the session holds if it is better than all before; return whether it is. Epochs count from 1."""
        if optimizer.target is None or optimizer.zeroed < optimizer.target:
            return False
        if self.found and not self._is_better(score):
            self._stale += 1
            return False
        self.epoch, self.value, self.loss = epoch, score.value, score.loss
        self._stale, self._state = 0, State.of(self._session)
        return True

    def show(self) -> None:
        """Put the best parameters into the session; without any it stays as it is."""
        if self._state is not None:
            self._state.show(self._session)

    def state(self) -> dict[str, Array]:
        """See `Part.state`."""
        kept = {} if self._state is None else self._state.arrays()
        return {"found": np.array([self.value, self.loss, self.epoch, self._stale]), **kept}

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Part.restore`."""
        self.value, self.loss, epoch, stale = state["found"].tolist()
        self.epoch, self._stale = int(epoch), int(stale)
        self._state = State.from_arrays(state, self._session) if "params" in state else None

    def _is_better(self, score: Score) -> bool:
        """Say whether a score is better than the best; what is no number is never."""
        if score.value != self.value:
            return better(score.value, self.value, score.better)
        return better(score.loss, self.loss, "lower")


def better(value: float, than: float, which: Better) -> bool:
    """Say whether a metric is better than another one; one that is not a number (nan) is worse than any.

    >>> better(0.9, 0.8, "higher"), better(0.9, 0.8, "lower"), better(0.1, float("nan"), "lower")
    (True, False, True)
    """
    if np.isnan(value) or np.isnan(than):
        return bool(np.isnan(than) and not np.isnan(value))
    return value > than if which == "higher" else value < than


@dataclass(frozen=True, eq=False)
class Selection:
    """What is kept of a run besides its last step; None: nothing of the kind."""

    average: Average | None = None
    best: Best | None = None

    @staticmethod
    def of(
        session: GradientSession,
        *,
        ema: float | None = None,
        choose: bool = False,
        patience: int | None = None,
    ) -> Selection:
        """Return what keeps things of a session. choose: whether there are data to choose an epoch by."""
        return Selection(
            None if ema is None else Average(session, ema), Best(session, patience) if choose else None
        )

    @property
    def parts(self) -> dict[str, Part]:
        """What checkpoints hold of it, by name."""
        found = {"average": self.average, "best": self.best}
        return {name: part for name, part in found.items() if part is not None}

    @property
    def is_enough(self) -> bool:
        """Whether training is to end before its last step."""
        return self.best is not None and self.best.is_enough

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the session holds what is evaluated."""
        if self.average is None:
            yield
            return
        with self.average.shown():
            yield

    def hand_back(self) -> int | None:
        """Put what is handed back into the session; return the epoch that was chosen, None for the last step."""
        if self.best is not None and self.best.found:
            self.best.show()
            return self.best.epoch
        if self.average is not None:
            self.average.show()
        return None
