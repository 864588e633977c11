"""What a network is made for: images, classes, and how wide it is."""

from __future__ import annotations

from dataclasses import dataclass

LARGE = 64
"""Images with more pixels on a side are reduced by 4 at once, as networks for ImageNet do it."""


@dataclass(frozen=True)
class Form:
    """channels, size: of square images (size 0: any); width: share of the published widths; stride: of the first layer.

    stride is for small images and networks that have such a layer at full size, to save time in reduced runs.
    """

    channels: int = 3
    size: int = 224
    classes: int = 1000
    width: float = 1.0
    stride: int = 1

    @property
    def large(self) -> bool:
        """Say whether the first layers are those for images as large as ImageNet's."""
        return self.size > LARGE

    @property
    def image(self) -> tuple[int | str, ...]:
        """Return the shape of an image."""
        return (self.channels, self.size or "h", self.size or "w")

    def of(self, channels: int) -> int:
        """Return how many channels are left of a published number.

        >>> Form(width=0.25).of(64)
        16
        """
        return max(1, round(channels * self.width))
