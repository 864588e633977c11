"""What is done to training samples at random.

Only the standard library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_oto.settings import Settings, setting, topics
from onnx_oto.settings.checks import not_negative, share, share_above_zero

if TYPE_CHECKING:
    from onnx_oto.data import Augment


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(Settings, topic=topics.AUGMENTATION):
    """Random changes of training samples, the same ones for a seed."""

    flip: bool = setting(False, "Mirror half of the images.")
    crop: int = setting(0, "Shift images by up to this many pixels.", check=not_negative)
    zoom: float = setting(
        1.0,
        "Enlarge a random part of at least this share of the area to the size of the image.",
        check=share_above_zero,
        shown="1, the whole",
    )
    cutout: int = setting(0, "Blank a square with sides of so many pixels, anywhere.", check=not_negative)
    brightness: float = setting(
        0.0, "Change brightness by a factor that is up to this much off 1.", check=share
    )
    contrast: float = setting(0.0, "Change contrast by a factor that is up to this much off 1.", check=share)
    saturation: float = setting(
        0.0, "Change saturation by a factor that is up to this much off 1.", check=share
    )
    mixup: float = setting(
        0.0,
        "Mix pairs of samples and their targets, by shares from the distribution Beta(X, X); 0.2 is usual.",
        check=not_negative,
    )

    @property
    def augments(self) -> bool:
        """Whether training samples change at random, so that nothing that is said of them can be used again."""
        return bool(self.augment) or self.mixup > 0

    @property
    def augment(self) -> Augment:
        """What is done to images; mixup is done to whole samples, behind it."""
        from onnx_oto.data import Augment

        return Augment(
            self.flip,
            self.crop,
            self.zoom,
            self.cutout,
            self.brightness,
            self.contrast,
            self.saturation,
        )
