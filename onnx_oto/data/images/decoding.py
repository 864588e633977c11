"""Image files as pixels: the only place that knows Pillow. Every function is pure, and safe on several threads."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.data.extras import extra
from onnx_oto.data.files import reading_file
from onnx_oto.data.images.framing import Box, Frame
from onnx_oto.errors import DataError, StorageError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels8 = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
    )
)
"""Files of these names are taken for images, in small letters; what they are is read from their first bytes."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Formats that run programs (EPS) are not among them: data are untrusted."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name of an image with so many channels."""
_WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width
_WAY_OUT = "remove or replace it, or leave bad files out with --skip-bad-files"
_GAP = 2.0
"""A JPEG file may be decoded at a half, a quarter or an eighth while that is still so many times what is needed."""
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError),
    *(struct.error, zlib.error),
)
"""What Pillow raises for damaged files, by format."""


class Look(NamedTuple):
    """What the header of an image says: as it is seen, turned upright. channels: 1, 3 or 4."""

    height: int
    width: int
    channels: int


def look(path: PathLike) -> Look:
    """Return size and channels of an image without decoding it. Raises DataError, StorageError naming the file."""
    with _opened(path) as image:
        return _looked(image)


def decode(path: PathLike, channels: int, frame: Frame | None = None) -> Pixels8:
    """Return an image, upright, as uint8 [height, width, channels]; brought to the size of `frame` if there is one.

    channels: 1 grey, 3 red, green, blue, 4 with opacity, whatever the file holds; 16-bit grey is rounded to 8 bits. A
    large JPEG file is decoded at a part of its size where that is still twice what is needed. Resizing is bilinear over
    all pixels that fall into one, as torchvision does with Pillow. Raises DataError, StorageError naming the file.
    """
    with _opened(path) as image:
        return _read(image, channels, frame)


def look_bytes(content: bytes, name: str) -> Look:
    """Return size and channels of an image in memory, as `look` does. name: its name in messages."""
    with _decoding(io.BytesIO(content), name, "replace it") as image:
        return _looked(image)


def decode_bytes(content: bytes, name: str, channels: int, frame: Frame | None = None) -> Pixels8:
    """Return an image that lies in memory, as `decode` does. name: its name in messages."""
    with _decoding(io.BytesIO(content), name, "replace it") as image:
        return _read(image, channels, frame)


def scaled_down(pixels: Pixels8, size: tuple[int, int], box: Box) -> Pixels8:
    """Return a part of an image [H, W, C] by bicubic scaling with antialiasing, as super-resolution makes its inputs.

    The kernel (a = -0.5) and its widening are those of MATLAB's imresize. Pixels around the box count where the kernel
    reaches them: parts of an image fit together.
    """
    images = _images()
    whole = images.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    part = np.asarray(whole.resize((size[1], size[0]), images.Resampling.BICUBIC, box))
    return part.reshape(*size, pixels.shape[2])


def check(path: PathLike) -> str | None:
    """Return what is wrong with an image file, None where all of it can be decoded; costs less than `decode`."""
    try:
        with _opened(path) as image:
            image.draft(None, (1, 1))
            image.load()
            _channels(image)
    except (DataError, StorageError) as error:
        return str(error)
    return None


@contextmanager
def _opened(path: PathLike) -> Iterator[Image]:
    """Open an image file; whatever is wrong with it, then or while it is used, is one error that names it."""
    with reading_file(path) as file, _decoding(file, f"'{path}'", _WAY_OUT) as image:
        yield image


@contextmanager
def _decoding(file: BinaryIO, name: str, way_out: str) -> Iterator[Image]:
    """Open an image; whatever is wrong with it, then or while it is used, is a DataError with its name."""
    images = _images(name)
    try:
        with images.open(file, formats=FORMATS) as image:
            yield image
    except images.UnidentifiedImageError:
        raise DataError(f"{name} cannot be decoded (it is no image): {way_out}") from None
    except images.DecompressionBombError:
        most = 2 * (images.MAX_IMAGE_PIXELS or 0)
        raise DataError(f"{name} claims to have more than {most:,} pixels: {way_out}") from None
    except _BROKEN as error:
        raise DataError(f"{name} cannot be decoded ({one_line(error)[:120]}): {way_out}") from None


def _images(name: str = "images") -> ModuleType:
    """Return the module of Pillow. Raises RuntimeMissingError."""
    found = extra("PIL.Image", f"to decode {name}")
    _silence()
    return found


@cache
def _silence() -> None:
    """Have Pillow print no warnings: what it doubts, it decodes all the same, or raises."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _looked(image: Image) -> Look:
    width, height = image.size
    return Look(*((width, height) if _is_turned(image) else (height, width)), _channels(image))


def _read(image: Image, channels: int, frame: Frame | None) -> Pixels8:
    if frame is not None:
        _draft(image, frame, channels)
    image.load()
    upright = _upright(image, channels)
    if frame is not None:
        upright = _framed(upright, frame)
    return np.array(upright, np.uint8).reshape(upright.height, upright.width, channels)


def _channels(image: Image) -> int:
    """Return how many channels the picture has as it is seen. Raises ValueError for what has no common meaning."""
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers, images have 8 or 16 bits")
    if image.mode in ("1", "L", *_WIDE):
        return 1
    return 4 if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") else 3


def _is_turned(image: Image) -> bool:
    """Say whether height and width of a file that is not decoded yet are swapped; Pillow turns TIFF files itself."""
    return image.format == "JPEG" and image.getexif().get(_ORIENTATION) in _TURNED


def _draft(image: Image, frame: Frame, channels: int) -> None:
    """Have a JPEG file decoded at a part of its size where that loses nothing to speak of."""
    height, width, _ = _looked(image)
    if frame.box(height, width) is None:
        return
    tall, wide = frame.resized(height, width)
    spare = min(height / tall, width / wide) / _GAP
    if spare >= 2:
        least = (math.ceil(image.width / spare), math.ceil(image.height / spare))
        image.draft("L" if channels == 1 else None, least)


def _upright(image: Image, channels: int) -> Image:
    """Return a decoded picture turned as its camera was held, in the mode of so many channels."""
    from PIL import ImageOps

    _channels(image)
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE:
        image = _narrowed(image)
    if image.mode == "P" and channels != 4 and "transparency" in image.info:
        image = image.convert("RGBA")  # a palette whose opacity is given in bytes
    mode = MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def _narrowed(image: Image) -> Image:
    """Return grey of 16 bits rounded to 8. Raises ValueError for larger numbers."""
    wide = np.asarray(image).astype(np.int64)
    if wide.size and not 0 <= wide.min() <= wide.max() <= 65535:
        raise ValueError("it holds numbers of 32 bits, images have 8 or 16")
    narrow: Image = _images().fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    return narrow


def _framed(image: Image, frame: Frame) -> Image:
    box = frame.box(image.height, image.width)
    if box is None:
        return image
    return image.resize((frame.width, frame.height), _images().Resampling.BILINEAR, box)
