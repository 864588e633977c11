"""The groups that go: which were chosen, which are zero for good, and how they are kept so.

Every sparsifying optimizer has one `Leaving`. Its own file says when groups are chosen and how they come to zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.base import Bools, Floats, Select, State
from onnx_oto.optim.groups import GroupIndex
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]


class Leaving:
    """Which of K groups go.

    chosen: bool [K], those that are to be zero at the end; None before they were chosen. dead: bool [K], those that
    are exactly 0.0 for good, for momentum and moments too. index: the groups of both, and no others. preset: bool [K],
    groups that are dead from the first step. still: stretches that do not train; a group with a part of them stays
    chosen once it is, because it could not get back what it lost.
    """

    def __init__(
        self,
        groups: GroupIndex,
        select: Select,
        stepper: Stepper,
        *,
        preset: Bools | None = None,
        still: Sequence[slice] = (),
    ) -> None:
        self._groups = groups
        self._select = select
        self._stepper = stepper
        self._has_preset = preset is not None
        self._bound = groups.outside(still).sizes < groups.sizes
        self._whole: int | None = None
        self._set(None, np.zeros(groups.count, np.bool_) if preset is None else preset.copy())

    @property
    def alive(self) -> Bools:
        """The chosen groups that are not zero yet: bool [K]."""
        return np.zeros_like(self.dead) if self.chosen is None else self.chosen & ~self.dead

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        return int(np.count_nonzero(self.dead))

    @property
    def target(self) -> int | None:
        """How many groups will be zero in the end, as far as is known; None before the first were chosen."""
        return self._whole

    def hold(self, params: Array, grads: Array) -> None:
        """Take the gradient of the dead away, so that no direction moves them. In front of every step."""
        self.index.zero(grads, self.dead)
        if self._has_preset and self._stepper.taken == 0:
            self.index.zero(params, self.dead)

    def choose(self, scores: Floats, share: float = 1.0) -> None:
        """Choose a share of all that is to go, by scores [K], low first; what is dead counts.

        What was chosen before and is not dead stays if it is not chosen again. Where it is not all at once, how many
        will go in the end is asked besides.
        """
        is_all = share == 1.0 and self.chosen is None
        self.settle(self.ask(scores, share))
        if not is_all:
            self._whole = int(np.count_nonzero(self.ask(scores)))

    def settle(self, chosen: Bools) -> None:
        """Let these groups go, bool [K], whatever was chosen before."""
        self._set(chosen.copy(), self.dead)
        self._whole = int(np.count_nonzero(chosen))

    def ask(self, scores: Floats, share: float = 1.0) -> Bools:
        """Return the groups that `choose` would choose: bool [K], the dead among them. OtoError for another answer."""
        is_first = share == 1.0 and self.chosen is None and not self.dead.any()
        gone = self.dead | (self._bound & self.alive)
        found = np.asarray(self._select(scores) if is_first else self._select(scores, share, gone))
        if found.shape != self.dead.shape or found.dtype != np.bool_:
            raise OtoError(
                f"select returned {found.dtype} {found.shape}, expected bool ({self._groups.count},)"
            )
        if (gone & ~found).any():
            raise OtoError(f"select left out {np.count_nonzero(gone & ~found)} groups that are gone for good")
        return found

    def kill(self, which: Bools, *arrays: Array) -> None:
        """Set groups to exactly zero in these arrays and in the state of the direction. They are in `chosen`."""
        if np.any(which):
            for array in (*arrays, *self._stepper.slots.values()):
                self.index.zero(array, which)
            self.dead |= which

    def fade(self, params: Array, v: Array, left: int) -> None:
        """Scale what is alive of the chosen by (left-1)/left, with no step along v. At left = 1 it is dead.

        Norms fall linearly, whatever the gradients are, so that there is no late cut.
        """
        alive = self.alive
        if left == 1:
            self.kill(alive, params, v)
            return
        self.index.zero(v, alive)
        self.index.scale(params, np.where(alive, (left - 1) / left, 1.0))

    def state(self) -> State:
        """Return copies of both masks, and the target."""
        chosen = (
            {} if self.chosen is None else {"chosen": self.chosen.copy(), "target": np.array(self._whole)}
        )
        return {"dead": self.dead.copy(), **chosen}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned; OtoError when it is of another number of groups."""
        if state["dead"].shape != self.dead.shape:
            raise OtoError(
                f"optimizer state has {state['dead'].shape} groups, the model has {self.dead.shape}"
            )
        chosen = np.array(state["chosen"], np.bool_) if "chosen" in state else None
        self._set(chosen, np.array(state["dead"], np.bool_))
        if chosen is not None:  # older checkpoints have no target
            self._whole = int(state.get("target", np.count_nonzero(chosen)))

    def _set(self, chosen: Bools | None, dead: Bools) -> None:
        self.chosen, self.dead = chosen, dead
        self.index = self._groups.subset(dead if chosen is None else chosen | dead)
