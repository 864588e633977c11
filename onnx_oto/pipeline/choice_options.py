"""What verbs are asked for that choose channels: how much goes, in which order, and which widths are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.running_options import CompactOptions, PathLike
from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.amounts import EXAMPLES, amount, amount_limits
from onnx_oto.settings.checks import at_least, at_most, not_negative, share, share_below_one, threads

DEFAULT_SPARSITY = 0.5
MOST_WIDTH = 2**31 - 1
"""No axis is longer."""
BUDGETS = ("params", "macs", "bytes", "latency")
"""The settings that say what the compact model may cost at most."""


def _round_to(text: str) -> int | str:
    if text != "auto" and not text.strip().lstrip("-").isdigit():
        raise ValueError("give a whole number, or auto")
    return text if text == "auto" else int(text)


ACTIVATIONS = "activations"
"""The ranking by what data show: see `onnx_oto.refit`."""


def _scores() -> Iterable[str]:
    from onnx_oto.zigs import SCORES

    return (*SCORES, ACTIVATIONS)


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
class WidthOptions(Settings, topic=topics.REMOVED):
    """Which widths are wanted; see `onnx_oto.zigs.widths`."""

    round_to: int | Literal["auto"] = setting(
        "auto",
        "Widths that operators see keep a multiple of this: a number, 1 for any width, or auto for what kernels like.",
        read=_round_to,
        check=lambda value: None if value == "auto" else at_least(1)(value) or at_most(MOST_WIDTH)(value),
        metavar="N|auto",
    )


@dataclass(frozen=True, kw_only=True)
class RankOptions(WidthOptions, topic=topics.REMOVED):
    """Which channels go first, without training."""

    by: str | None = setting(
        None,
        "Score that channels are ranked by.",
        choices=_scores,
        shown="magnitude; activations where `prune` has data",
    )
    scope: Literal["dimension", "global"] | None = setting(
        None,
        "Take the same share of every dimension, or rank channels over the whole model.",
        stands_for={"--global": "global"},
        shown="dimension; global by activations",
    )
    seed: int = setting(0, "Seed of everything random.", check=not_negative, topic=topics.GENERAL)

    @property
    def ranking(self) -> str:
        """The score that channels are ranked by."""
        return self.by or "magnitude"

    @property
    def reach(self) -> Literal["dimension", "global"]:
        """Over what channels are ranked."""
        return self.scope or "dimension"


@dataclass(frozen=True, kw_only=True)
class FittingOptions(Settings, topic=topics.DATA):
    """How layers that read what goes are fitted anew; see `onnx_oto.refit`."""

    refit_samples: int = setting(
        512,
        "Training samples that show which groups matter, and that layers are fitted on.",
        check=at_least(2),
    )


def min_keep_setting(default: float) -> Any:
    """Return the field of what every dimension keeps."""
    return setting(
        default, "Share that every dimension keeps (scope global).", check=share, topic=topics.REMOVED
    )


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(CompactOptions, WidthOptions, topic=topics.REMOVED):
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
    latency: float | str | None = _budget("latency", "Milliseconds of a run, measured,")
    table: PathLike | None = setting(
        None,
        "Latency table of the model, see `bench`: read, or measured and written where there is none.",
        shown="measured anew",
    )
    python: str | None = setting(
        None,
        "Interpreter of the environment that will serve the model: latency is measured by its runtime.",
        metavar="PATH",
        shown="this one's",
    )
    threads: int = setting(
        0, "Threads that latency is measured with.", check=threads, shown="the runtime's default"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table is not None and self.latency is None:
            raise UsageError("table is for --latency: give that too")

    @property
    def budgets(self) -> dict[str, float | str]:
        """What the compact model may cost at most, by name, of those budgets that are given."""
        given = {name: getattr(self, name) for name in BUDGETS}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def share(self) -> float | None:
        """The share of groups to remove; None where other budgets say how much goes."""
        return DEFAULT_SPARSITY if self.sparsity is None and not self.budgets else self.sparsity
