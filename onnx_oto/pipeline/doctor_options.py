"""What `doctor` is asked for: nothing so far."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_oto.settings import Settings


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(Settings):
    """What `doctor` is asked for."""
