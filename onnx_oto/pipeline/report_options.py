"""What `report` is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.running_options import FeedOptions, PathLike
from onnx_oto.settings import setting, topics
from onnx_oto.settings.checks import not_negative, positive

FORMATS = ("html", "md", "json")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(FeedOptions):
    """What `report` is asked for. What runs models is for two models; of a run all that is known already."""

    format: str | None = setting(
        None, "What to write.", choices=lambda: FORMATS, shown="what the output's name ends in, else html"
    )
    table: PathLike | None = setting(
        None, "Latency table of the full model (`bench --table`), for the share of time of every layer."
    )
    layout_seconds: float = setting(10.0, "What drawing the graph may take.", check=positive)
    skip_verify: bool = setting(False, "Of two models: do not compare their outputs.", topic=topics.RUNNING)
    skip_latency: bool = setting(
        False, "Of two models: do not measure how long they take.", topic=topics.RUNNING
    )
    seed: int = setting(0, "Seed of the inputs that two models are compared on.", check=not_negative)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip_verify and not self.skip_latency:
            raise UsageError(
                "skip-verify leaves no inputs that are known to run, to measure latency on: give --skip-latency too"
            )
