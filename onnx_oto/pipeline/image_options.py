"""What is asked for by whoever opens folders of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import at_least


def _default_patch() -> str:
    from onnx_oto.data.images.pairs import DEFAULT_PATCH

    return f"what the model reads, or {DEFAULT_PATCH}"


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Settings, topic=topics.DATA):
    """How images in files are read."""

    skip_bad_files: bool = setting(
        False, "Leave images out that cannot be decoded; all files are read once for that, before training."
    )
    patch: int | None = setting(
        None,
        "Pixels on a side of what is cut out of images in pairs, on the side of the input.",
        check=at_least(1),
        shown=_default_patch,
    )
    patches_per_image: int = setting(
        1, "How many patches of every image in pairs an epoch has.", check=at_least(1)
    )
    target_pixels: Literal["unit", "inputs"] = setting(
        "unit",
        "What target images are: from 0 to 1, or prepared like the inputs, with --mean and --std.",
    )
