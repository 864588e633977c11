"""Images as they were encoded, in one array of bytes: decoded by Pillow when they are asked for."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.extras import extra
from onnx_oto.data.fit import Rows
from onnx_oto.errors import DataError, one_line

Array = npt.NDArray[Any]
Size = tuple[int, int]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Formats that run programs are not among them: data are untrusted."""
_UINT8: np.dtype[Any] = np.dtype(np.uint8)
_GREY = ("1", "L", "LA")


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images uint8 [n, height, width, channels], a column (see `Stored`): i is content[begin[i] : begin[i + 1]].

    name: of file and column, in messages. resize: whether images are brought to the size, or must have it.
    """

    content: Array
    begin: Array
    size: Size
    channels: int
    resize: bool
    name: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return _UINT8

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.size, self.channels)

    def __len__(self) -> int:
        return len(self.begin) - 1

    def __getitem__(self, rows: Rows) -> Array:
        made = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for out, row in zip(made, rows, strict=True):
            content = self.content[self.begin[row] : self.begin[row + 1]].tobytes()
            out[...] = decode(
                content, self.size, self.channels, f"{self.name}, row {row}", resize=self.resize
            )
        return made


def looked(contents: Sequence[bytes], name: str, resize: Size | None) -> tuple[Size, int]:
    """Return size and channels of some images, by their heads. Raises DataError where they differ in size.

    There are three channels where one of them has colours.
    """
    sizes, grey = [], True
    for row, content in enumerate(contents):
        with _Opened(content, f"{name}, row {row}") as image:
            sizes.append((image.height, image.width))
            grey = grey and image.mode in _GREY
        if resize is None and sizes[-1] != sizes[0]:
            raise DataError(_other(f"{name}, row {row}", sizes[-1], sizes[0]))
    return resize or sizes[0], 1 if grey else 3


def decode(content: bytes, size: Size, channels: int, name: str, *, resize: bool) -> Array:
    """Return an image as uint8 [height, width, channels], of 1 or 3 channels.

    resize: whether it is brought to the size, bilinear over all pixels that fall into one, or must have it. Raises
    DataError naming it.
    """
    images = extra("PIL.Image", f"to decode {name}")
    with _Opened(content, name) as image:
        if not resize and (image.height, image.width) != size:
            raise DataError(_other(name, (image.height, image.width), size))
        if channels == 1 and image.mode not in _GREY:
            raise DataError(
                f"{name}: the image has colours, those looked at first have none: store all alike"
            )
        upright = image.convert("L" if channels == 1 else "RGB")
        if (upright.height, upright.width) != size:
            upright = upright.resize((size[1], size[0]), images.Resampling.BILINEAR)
        return np.asarray(upright).reshape(*size, channels)


@cache
def _be_quiet() -> None:
    """Let Pillow keep its doubts to itself: it decodes all the same, or raises."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _other(name: str, size: Size, first: Size) -> str:
    text = " pixels, others ".join(f"{height} x {width}" for height, width in (size, first))
    return f"{name}: the image has {text}: say what size all get, --resize {first[0]}x{first[1]}"


class _Opened:
    """An image of bytes, opened; whatever is wrong with it is a DataError with its name."""

    def __init__(self, content: bytes, name: str) -> None:
        self._content, self._name = content, name
        self._images = extra("PIL.Image", f"to decode {name}")

    def __enter__(self) -> Any:
        warnings.filterwarnings(
            "ignore", module=r"PIL\."
        )  # what it doubts, it decodes all the same or raises
        try:
            self._image = self._images.open(io.BytesIO(self._content), formats=FORMATS)
        except Exception as error:
            raise self._wrong(error) from None
        return self._image

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._image.close()
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise self._wrong(error) from None

    def _wrong(self, error: Exception) -> DataError:
        return DataError(f"{self._name}: the image cannot be decoded ({one_line(error)[:120]}): replace it")
