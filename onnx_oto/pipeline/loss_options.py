"""What is asked for by whoever judges a model on data: the loss, metrics, and how data become its inputs.

Only the standard library is imported here; the names in registries are looked up when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import all_finite, all_positive

if TYPE_CHECKING:
    from onnx_oto.losses import Loss


def _losses() -> Iterable[str]:
    from onnx_oto.losses import LOSSES

    return LOSSES


def _metrics() -> Iterable[str]:
    from onnx_oto.metrics import ALIASES, METRICS

    return (*METRICS, *ALIASES)


def _told(entries: Mapping[str, Callable[..., Any]]) -> str:
    """Return what the entries of a registry say of themselves, in one sentence."""
    return "; ".join(f"{name}: {make().text}" for name, make in entries.items()) + "."


def _losses_told() -> str:
    from onnx_oto.losses import LOSSES

    return _told(LOSSES)


def _metrics_told() -> str:
    from onnx_oto.metrics import METRICS

    return _told(METRICS)


@dataclass(frozen=True, kw_only=True)
class LossOptions(Settings, topic=topics.LOSSES):
    """How a model is judged on data."""

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
        topic=topics.DATA,
    )
    set_input: Sequence[str] = setting(
        (),
        "Take this number for an input that the data do not hold (repeatable).",
        metavar="NAME:NUMBER",
        shown="0 for first states of recurrent layers",
        topic=topics.DATA,
    )
    mean: tuple[float, ...] = setting(
        (),
        "Subtracted from inputs, after scaling to [0, 1]: one number, or one per channel, as the model "
        "was trained with.",
        check=all_finite,
        topic=topics.DATA,
    )
    std: tuple[float, ...] = setting(
        (), "Divided by, in the same way.", check=all_positive, topic=topics.DATA
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric or self.ignore_label is not None or ":" in self.loss:
            from onnx_oto.metrics import make, metrics_for

            loss, possible = self.make_loss(), self.possible_losses()
            if not all(set(make(each).compares) & {*possible[1:]} for each in self.metric):
                metrics_for(loss, tuple(self.metric))

    def possible_losses(self) -> tuple[str, ...]:
        """Return what the loss compares, and what other losses compare that may take its place."""
        return (self.make_loss().compares,)

    def make_loss(self) -> Loss:
        """Return the loss with its options. Raises UsageError for what it does not know."""
        from onnx_oto.losses import make

        return make(self.loss, **({} if self.ignore_label is None else {"ignore": self.ignore_label}))
