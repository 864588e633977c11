"""How samples are weighed and made ready.

Only the standard library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_oto.errors import UsageError
from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import at_most, not_negative


def _loaders(value: int) -> str | None:
    return "give at least 1" if value < 1 else at_most(64)(value)


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(Settings, topic=topics.LOSSES):
    """What samples count for, and how batches of them are made."""

    class_weights: tuple[float, ...] | Literal["balanced"] | None = setting(
        None,
        "What labels count for in the loss: a number for every class, or balanced, the inverse of how often each is "
        "in the training data. Metrics count every sample alike.",
        metavar="[balanced|W0,W1,...]",
    )
    loaders: int = setting(
        1, "Threads that make batches ahead. The batches are the same.", check=_loaders, topic=topics.BATCHES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.class_weights
        if isinstance(weights, tuple) and (
            any(not_negative(weight) for weight in weights) or not sum(weights) > 0
        ):
            told = ",".join(f"{weight:g}" for weight in weights)
            raise UsageError(
                f"class-weights is {told}: give a number of at least 0 for every class, not all 0"
            )
