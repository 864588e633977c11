"""The losses by name. A new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_oto.losses.bce import bce_with_logits
from onnx_oto.losses.cross_entropy import CrossEntropy
from onnx_oto.losses.distill import distill
from onnx_oto.losses.l1 import l1
from onnx_oto.losses.loss import Loss
from onnx_oto.losses.mse import mse
from onnx_oto.losses.named import named
from onnx_oto.losses.output import OwnLoss
from onnx_oto.losses.smooth_l1 import smooth_l1

LOSSES: dict[str, Callable[..., Loss]] = {
    "cross-entropy": CrossEntropy,
    "mse": mse,
    "l1": l1,
    "smooth-l1": smooth_l1,
    "bce-with-logits": bce_with_logits,
    "output": OwnLoss,
    "distill": distill,
}
"""Name -> function of the loss's options, all of which have defaults."""


def make(loss: str | Loss, **options: Any) -> Loss:
    """Return a loss by name, with options in the text ("smooth-l1:beta=0.5") or as keywords; one that is made stays.

    Raises UsageError for a name, an option or a value that is unknown.
    """
    return named("loss", LOSSES, loss, **options) if isinstance(loss, str) else loss
