"""Where a picture of any size is cut so that it becomes what a model reads: geometry alone, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from onnx_oto.data.arrangement import Pattern, spatial_axes
from onnx_oto.errors import DataError

MARGIN = 256 / 224
"""How much larger than its middle an image is where nobody says it: the custom of ImageNet."""

Size = tuple[int, int]
CHANNELS = (1, 3, 4)
"""Grey; red, green, blue; and opacity with them."""


class Box(NamedTuple):
    """A part of a picture, in its pixels, that need not be whole ones."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Frame:
    """How pictures become [height, width]: resized until they cover `cover`, then the middle is cut out.

    cover: height and width; for a square the shorter side gets its length. stretch: resized to exactly `cover`,
    whatever the proportions. as_is: a picture that has the size already stays as it is.
    """

    height: int
    width: int
    cover: Size
    stretch: bool = False
    as_is: bool = True

    def resized(self, height: int, width: int) -> Size:
        """Return height and width of a whole picture after resizing.

        The longer side is rounded down, as torchvision does.

        >>> Frame(224, 224, (256, 256)).resized(375, 500)
        (256, 341)
        """
        if self.stretch:
            return self.cover
        tall, wide = self.cover
        if tall * width >= wide * height:  # the height is what has to grow most
            return tall, max(wide, tall * width // height)
        return max(tall, wide * height // width), wide

    def box(self, height: int, width: int) -> Box | None:
        """Return which part of a picture is brought to [height, width]; None: it is taken as it is.

        Resizing a part gives the pixels that resizing the whole and cutting would give.
        """
        if self.as_is and (height, width) == (self.height, self.width):
            return None
        tall, wide = self.resized(height, width)
        down, right = height / tall, width / wide
        top, left = (_middle(tall, self.height), _middle(wide, self.width))
        return Box(left * right, top * down, (left + self.width) * right, (top + self.height) * down)

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        if self.stretch and self.cover == (self.height, self.width):
            return f"resized to {size}, whatever their proportions"
        if self.stretch:
            return f"resized to {self.cover[0]}x{self.cover[1]}, middle {size} cut out"
        if self.cover == (self.height, self.width) and self.as_is:
            return f"taken as they are, those of another size than {size} resized to cover it and cut to their middle"
        if self.cover[0] == self.cover[1]:
            first = f"resized to {self.cover[0]} pixels on the shorter side"
        else:
            first = f"resized to cover {self.cover[0]}x{self.cover[1]}"
        kept = f" (those of {size} stay as they are)" if self.as_is else ""
        return f"{first}, middle {size} cut out{kept}"


def frame(size: Size, resize: tuple[int, ...] = ()) -> Frame:
    """Return how pictures become height and width of a model.

    resize: what was asked for; one number is the length of the shorter side, two are height and width. Raises DataError
    when that is less than the model reads.

    >>> frame((224, 224)).cover, frame((224, 224), (224,)).cover, frame((32, 64)).cover
    ((256, 256), (224, 224), (37, 73))
    """
    height, width = size
    if not resize:
        return Frame(height, width, (round(height * MARGIN), round(width * MARGIN)))
    asked = (resize[0], resize[-1])
    if asked[0] < height or asked[1] < width:
        text = "x".join(str(side) for side in resize)
        raise DataError(
            f"resize {text} is less than the {height}x{width} pixels that the model reads: give more"
        )
    return Frame(height, width, asked, stretch=len(resize) == 2, as_is=False)


def _middle(whole: int, part: int) -> int:
    """Return where the middle part begins, as torchvision rounds it."""
    return round((whole - part) / 2)


class Picture(NamedTuple):
    """What a model reads of a picture."""

    height: int
    width: int
    channels: int


def picture(name: str, pattern: Pattern, resize: tuple[int, ...] = ()) -> Picture:
    """Return what picture an input reads, by the shape of one sample. Raises DataError where that is none.

    resize: tells height and width of an image that is read as a vector.

    >>> tuple(picture("x", (3, 224, 160))), tuple(picture("x", (28, 28))), tuple(picture("x", (784,), (28,)))
    ((224, 160, 3), (28, 28, 1), (28, 28, 1))
    """
    shape = tuple(size or 0 for size in pattern)  # whoever asks has decided what the model leaves open
    if len(shape) == 1 and resize:
        pixels = resize[0] * resize[-1]
        if shape[0] in [pixels * channels for channels in CHANNELS]:
            return Picture(resize[0], resize[-1], shape[0] // pixels)
    if len(shape) == 1:
        raise DataError(
            f"input {name!r} reads {shape[0]} numbers: say which height and width images have (--resize)"
        )
    if len(shape) == 2:
        return Picture(*shape, 1)
    if len(shape) == 3:
        axes = spatial_axes(shape) or (1, 2)
        found = Picture(shape[axes[0]], shape[axes[1]], shape[3 - sum(axes)])
        if found.channels in CHANNELS:
            return found
    raise DataError(
        f"{name!r} has samples of shape {list(shape)}: that is no image of 1, 3 or 4 channels, give the data as an npz "
        "file"
    )
