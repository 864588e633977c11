"""What every verb is asked for. Each field is an option of the command line, a keyword in Python, a key of run.toml.

Only the standard library is imported here; the names in registries are looked up when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.choice_options import (
    ACTIVATIONS,
    BUDGETS,
    DEFAULT_SPARSITY,
    BudgetOptions,
    FittingOptions,
    RankOptions,
    WidthOptions,
    min_keep_setting,
)
from onnx_oto.pipeline.data_options import DataOptions
from onnx_oto.pipeline.int8_options import Int8Options
from onnx_oto.pipeline.loss_options import LossOptions
from onnx_oto.pipeline.running_options import CompactOptions, FeedOptions, LimitOptions, PathLike
from onnx_oto.pipeline.teacher_options import DISTILL
from onnx_oto.pipeline.train_options import TrainOptions
from onnx_oto.settings import AnalysisOptions, Settings, setting, topics
from onnx_oto.settings.checks import at_least, not_negative, positive, threads
from onnx_oto.settings.memory import memory

__all__ = [
    "ACTIVATIONS",
    "BUDGETS",
    "DEFAULT_SPARSITY",
    "BenchOptions",
    "BudgetOptions",
    "CompactOptions",
    "DataOptions",
    "DemoOptions",
    "FeedOptions",
    "InspectOptions",
    "JudgeOptions",
    "LimitOptions",
    "PruneOptions",
    "RankOptions",
    "TrainOptions",
    "VerifyOptions",
    "WidthOptions",
]


def _engines() -> Iterable[str]:
    from onnx_oto.runtime.bench import ENGINES

    return ENGINES


@dataclass(frozen=True, kw_only=True)
class BenchOptions(AnalysisOptions, FeedOptions, topic=topics.MEASURED):
    """What `bench` is asked for."""

    table: PathLike | None = setting(
        None,
        "Write a table of what the model's operators cost at other widths, to choose widths by (takes a minute or so).",
    )
    python: str | None = setting(
        None,
        "Interpreter of the environment whose runtime is measured.",
        metavar="PATH",
        shown="this one's",
    )
    engine: str = setting("auto", "Runtime to measure.", choices=_engines)
    threads: int = setting(0, "Threads of a run.", check=threads, shown="the runtime's default")
    batch: int | None = setting(
        None, "Samples of a run, where the model leaves that open.", check=at_least(1), shown="1"
    )
    seconds: float = setting(3.0, "How long to measure every model, beside the table.", check=positive)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(FeedOptions):
    """What `verify` is asked for."""

    seed: int = setting(0, "Seed of everything random.", check=not_negative)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(LossOptions, DataOptions, LimitOptions, RankOptions):
    """How a model is judged on test data, without training, while some of its channels go."""

    samples: int = setting(
        1000, "Test samples that a model is judged on at most.", check=at_least(1), topic=topics.LOSSES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss.partition(":")[0] == DISTILL:
            raise UsageError(
                "the loss distill needs a teacher: `train` has one. Of data without labels it is told here "
                "how far outputs are off"
            )


PICTURES = (".html", ".svg", ".png")
"""What the name of a drawing may end in."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions(AnalysisOptions, JudgeOptions):
    """What `inspect` is asked for. All but `why` and those of the analysis are about the curve."""

    why: str | None = setting(
        None,
        "Only dimensions whose names or parameters match, with the chain of nodes that froze them.",
        metavar="PATTERN",
    )
    curve: bool = setting(
        False,
        "Show what would be left if a share of 0.1 to 0.9 of the groups went, and what ends it, in place of the "
        "dimensions. How groups are chosen is said as for prune.",
    )
    data: PathLike | None = setting(
        None,
        "With --curve: the loss on the test samples of this file (as for train) at every share, cut and not trained. "
        "Data without labels give how far the outputs are off.",
    )
    table: PathLike | None = setting(
        None, "With --curve: estimate milliseconds by this latency table of the model, see `bench`."
    )
    graph: PathLike | None = setting(
        None,
        "Also draw the graph to this file, .html, .svg or .png: what is frozen, and which channels go together.",
    )
    min_keep: float = min_keep_setting(0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.graph is not None and not str(self.graph).lower().endswith(PICTURES):
            raise UsageError(f"graph is '{self.graph}': give a name that ends in {', '.join(PICTURES)}")
        for name in ("data", "table"):
            if getattr(self, name) is not None and not self.curve:
                raise UsageError(f"{name} is for the curve: give --curve too")
        if self.by == ACTIVATIONS:
            raise UsageError("by activations is for `prune --data`: the curve ranks by weights alone")


@dataclass(frozen=True, kw_only=True)
class PruneOptions(Int8Options, BudgetOptions, FittingOptions, JudgeOptions):
    """What `prune` is asked for."""

    data: PathLike | None = setting(
        None,
        "Keep what can be kept without training: channels are ranked by what these data (as for train, labels are not "
        "needed) show of them, and the layers that read those that go are fitted anew. Judges the model before and "
        "after.",
        topic=topics.DATA,
    )
    skip_refit: bool = setting(
        False, "With --data: only rank and judge by them, and leave weights as they are.", topic=topics.DATA
    )
    min_keep: float = min_keep_setting(0.0)
    save_zeroed: PathLike | None = setting(
        None,
        "Also write the full model with the dropped groups zeroed: it computes what the compact one does.",
        recorded=False,
    )
    kept: PathLike | None = setting(
        None,
        "Also write a JSON file of the indices kept per parameter and axis, to slice the same model elsewhere.",
        recorded=False,
    )

    dry_run: bool = setting(
        False, "Say what would go, and the widths that stay; cut and write nothing.", recorded=False
    )
    stream_above: float | None = setting(
        None,
        "Weights in files beside the model that take more are read one at a time, never held together, and the compact "
        "model is verified piece by piece.",
        read=memory,
        check=not_negative,
        metavar="SIZE",
        shown="2GB",
        topic=topics.RUNNING,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by == ACTIVATIONS and self.data is None:
            raise UsageError("by activations needs data to see any: give --data too")
        if self.skip_refit and self.data is None:
            raise UsageError("skip-refit is for data: give --data too")
        if self.int8 and self.data is None:
            raise UsageError("int8 needs data to see what values there are: give --data too")

    @property
    def most_held(self) -> float:
        """Bytes of weights beside the model that are held together."""
        from onnx_oto.model.files.saving import EXTERNAL_ABOVE

        return EXTERNAL_ABOVE if self.stream_above is None else self.stream_above

    @property
    def ranking(self) -> str:
        """The score that channels are ranked by."""
        return self.by or (ACTIVATIONS if self.data is not None else "magnitude")

    @property
    def reach(self) -> Literal["dimension", "global"]:
        """Over what channels are ranked."""
        return self.scope or ("global" if self.ranking == ACTIVATIONS else "dimension")


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Settings):
    """What `demo` is asked for."""

    epochs: int = setting(12, "Epochs to train.", check=at_least(1))
    seed: int = setting(0, "Seed of everything random.", check=not_negative)
    shards: int = setting(0, "Sessions side by side.", check=not_negative, shown="one per core")

    def training(self) -> TrainOptions:
        """Return how the demo trains: 20, 40 and 80 channels become 8, 16 and 32, which suits the runtime."""
        return TrainOptions(
            sparsity=0.6,
            scope="dimension",
            round_to=8,
            epochs=self.epochs,
            seed=self.seed,
            shards=self.shards,
        )
