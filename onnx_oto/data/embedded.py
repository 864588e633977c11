"""Images as they were encoded, in one array of bytes: decoded by Pillow when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.fit import Rows
from onnx_oto.data.images.decoding import decode_bytes, look_bytes
from onnx_oto.data.images.framing import Frame, Size, frame
from onnx_oto.data.pages import Pages, pages_of
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]

_UINT8: np.dtype[Any] = np.dtype(np.uint8)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images uint8 [n, height, width, channels], a column (see `Stored`): i is content[begin[i] : begin[i + 1]].

    name: of file and column, in messages. frame: how images are brought to the size; None: they must have it.
    """

    content: Array
    begin: Array
    size: Size
    channels: int
    frame: Frame | None
    name: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return _UINT8

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.size, self.channels)

    @cached_property
    def _pages(self) -> Pages | None:
        return pages_of(self.content)

    def __len__(self) -> int:
        return len(self.begin) - 1

    def __getitem__(self, rows: Rows) -> Array:
        made = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for out, row in zip(made, rows, strict=True):
            content = self.content[self.begin[row] : self.begin[row + 1]].tobytes()
            out[...] = decode(content, self.size, self.channels, f"{self.name}, row {row}", self.frame)
        if self._pages is not None:
            self._pages.count(len(rows), len(self.content) // max(1, len(self)))
        return made


def framed(resize: tuple[int, ...]) -> Frame | None:
    """Return how images become what was asked for: a square whose side is the shorter one, or height and width."""
    size = (resize[0], resize[-1]) if resize else None
    return None if size is None else frame(size, resize)


def looked(contents: Sequence[bytes], name: str, cut: Frame | None) -> tuple[Size, int]:
    """Return size and channels of some images, by their heads. Raises DataError where they differ in size.

    There are three channels where one of them has colours.
    """
    sizes, grey = [], True
    for row, content in enumerate(contents):
        found = look_bytes(content, f"{name}, row {row}: the image")
        sizes.append((found.height, found.width))
        grey = grey and found.channels == 1
        if cut is None and sizes[-1] != sizes[0]:
            raise DataError(_other(f"{name}, row {row}", sizes[-1], sizes[0]))
    return sizes[0] if cut is None else (cut.height, cut.width), 1 if grey else 3


def decode(content: bytes, size: Size, channels: int, name: str, cut: Frame | None) -> Array:
    """Return an image as uint8 [height, width, channels], of 1 or 3 channels.

    cut: how it is brought to the size; None: it must have it, which its head is asked for before it is decoded. Raises
    DataError naming it.
    """
    if cut is None or channels == 1:
        found = look_bytes(content, f"{name}: the image")
        if cut is None and (found.height, found.width) != size:
            raise DataError(_other(name, (found.height, found.width), size))
        if channels == 1 and found.channels != 1:
            raise DataError(
                f"{name}: the image has colours, those looked at first have none: store all alike"
            )
    return decode_bytes(content, f"{name}: the image", channels, cut)


def _other(name: str, size: Size, first: Size) -> str:
    text = " pixels, others ".join(f"{height} x {width}" for height, width in (size, first))
    return f"{name}: the image has {text}: say what size all get, --resize {first[0]}x{first[1]}"
