"""What turns a training graph into a gradient graph, by name. A new backend is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable

from onnx_oto.errors import RuntimeMissingError, UsageError
from onnx_oto.gradients.backends.backend import Backend
from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain import Plain

__all__ = ["AUTO", "BACKENDS", "Backend", "choose_backend"]

AUTO = "auto"
"""The first backend that works in this environment."""

BACKENDS: dict[str, Callable[[], Backend]] = {"ort-training": OrtTraining, "plain": Plain}
"""In order of preference."""


def choose_backend(name: str = AUTO) -> Backend:
    """Return the backend of a name. Raises UsageError, and RuntimeMissingError with the remedy when it cannot work."""
    if name != AUTO and name not in BACKENDS:
        raise UsageError(f"backend '{name}': choose one of {', '.join((AUTO, *BACKENDS))}")
    found = [make() for known, make in BACKENDS.items() if name in (AUTO, known)]
    reasons = [backend.why_not() for backend in found]
    for backend, reason in zip(found, reasons, strict=True):
        if reason is None:
            return backend
    raise RuntimeMissingError(str(reasons[-1]))
