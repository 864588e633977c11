"""What every verb is asked for. Each field is an option of the command line, a keyword in Python, a key of run.toml.

Only the standard library is imported here; the names in registries are looked up when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from onnx_oto.settings import AnalysisOptions, Settings, setting
from onnx_oto.settings.amounts import EXAMPLES, amount, amount_limits
from onnx_oto.settings.base import Setting
from onnx_oto.settings.checks import (
    all_finite,
    all_positive,
    at_least,
    not_negative,
    positive,
    share,
    share_below_one,
)
from onnx_oto.settings.declare import About
from onnx_oto.settings.kinds import kind_of
from onnx_oto.settings.memory import memory

if TYPE_CHECKING:
    from onnx_oto.losses import Loss
    from onnx_oto.optim import Method
    from onnx_oto.runtime.limits import Limits

PathLike = str | os.PathLike[str]

DEFAULT_SPARSITY = 0.5
BUDGETS = ("params", "macs", "bytes")
"""The settings that say what the compact model may cost at most."""


def _round_to(text: str) -> int | str:
    if text != "auto" and not text.strip().lstrip("-").isdigit():
        raise ValueError("give a whole number, or auto")
    return text if text == "auto" else int(text)


def _scores() -> Iterable[str]:
    from onnx_oto.zigs import SCORES

    return SCORES


def _optimizers() -> Iterable[str]:
    from onnx_oto.optim import OPTIMIZERS

    return OPTIMIZERS


def _directions() -> Iterable[str]:
    from onnx_oto.optim import DIRECTIONS

    return DIRECTIONS


def _schedules() -> Iterable[str]:
    from onnx_oto.training.schedule import SHAPES

    return SHAPES


def _losses() -> Iterable[str]:
    from onnx_oto.losses import LOSSES

    return LOSSES


def _metrics() -> Iterable[str]:
    from onnx_oto.metrics import ALIASES, METRICS

    return (*METRICS, *ALIASES)


def _backends() -> Iterable[str]:
    from onnx_oto.gradients.backends import AUTO, BACKENDS

    return (AUTO, *BACKENDS)


def _told(entries: Mapping[str, Callable[..., Any]]) -> str:
    """Return what the entries of a registry say of themselves, in one sentence."""
    return "; ".join(f"{name}: {make().text}" for name, make in entries.items()) + "."


def _losses_told() -> str:
    from onnx_oto.losses import LOSSES

    return _told(LOSSES)


def _metrics_told() -> str:
    from onnx_oto.metrics import METRICS

    return _told(METRICS)


def _least_memory() -> str:
    from onnx_oto.runtime.limits import LEAST_MEMORY

    return f"{LEAST_MEMORY / 1e9:.1f} GB, and more for large weights and inputs"


def _least_seconds() -> str:
    from onnx_oto.runtime.limits import LEAST_SECONDS

    return f"{LEAST_SECONDS:.0f}, and more for large weights and inputs"


def _of_whom(values: Mapping[str, Any]) -> str:
    """Return what is the default of whom.

    >>> _of_whom({"sgd": 0.1, "adam": 0.001, "adamw": 0.001})
    '0.1 for sgd, 0.001 for adam and adamw'
    """
    owners: dict[Any, list[str]] = {}
    for owner, value in values.items():
        owners.setdefault(value, []).append(owner)
    return ", ".join(f"{value:g} for {' and '.join(names)}" for value, names in owners.items())


def _default_rates() -> str:
    from onnx_oto.optim import DIRECTIONS

    return _of_whom({name: kind.rate for name, kind in DIRECTIONS.items()})


def _default_decays() -> str:
    from onnx_oto.optim import options

    return _of_whom(options()["weight_decay"].defaults)


def _method_settings() -> tuple[Setting, ...]:
    """Return what optimizers and directions state themselves, but for the weight decay, which most have."""
    from onnx_oto.optim import options

    found = []
    for each in options().values():
        if each.name != "weight_decay":
            values = set(each.defaults.values())
            about = About(
                f"Of {', '.join(each.defaults)}: {each.text}",
                choices=each.choices.__iter__ if each.choices else None,
                shown="" if values <= {None, False} else str(values.pop()),
            )
            found.append(Setting(each.name, kind_of(each.kind | None), about))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class FeedOptions(Settings):
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
class InspectOptions(AnalysisOptions):
    """What `inspect` is asked for."""

    why: str | None = setting(
        None,
        "Only dimensions whose names or parameters match, with the chain of nodes that froze them.",
        metavar="PATTERN",
    )


@dataclass(frozen=True, kw_only=True)
class CompactOptions(AnalysisOptions, FeedOptions):
    """What `compact` is asked for, and every verb that cuts."""

    skip_latency: bool = setting(
        False,
        "Do not measure how long the full and the compact model take.",
        aliases=("--no-latency",),
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(FeedOptions):
    """What `verify` is asked for."""

    seed: int = setting(0, "Seed of everything random.", check=not_negative)


def _budget(name: str, what: str) -> Any:
    """Return the field of a budget: None, a share that is kept, or a quantity."""
    return setting(
        None,
        f"{what} of the compact model at most: the share to keep, or a number with its unit ({EXAMPLES[name]}).",
        read=amount(name),
        check=amount_limits(name),
        metavar="AMOUNT",
    )


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(CompactOptions):
    """How much is to go, and in what steps; see `onnx_oto.zigs.choose`."""

    sparsity: float | None = setting(
        None,
        "Share of groups (channels and what belongs to them) to remove.",
        check=share_below_one,
        shown="0.5 without another budget",
    )
    params: float | str | None = _budget("params", "Parameters")
    macs: float | str | None = _budget("macs", "Multiply-accumulates")
    bytes: float | str | None = _budget("bytes", "File size")
    round_to: int | Literal["auto"] = setting(
        "auto",
        "Widths that operators see keep a multiple of this: a number, 1 for any width, or auto for what kernels like.",
        read=_round_to,
        check=lambda value: None if value == "auto" else at_least(1)(value),
        metavar="N|auto",
    )

    @property
    def budgets(self) -> dict[str, float | str]:
        """What the compact model may cost at most, by name, of those budgets that are given."""
        given = {name: getattr(self, name) for name in BUDGETS}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def share(self) -> float | None:
        """The share of groups to remove; None where other budgets say how much goes."""
        return DEFAULT_SPARSITY if self.sparsity is None and not self.budgets else self.sparsity


@dataclass(frozen=True, kw_only=True)
class PruneOptions(BudgetOptions):
    """What `prune` is asked for."""

    by: str = setting("magnitude", "Score that channels are ranked by.", choices=_scores)
    scope: Literal["dimension", "global"] = setting(
        "dimension",
        "Take the same share of every dimension, or rank channels over the whole model.",
        stands_for={"--global": "global"},
    )
    seed: int = setting(0, "Seed of everything random.", check=not_negative)
    save_zeroed: PathLike | None = setting(
        None,
        "Also write the full model with the dropped groups zeroed: it computes what the compact one does.",
    )
    kept: PathLike | None = setting(
        None,
        "Also write a JSON file of the indices kept per parameter and axis, to slice the same model elsewhere.",
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(BudgetOptions):
    """How to train. A default that depends on another setting is None until `resolved`."""

    epochs: int = setting(10, "Passes over the training data.", check=at_least(1))
    batch: int = setting(64, "Samples per batch.", check=at_least(1))
    lr: float | None = setting(None, "Largest learning rate.", check=positive, shown=_default_rates)
    optimizer: str = setting("dhspg", "Drives groups to zero, or only trains (dense).", choices=_optimizers)
    direction: str = setting("sgd", "Base method that the optimizer steps by.", choices=_directions)
    weight_decay: float | None = setting(
        None, "Weight decay of the base method.", check=not_negative, shown=_default_decays
    )
    decay_all: bool = setting(False, "Weight decay for norms and biases too.")
    optimizer_options: Mapping[str, Any] = setting(
        {}, "What the optimizer and the base method state themselves.", entries=_method_settings
    )
    freeze: Sequence[str] = setting(
        (),
        "Parameters, or all that nodes of this name read, do not train; may be pruned all the same (repeatable).",
        metavar="PATTERN",
    )
    also_train: Sequence[str] = setting(
        (), "Train initializers that look like constants, too (repeatable).", metavar="PATTERN"
    )
    accumulate: int = setting(1, "Batches per step, whose gradients are averaged.", check=at_least(1))
    clip_norm: float | None = setting(
        None, "Largest norm of the gradient; a longer one is scaled down.", check=positive
    )
    skip_bad_steps: int = setting(
        0,
        "How many steps may be left out because loss or gradient are not finite.",
        check=not_negative,
    )
    schedule: str = setting("cosine", "How the learning rate falls.", choices=_schedules)
    warm_up: float = setting(0.05, "Share of steps in which the learning rate rises.", check=share)
    loss: str = setting(
        "cross-entropy", "What is made small.", more=_losses_told, choices=_losses, has_options=True
    )
    ignore_label: int | None = setting(
        None, "Label that counts for nothing, in loss and metrics.", shown="-100"
    )
    metric: Sequence[str] = setting(
        (),
        "What is reported of the test data (repeatable).",
        more=_metrics_told,
        choices=_metrics,
        has_options=True,
        metavar="NAME",
        shown="the loss's own",
    )
    model_output: str | None = setting(None, "Output that the loss reads.", shown="the first")
    batch_axis: Sequence[str] = setting(
        (),
        "Axis of an input that counts samples; the data have them first all the same (repeatable).",
        metavar="NAME:AXIS",
        shown="the one that is called so, or the first",
    )
    set_input: Sequence[str] = setting(
        (),
        "Train with this number in an input that the data do not hold (repeatable).",
        metavar="NAME:NUMBER",
        shown="0 for first states of recurrent layers",
    )
    scope: Literal["dimension", "global"] = setting(
        "global",
        "Take the same share of every dimension (fewer MACs, faster models), or rank groups over the whole model.",
    )
    min_keep: float = setting(0.1, "Share that every dimension keeps (scope global).", check=share)
    flip: bool = setting(False, "Augment: mirror half of the images.")
    crop: int = setting(0, "Augment: shift images by up to this many pixels.", check=not_negative)
    mean: tuple[float, ...] = setting(
        (), "Subtract, one number or one per channel, after scaling to [0, 1].", check=all_finite
    )
    std: tuple[float, ...] = setting((), "Divide by, the same way.", check=all_positive)
    seed: int = setting(0, "Seed of everything random.", check=not_negative)
    fixed_statistics: bool = setting(
        False, "BatchNorm trains with the running statistics it came with (for small batches)."
    )
    shards: int = setting(0, "Sessions side by side.", check=not_negative, shown="one per core")
    backend: str = setting("auto", "What makes gradients.", choices=_backends)
    overwrite: bool = setting(False, "Replace an earlier run in the folder.", recorded=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method
        if self.metric or self.ignore_label is not None or ":" in self.loss:
            from onnx_oto.metrics import metrics_for

            metrics_for(self.make_loss(), tuple(self.metric))

    def make_loss(self) -> Loss:
        """Return the loss with its options. Raises UsageError for what it does not know."""
        from onnx_oto.losses import make

        return make(self.loss, **({} if self.ignore_label is None else {"ignore": self.ignore_label}))

    @property
    def method(self) -> Method:
        """The optimizer and the direction with their options. Raises UsageError for what they do not know."""
        from onnx_oto.optim import method

        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return method(self.optimizer, self.direction, {**self.optimizer_options, **decay})

    @property
    def prunes(self) -> bool:
        """Whether groups are driven to zero at all."""
        return self.method.optimizer.prunes

    @property
    def learning_rate(self) -> float:
        """The largest learning rate: `lr`, or that of the direction."""
        return self.method.direction.rate if self.lr is None else self.lr

    def resolved(self) -> TrainOptions:
        """Return the settings with every default filled in that depends on another one."""
        method = self.method
        own = {name: value for name, value in method.values().items() if name != "weight_decay"}
        return replace(
            self,
            sparsity=self.share,
            lr=self.learning_rate,
            weight_decay=method.direction.weight_decay,
            optimizer_options=own,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values. "output" is the name that `model_output` had first."""
        return {**super().as_json(), "output": self.model_output}


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Settings):
    """What `demo` is asked for."""

    epochs: int = setting(12, "Epochs to train.", check=at_least(1))
    seed: int = setting(0, "Seed of everything random.", check=not_negative)
    shards: int = setting(0, "Sessions side by side.", check=not_negative, shown="one per core")

    def training(self) -> TrainOptions:
        """Return how the demo trains: 20, 40 and 80 channels become 8, 16 and 32, which suits the runtime."""
        return TrainOptions(
            sparsity=0.6, scope="dimension", epochs=self.epochs, seed=self.seed, shards=self.shards
        )
