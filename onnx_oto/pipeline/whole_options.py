"""What of images in pairs a model is judged by.

Only the standard library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_oto.settings import Settings, setting, topics


@dataclass(frozen=True, kw_only=True)
class WholeOptions(Settings, topic=topics.LOSSES):
    """When whole images take the place of patches."""

    whole_images: Literal["end", "always", "never"] = setting(
        "end",
        "Images in pairs are judged whole, each at its own size, where the model takes any: for what is reported in "
        "the end, after every epoch too, or never. Otherwise by the patch in their middle.",
    )
