"""What verbs are asked for that run models: what they are fed, and what a run may take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_oto.settings import AnalysisOptions, Settings, setting, topics
from onnx_oto.settings.checks import positive
from onnx_oto.settings.memory import memory

if TYPE_CHECKING:
    from onnx_oto.runtime.limits import Limits

PathLike = str | os.PathLike[str]


def _least_memory() -> str:
    from onnx_oto.runtime.limits import LEAST_MEMORY

    return f"{LEAST_MEMORY / 1e9:.1f} GB, and more for large weights and inputs"


def _least_seconds() -> str:
    from onnx_oto.runtime.limits import LEAST_SECONDS

    return f"{LEAST_SECONDS:.0f}, and more for large weights and inputs"


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Settings, topic=topics.RUNNING):
    """What running a model may take."""

    limit_memory: float | None = setting(
        None,
        "Memory that running the model may take, such as 8GB.",
        read=memory,
        check=positive,
        metavar="SIZE",
        shown=_least_memory,
    )
    limit_time: float | None = setting(
        None,
        "Seconds that one run of the model may take.",
        check=positive,
        metavar="SECONDS",
        shown=_least_seconds,
    )

    @property
    def limits(self) -> Limits:
        """What running the model may take."""
        from onnx_oto.runtime.limits import Limits

        return Limits(self.limit_memory, self.limit_time)


@dataclass(frozen=True, kw_only=True)
class FeedOptions(LimitOptions, topic=topics.RUNNING):
    """What a model is run on, for those that cannot be fed blindly, and what a run may take."""

    inputs: PathLike | None = setting(
        None,
        "Verify on the arrays of this npz file, one per input name, instead of random ones. The first axis counts "
        "samples; where the model fixes it, a multiple of its size holds several feeds.",
    )
    input_shape: Sequence[str] = setting(
        (),
        "Shape of an input to begin verification with, where small sizes will not do (repeatable).",
        metavar="NAME:d0,d1,...",
    )


@dataclass(frozen=True, kw_only=True)
class CompactOptions(AnalysisOptions, FeedOptions, topic=topics.RUNNING):
    """What `compact` is asked for, and every verb that cuts."""

    skip_latency: bool = setting(
        False,
        "Do not measure how long the full and the compact model take.",
        aliases=("--no-latency",),
    )
