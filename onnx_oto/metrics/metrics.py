"""The metrics by name. A new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_oto.errors import UsageError
from onnx_oto.losses import Loss
from onnx_oto.losses.named import named
from onnx_oto.metrics.accuracy import Accuracy
from onnx_oto.metrics.counts import F1, MeanIou
from onnx_oto.metrics.images import Psnr, Ssim
from onnx_oto.metrics.loss import LossValue, Perplexity
from onnx_oto.metrics.metric import Metric
from onnx_oto.metrics.regression import R2, Mae, RelativeError

METRICS: dict[str, Callable[..., Metric]] = {
    "accuracy": lambda: Accuracy("accuracy", 1, "share of right labels or answers", ("classes", "binary")),
    "top-5": lambda: Accuracy("top-5", 5, "share of labels among the five highest scores"),
    "token-accuracy": lambda: Accuracy(
        "token-accuracy", 1, "share of right tokens; ignored ones do not count"
    ),
    "mean-iou": MeanIou,
    "f1": F1,
    "perplexity": Perplexity,
    "mae": Mae,
    "r2": R2,
    "relative-error": RelativeError,
    "psnr": Psnr,
    "ssim": Ssim,
    "agreement": lambda: Accuracy(
        "agreement", 1, "share of places where the class is the teacher's", ("teacher-classes",)
    ),
    "loss": LossValue,
}
"""Name -> function of the metric's options, all of which have defaults."""
ALIASES = {"top-1": "accuracy", "miou": "mean-iou"}
"""Other names that are understood; reports use the ones of METRICS."""


def make(metric: str | Metric) -> Metric:
    """Return a metric by name or alias, with options in the text ("psnr:range=255"); one that is made stays.

    Raises UsageError for a name, an option or a value that is unknown.
    """
    if not isinstance(metric, str):
        return metric
    name, colon, rest = metric.partition(":")
    return named("metric", METRICS, f"{ALIASES.get(name, name)}{colon}{rest}")


def metrics_for(loss: Loss, wanted: Sequence[str | Metric] = ()) -> tuple[Metric, ...]:
    """Return the metrics that are reported for a loss: those wanted, or the loss's own where none is.

    Raises UsageError for one that cannot be computed from what the loss compares, or that is there twice.
    """
    found = tuple(make(metric) for metric in (wanted or (loss.metric,)))
    for metric in found:
        if loss.compares not in metric.compares:
            suited = [name for name in METRICS if loss.compares in make(name).compares]
            raise UsageError(
                f"metric '{metric.name}' cannot be computed for the loss '{loss.name}': choose from {', '.join(suited)}"
            )
    names = [metric.name for metric in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"metric '{twice}' is asked for twice")
    return found
