"""What turns a training graph into a gradient graph, by name. A new backend is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable

from onnx_oto.errors import RuntimeMissingError, UsageError
from onnx_oto.gradients.backends.backend import Backend
from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.runtime.devices import Device

__all__ = ["AUTO", "BACKENDS", "Backend", "choose_backend"]

AUTO = "auto"
"""The first backend that works in this environment."""

BACKENDS: dict[str, Callable[[], Backend]] = {"ort-training": OrtTraining, "plain": Plain}
"""In order of preference."""


def choose_backend(name: str = AUTO, device: Device | None = None) -> Backend:
    """Return the backend of a name, for sessions on a device, None for the CPU.

    Raises UsageError, and RuntimeMissingError with the remedy when it cannot work.
    """
    if name != AUTO and name not in BACKENDS:
        raise UsageError(f"backend '{name}': choose one of {', '.join((AUTO, *BACKENDS))}")
    device = device or Device()
    made = [make().on(device) for known, make in BACKENDS.items() if name in (AUTO, known)]
    found = [backend for backend in made if backend is not None]
    if not found:
        raise UsageError(
            f"backend {name!r} writes gradients for kernels of the CPU, and the device is {device.name!r}: leave one "
            "of the two out"
        )
    reasons = [backend.why_not() for backend in found]
    for backend, reason in zip(found, reasons, strict=True):
        if reason is None:
            return backend
    raise RuntimeMissingError(str(reasons[-1]))
