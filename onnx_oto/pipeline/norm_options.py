"""What `train` is asked for of norms that an exporter folded away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_oto.settings import Settings, setting, topics


@dataclass(frozen=True, kw_only=True)
class NormOptions(Settings, topic=topics.STEP):
    """Whether layers train with a BatchNormalization that the exporter folded into them."""

    batch_norm: Literal["as-is", "put-back"] = setting(
        "as-is",
        "Train the layers as they are, or with a BatchNormalization put back behind those that have a bias and no "
        "norm, calibrated on training data and folded into them again at the end.",
    )
