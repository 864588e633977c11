"""Notices within the step that something is not finite, and keeps the last state that was good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from onnx_oto.errors import DivergedError
from onnx_oto.gradients import GradientSession
from onnx_oto.training.transforms import Floats, square_norm


class Guard:
    """Copies of parameters and running statistics of the last step whose loss and gradients were finite."""

    def __init__(self, session: GradientSession) -> None:
        self._session = session
        self._params = session.params.copy()
        self._statistics = session.statistics.copy()
        self._steps = session.steps

    def fault(self, loss: float) -> str | None:
        """Return what is not finite, the loss or a gradient; None when all is well."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        bad = self._bad_gradient()
        return None if bad is None else f"the gradient of {bad!r} is not finite"

    def accept(self) -> None:
        """Keep parameters and statistics as those of the last good step; to be called before its update."""
        np.copyto(self._params, self._session.params)
        np.copyto(self._statistics, self._session.statistics)
        self._steps = self._session.steps

    def undo(self, *, rewind: bool) -> None:
        """Put the running statistics back to what they were before the step that has begun.

        rewind: the step will be taken again; its Dropout masks are to be the same.
        """
        np.copyto(self._session.statistics, self._statistics)
        if rewind:
            self._session.steps = self._steps
        else:
            self._steps = self._session.steps

    def refuse(self, what: str, *, step: int, lr: float) -> NoReturn:
        """Put the last good parameters and statistics back and raise DivergedError.

        step: counted from 1; it and `lr` are only for the message.
        """
        np.copyto(self._session.params, self._params)
        self.undo(rewind=False)
        raise DivergedError(
            f"training diverged: in step {step} {what}. The parameters of the step before are kept. "
            f"Lower the learning rate (it is {lr:.3g}), lengthen its warm-up, clip the gradient, or look for "
            "bad samples"
        )

    def check_state(self, *, step: int, lr: float) -> None:
        """Accept parameters and running statistics as the last step left them, or do as `refuse` does.

        To be called before they are written: no later step shows what that update did.
        """
        session = self._session
        if (bad := _first_bad(session.params, session.slices)) is not None:
            self.refuse(f"parameter {bad!r} became nan or infinite", step=step, lr=lr)
        if (bad := _first_bad(session.statistics, session.statistic_slices)) is not None:
            self.refuse(f"the running statistic {bad!r} became nan or infinite", step=step, lr=lr)

    def check_score(self, loss: float, *, step: int, lr: float) -> None:
        """Accept what the trained model makes of the test data, or do as `refuse` does."""
        if not math.isfinite(loss):
            self.refuse(f"the loss on the test data became {loss}", step=step, lr=lr)

    def _bad_gradient(self) -> str | None:
        """Return the first parameter whose gradient is not finite. One sweep when all is well."""
        grads = self._session.grads
        return None if math.isfinite(square_norm(grads)) else _first_bad(grads, self._session.slices)


def _first_bad(flat: Floats, slices: Mapping[str, tuple[int, tuple[int, ...]]]) -> str | None:
    """Return the first of the arrays in a flat one in which something is not finite."""
    found = np.asarray(flat)
    for name, (offset, shape) in slices.items():
        if not np.isfinite(found[offset : offset + math.prod(shape)]).all():
            return name
    return None
