"""What `train` is asked for, see `options.py`. The names in registries are looked up when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.augment_options import AugmentOptions
from onnx_oto.pipeline.choice_options import BudgetOptions, FittingOptions, min_keep_setting
from onnx_oto.pipeline.data_options import DataOptions
from onnx_oto.pipeline.int8_options import Int8Options
from onnx_oto.pipeline.loading_options import LoadingOptions
from onnx_oto.pipeline.norm_options import NormOptions
from onnx_oto.pipeline.selection_options import SelectionOptions
from onnx_oto.pipeline.start_options import PLAN, Pace, Start, StartOptions
from onnx_oto.pipeline.teacher_options import TeacherOptions
from onnx_oto.pipeline.whole_options import WholeOptions
from onnx_oto.settings import setting, topics
from onnx_oto.settings.base import Setting
from onnx_oto.settings.checks import at_least, not_negative, positive, threads
from onnx_oto.settings.declare import About
from onnx_oto.settings.kinds import kind_of

if TYPE_CHECKING:
    from onnx_oto.optim import Method

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
