"""Which parameters of a run are handed back.

Only the standard library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import at_least


def _decay(value: float) -> str | None:
    return None if 0 < value < 1 else "give a number above 0 and below 1, such as 0.999"


@dataclass(frozen=True, kw_only=True)
class SelectionOptions(Settings, topic=topics.HANDED_BACK):
    """What is kept of the parameters that a run passes through."""

    ema: float | None = setting(
        None,
        "Evaluate and hand back the moving average of the parameters, of which this share stays in every step.",
        check=_decay,
    )
    patience: int | None = setting(
        None,
        "End after so many epochs without a better metric on the validation data; epochs count once all groups that "
        "are to go are zero.",
        check=at_least(1),
    )
