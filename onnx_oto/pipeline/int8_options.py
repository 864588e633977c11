"""Whether an int8 model is written beside the compact one, and how it is made.

Only the standard library is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx_oto.errors import UsageError
from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import at_least, not_negative

AUTO = "auto"


def _targets() -> Iterable[str]:
    from onnx_oto.pipeline.int8.schemes import SCHEMES

    return (AUTO, *SCHEMES)


@dataclass(frozen=True, kw_only=True)
class Int8Options(Settings, topic=topics.INT8):
    """What is asked of the int8 model; see docs/int8.md."""

    int8: bool = setting(
        False,
        "Also write the compact model in 8 bits (NAME.int8.onnx): quantized by ONNX Runtime's own quantizer, "
        "calibrated on training samples, and judged against the compact one.",
    )
    int8_drop: float | None = setting(
        None,
        "Points that the int8 model may lose at most; layers that lose most stay in float until it is within that.",
        check=not_negative,
        metavar="POINTS",
        shown="0.5 of the metric; without labels 5 of agreement, or percent that outputs may be off",
    )
    int8_samples: int = setting(
        256, "Training samples that show what values the model's tensors have.", check=at_least(1)
    )
    int8_for: str = setting(
        AUTO,
        "What serves the int8 model; auto: ONNX Runtime or OpenVINO on a processor like this one.",
        choices=_targets,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.int8:
            return
        default = {"int8_drop": None, "int8_samples": 256, "int8_for": AUTO}
        given = next((name for name, value in default.items() if getattr(self, name) != value), None)
        if given is not None:
            raise UsageError(f"{given.replace('_', '-')} is for the int8 model: give --int8 too")
