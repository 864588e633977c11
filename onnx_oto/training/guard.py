"""Notices within the step that training diverged, and keeps the last parameters that were good."""

from __future__ import annotations

import math

import numpy as np

from onnx_oto.errors import DivergedError
from onnx_oto.gradients import GradientSession


class Guard:
    """Copies of parameters and running statistics of the last step whose loss and gradients were finite."""

    def __init__(self, session: GradientSession) -> None:
        self._session = session
        self._params = session.params.copy()
        self._buffers = {name: value.copy() for name, value in session.buffers.items()}

    def check(self, loss: float, *, step: int, lr: float) -> None:
        """Accept a step, or put the last good parameters back and raise DivergedError.

        To be called before the update. `step` counts from 1; `lr` is only for the message.
        """
        if not math.isfinite(loss):
            self._refuse(f"the loss is {loss}", step, lr)
        bad = self._bad_gradient()
        if bad is not None:
            self._refuse(f"the gradient of {bad!r} is not finite", step, lr)
        np.copyto(self._params, self._session.params)
        for name, value in self._session.buffers.items():
            np.copyto(self._buffers[name], value)

    def check_state(self, *, step: int, lr: float) -> None:
        """Accept parameters and running statistics as the last step left them, or do as `check` does.

        To be called before they are written: no later step shows what that update did.
        """
        for name, (offset, shape) in self._session.slices.items():
            if not np.isfinite(self._session.params[offset : offset + math.prod(shape)]).all():
                self._refuse(f"parameter {name!r} became nan or infinite", step, lr)
        for name, value in self._session.buffers.items():
            if not np.isfinite(value).all():
                self._refuse(f"the running statistic {name!r} became nan or infinite", step, lr)

    def check_score(self, loss: float, *, step: int, lr: float) -> None:
        """Accept what the trained model makes of the test data, or do as `check` does."""
        if not math.isfinite(loss):
            self._refuse(f"the loss on the test data became {loss}", step, lr)

    def _bad_gradient(self) -> str | None:
        """Return the first parameter whose gradient is not finite. One dot product when all is well."""
        grads = self._session.grads
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(float(np.dot(grads, grads))):
                return None
        for name, (offset, shape) in self._session.slices.items():
            if not np.isfinite(grads[offset : offset + math.prod(shape)]).all():
                return name
        return None

    def _refuse(self, what: str, step: int, lr: float) -> None:
        np.copyto(self._session.params, self._params)
        for name, value in self._session.buffers.items():
            np.copyto(value, self._buffers[name])
        raise DivergedError(
            f"training diverged: in step {step} {what}. The parameters of the step before are kept. "
            f"Lower the learning rate (it is {lr:.3g}), lengthen its warm-up, or look for bad samples"
        )
