"""What every verb is asked for. Each field is an option of the command line, a keyword in Python, a key of run.toml.

Only the standard library is imported here; the names in registries are looked up when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.augment_options import AugmentOptions
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
from onnx_oto.pipeline.loading_options import LoadingOptions
from onnx_oto.pipeline.loss_options import LossOptions
from onnx_oto.pipeline.norm_options import NormOptions
from onnx_oto.pipeline.running_options import CompactOptions, FeedOptions, LimitOptions, PathLike
from onnx_oto.pipeline.selection_options import SelectionOptions
from onnx_oto.pipeline.start_options import PLAN, Pace, Start, StartOptions
from onnx_oto.pipeline.teacher_options import DISTILL, TeacherOptions
from onnx_oto.pipeline.whole_options import WholeOptions
from onnx_oto.settings import AnalysisOptions, Settings, setting, topics
from onnx_oto.settings.base import Setting
from onnx_oto.settings.checks import at_least, not_negative, positive, threads
from onnx_oto.settings.declare import About
from onnx_oto.settings.kinds import kind_of
from onnx_oto.settings.memory import memory

if TYPE_CHECKING:
    from onnx_oto.optim import Method

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


AUTO = "auto"
SCRATCH_OPTIMIZER, TRAINED_OPTIMIZER = "dhspg", "refit"
"""What removes groups by default; chosen by the runs in docs/results.md."""


def _optimizers() -> Iterable[str]:
    from onnx_oto.optim import OPTIMIZERS

    return (AUTO, *OPTIMIZERS)


def _directions() -> Iterable[str]:
    from onnx_oto.optim import DIRECTIONS

    return DIRECTIONS


def _backends() -> Iterable[str]:
    from onnx_oto.gradients import backends

    return (backends.AUTO, *backends.BACKENDS)


def _device(text: str) -> str | None:
    """Say what to do about what is no device."""
    from onnx_oto.runtime.devices import read_device

    try:
        read_device(text)
    except UsageError as error:
        return str(error)
    return None


def _engines() -> Iterable[str]:
    from onnx_oto.runtime.bench import ENGINES

    return ENGINES


def _of_whom(values: Mapping[str, Any]) -> str:
    """Return what is the default of whom.

    >>> _of_whom({"sgd": 0.1, "adam": 0.001, "adamw": 0.001})
    '0.1 for sgd, 0.001 for adam and adamw'
    >>> _of_whom({"a": "x", "b": "y", "c": "y", "d": "y"})
    'x for a, y for b, c and d'
    """
    owners: dict[Any, list[str]] = {}
    for owner, value in values.items():
        owners.setdefault(value, []).append(owner)
    parts = []
    for value, names in owners.items():
        told = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f"{told} for {', '.join(names[:-1])}{' and ' if names[1:] else ''}{names[-1]}")
    return ", ".join(parts)


def _default_rates() -> str:
    from onnx_oto.optim import DIRECTIONS

    return _of_whom({name: kind.rate for name, kind in DIRECTIONS.items()})


def _default_decays() -> str:
    from onnx_oto.optim import options

    return _of_whom(options()["weight_decay"].defaults)


def _method_settings() -> tuple[Setting, ...]:
    """Return what optimizers and directions state themselves, but for the weight decay, which most have."""
    from onnx_oto.optim import OPTIMIZERS, options

    found = []
    for each in options().values():
        if each.name != "weight_decay":
            stated = {
                who: value for who, value in each.defaults.items() if value is not None and value is not False
            }
            values = set(stated.values())
            about = About(
                f"Of {', '.join(each.defaults)}: {each.text}",
                choices=each.choices.__iter__ if each.choices else None,
                shown=_of_whom(stated) if len(values) > 1 else str(*values),
                topic=topics.PLAN if each.defaults.keys() & OPTIMIZERS.keys() else topics.STEP,
            )
            found.append(Setting(each.name, kind_of(each.kind | None), about))
    return tuple(found)


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
class TrainOptions(
    StartOptions,
    NormOptions,
    TeacherOptions,
    DataOptions,
    AugmentOptions,
    LoadingOptions,
    SelectionOptions,
    WholeOptions,
    FittingOptions,
    Int8Options,
    BudgetOptions,
):
    """How to train. A default that depends on another setting is None until `resolved`."""

    epochs: int = setting(10, "Passes over the training data.", check=at_least(1))
    batch: int = setting(64, "Samples per batch.", check=at_least(1), topic=topics.BATCHES)
    lr: float | None = setting(
        None, "Largest learning rate.", check=positive, shown=_default_rates, topic=topics.STEP
    )
    optimizer: str = setting(
        AUTO,
        "Drives groups to zero, or holds those that went before the first step (refit), or only trains (dense); auto: "
        "refit for a model that was trained before, else dhspg.",
        choices=_optimizers,
        topic=topics.PLAN,
    )
    direction: str = setting(
        "sgd", "Base method that the optimizer steps by.", choices=_directions, topic=topics.STEP
    )
    weight_decay: float | None = setting(
        None, "Weight decay of the base method.", check=not_negative, shown=_default_decays, topic=topics.STEP
    )
    decay_all: bool = setting(False, "Weight decay for norms and biases too.", topic=topics.STEP)
    optimizer_options: Mapping[str, Any] = setting(
        {}, "What the optimizer and the base method state themselves.", entries=_method_settings
    )
    freeze: Sequence[str] = setting(
        (),
        "Parameters, or all that nodes of this name read, do not train; may be pruned all the same (repeatable).",
        metavar="PATTERN",
        topic=topics.TRAINED,
    )
    also_train: Sequence[str] = setting(
        (),
        "Train initializers that look like constants, too (repeatable).",
        metavar="PATTERN",
        topic=topics.TRAINED,
    )
    accumulate: int = setting(
        1, "Batches per step, whose gradients are averaged.", check=at_least(1), topic=topics.BATCHES
    )
    clip_norm: float | None = setting(
        None, "Largest norm of the gradient; a longer one is scaled down.", check=positive, topic=topics.STEP
    )
    skip_bad_steps: int = setting(
        0,
        "How many steps may be left out because loss or gradient are not finite.",
        check=not_negative,
        topic=topics.STEP,
    )
    scope: Literal["dimension", "global"] = setting(
        "global",
        "Take the same share of every dimension (fewer MACs, faster models), or rank groups over the whole model.",
        topic=topics.REMOVED,
    )
    min_keep: float = min_keep_setting(0.1)
    seed: int = setting(0, "Seed of everything random.", check=not_negative)
    fixed_statistics: bool = setting(
        False,
        "BatchNorm trains with the running statistics it came with (for small batches).",
        topic=topics.BATCHES,
    )
    shards: int = setting(
        0, "Sessions side by side.", check=not_negative, shown="one per core", topic=topics.BATCHES
    )
    session_threads: int = setting(
        0,
        "Threads of each session.",
        check=threads,
        shown="1, with the plain backend the cores that are left over",
        topic=topics.BATCHES,
    )
    statistics: Literal["auto", "batch", "shard"] = setting(
        "auto",
        "BatchNorm trains with the statistics of the whole batch, or of each session's share.",
        shown="batch where the runtime can",
        topic=topics.BATCHES,
    )
    recompute: bool = setting(
        False,
        "Keep few tensors of the way forth and compute the others again on the way back (less memory, more time).",
        topic=topics.BATCHES,
    )
    backend: str = setting("auto", "What makes gradients.", choices=_backends)
    device: str = setting(
        "cpu",
        "Where training runs: cpu, cuda, cuda:1, or another provider of the runtime, such as openvino:GPU.",
        check=_device,
        topic=topics.BATCHES,
    )
    checkpoint_minutes: float = setting(
        10, "Minutes after which a checkpoint is written within an epoch, too.", check=positive
    )
    overwrite: bool = setting(False, "Replace an earlier run in the folder.", recorded=False)
    dry_run: bool = setting(
        False,
        "Look at everything, take a few steps to tell how long it takes, say what would go; write nothing.",
        recorded=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method
        if self.budgets and not self.prunes:
            raise UsageError(
                f"{next(iter(self.budgets))} is for optimizers that remove groups, and {self.chosen_optimizer} only "
                "trains: leave one of the two out"
            )

    @property
    def method(self) -> Method:
        """The optimizer and the direction with their options. Raises UsageError for what they do not know."""
        from onnx_oto.optim import method

        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return method(self.chosen_optimizer, self.direction, {**self.optimizer_options, **decay})

    @property
    def chosen_optimizer(self) -> str:
        """The optimizer, as far as it is known how the model comes. Who sets one up for DHSPG means that."""
        from onnx_oto.optim import DIRECTIONS, options

        if self.optimizer != AUTO:
            return self.optimizer
        of_direction = {name for name, each in options().items() if each.defaults.keys() & DIRECTIONS.keys()}
        is_free = self.optimizer_options.keys() <= of_direction
        return TRAINED_OPTIMIZER if self.from_ == "trained" and is_free else SCRATCH_OPTIMIZER

    @property
    def cuts_first(self) -> bool:
        """Whether groups go before the first step."""
        from onnx_oto.optim import CUT_FIRST

        return self.chosen_optimizer in CUT_FIRST

    @property
    def prunes(self) -> bool:
        """Whether groups are driven to zero at all."""
        return self.method.optimizer.prunes

    @property
    def learning_rate(self) -> float:
        """The largest learning rate: `lr`, or that of the direction for a model in this state."""
        if self.lr is not None:
            return self.lr
        return self._rate(self.pace())

    def _rate(self, pace: Pace) -> float:
        return float(f"{self.method.direction.rate * pace.rate:.12g}")

    def resolved(self, start: Start | None = None, *, normed: bool = True) -> TrainOptions:
        """Return the settings with every default filled in that depends on another one.

        start: how the model comes, where that is to be found out and was. normed: whether its layers have norms.
        """
        if self.from_ == "auto" and start is not None:
            return replace(self, from_=start).resolved(normed=normed)
        method, pace = self.method, self.pace(normed=normed, cut=self.cuts_first)
        own = {name: value for name, value in method.values().items() if name != "weight_decay"}
        if not PLAN & self.optimizer_options.keys():
            own |= {name: value for name, value in pace.plan.items() if name in own}
        return replace(
            self,
            optimizer=self.chosen_optimizer,
            sparsity=self.share,
            lr=self._rate(pace) if self.lr is None else self.lr,
            schedule=pace.schedule,
            warm_up=pace.warm_up,
            weight_decay=method.direction.weight_decay,
            optimizer_options=own,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values. "output" is the name that `model_output` had first."""
        found = super().as_json()
        start = found.pop("from_")
        return {**found, "from": start, "output": self.model_output}


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
