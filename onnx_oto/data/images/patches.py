"""Patches of pairs of images: the same place of a small and a large one, drawn or in the middle."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.data.dataset import Examples
from onnx_oto.data.fit import Column, Rows
from onnx_oto.data.images.decoding import decode, scaled_down
from onnx_oto.data.images.files import Files
from onnx_oto.data.images.framing import Box, Picture, Size
from onnx_oto.data.source import TARGET, Batch
from onnx_oto.errors import DataError

Pixels8 = npt.NDArray[np.uint8]
_GREY = 128


@dataclass(frozen=True, eq=False)
class PairFiles:
    """Files of large images, and of small ones in the same order; None: those are made by bicubic scaling."""

    large: Files
    small: Files | None = None

    def __len__(self) -> int:
        return len(self.large)

    def chosen(self, rows: Rows) -> PairFiles:
        """Return these pairs alone."""
        return PairFiles(self.large.chosen(rows), self.small and self.small.chosen(rows))


class Recent:
    """Images that were decoded last, of at most so many bytes; safe on several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[tuple[str, int], Pixels8] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: str, channels: int, make: Callable[[str, int], Pixels8] = decode) -> Pixels8:
        """Return an image, which nobody may write to."""
        key = (path, channels)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        pixels = make(path, channels)
        with self._lock:
            if key not in self._held:
                self._held[key] = pixels
                self._bytes += pixels.nbytes
            while self._bytes > self._most:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return pixels


class Opened(NamedTuple):
    """A pair of images. small: None where it is to be made. rest: height and width of the small one."""

    path: str
    large: Pixels8
    small: Pixels8 | None
    rest: Size


@dataclass(frozen=True, eq=False)
class Patches:
    """Pairs of patches, one of each pair of images: a Source.

    read, made: what the model reads and makes, `scale` times as large. examples: how both become arrays of the model;
    what its columns hold is put there batch by batch.
    """

    files: PairFiles
    read: Picture
    made: Picture | None
    scale: int
    examples: Examples
    recent: Recent = field(default_factory=lambda: Recent(0))

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return patches at places drawn from `rng`, or from the middle without it (see `Source.batch`)."""
        return self.portion(indices, rng, np.arange(len(indices)))

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`."""
        count = len(indices)
        places = np.full((count, 2), 0.5) if rng is None else rng.random((count, 2))
        indices, places = indices[keep], places[keep]
        small = np.empty((len(indices), *self.read), np.uint8)
        large = None if self.made is None else np.empty((len(indices), *self.made), np.uint8)
        for at, (row, place) in enumerate(zip(indices.tolist(), places, strict=True)):
            small[at], target = self._cut(row, place)
            if large is not None:
                large[at] = target
        return self._served(indices, small, large, rng, within=(count, keep))

    def whole(self, row: int, multiple: int) -> Batch:
        """Return a whole pair as the only sample of a batch, see `images.whole`."""
        pair = self._opened(row)
        height, width = (side // multiple * multiple for side in pair.rest)
        if not height or not width:
            raise DataError(
                f"'{pair.path}' is {pair.large.shape[0]}x{pair.large.shape[1]}, less than the {multiple * self.scale} "
                "pixels on a side that the model makes at least: remove it, or judge patches (--whole-images never)"
            )
        small, target = self._part(pair, 0, 0, (height, width))
        return self._served(np.array([row]), small[None], None if self.made is None else target[None], None)

    def grey(self, height: int, width: int) -> Batch:
        """Return a sample of a height and a width, on the side of the input, that shows nothing."""
        small = np.full((1, height, width, self.read.channels), _GREY, np.uint8)
        large = None
        if self.made is not None:
            size = (1, height * self.scale, width * self.scale, self.made.channels)
            large = np.full(size, _GREY, np.uint8)
        return self._served(np.zeros(1, np.int64), small, large, None)

    def _served(
        self,
        indices: Rows,
        small: Pixels8,
        large: Pixels8 | None,
        rng: np.random.Generator | None,
        within: tuple[int, Rows] | None = None,
    ) -> Batch:
        """Return images as arrays of the model, whatever their size.

        within: of how many samples that are changed together these are some, and which.
        """
        held = {name: holding(column, small) for name, column in self.examples.inputs.items()}
        targets = {TARGET: holding(self.examples.targets[TARGET], large)} if large is not None else {}
        examples = replace(self.examples, inputs=held, targets=targets)
        own = np.arange(len(indices))
        count, keep = within or (len(own), own)
        places = np.zeros(count, np.int64)
        places[keep] = own
        return examples.portion(places, rng, keep)._replace(rows=indices)

    def _cut(self, row: int, place: npt.NDArray[np.float64]) -> tuple[Pixels8, Pixels8]:
        """Return both patches of a pair. place: 0 to 1, of the top and of the left among all that there are."""
        pair, (height, width) = self._opened(row), self.read[:2]
        rest = pair.rest
        if rest[0] < height or rest[1] < width:
            raise DataError(
                f"'{pair.path}' is {pair.large.shape[0]}x{pair.large.shape[1]}, a patch of {height}x{width} enlarged "
                f"{self.scale} times does not fit in: give a smaller --patch, or remove it"
            )
        top, left = int(place[0] * (rest[0] - height + 1)), int(place[1] * (rest[1] - width + 1))
        return self._part(pair, top, left, (height, width))

    def _opened(self, row: int) -> Opened:
        """Return a pair, decoded. Raises DataError when the small image is not of its size."""
        channels = self.read.channels if self.made is None else self.made.channels
        path = self.files.large.path(row)
        large = self.recent.get(path, channels)
        rest = (large.shape[0] // self.scale, large.shape[1] // self.scale)
        small = None if self.files.small is None else self._small(row, path, large, rest)
        return Opened(path, large, small, rest)

    def _part(self, pair: Opened, top: int, left: int, size: Size) -> tuple[Pixels8, Pixels8]:
        """Return the same part of both images of a pair. top, left, size: on the side of the small one."""
        scale, (height, width), large = self.scale, size, pair.large
        target = large[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
        if pair.small is not None:
            return pair.small[top : top + height, left : left + width], target
        box = Box(left * scale, top * scale, (left + width) * scale, (top + height) * scale)
        is_read = large.shape[2] == self.read.channels
        source = large if is_read else self.recent.get(pair.path, self.read.channels)
        whole = source[: pair.rest[0] * scale, : pair.rest[1] * scale]
        return scaled_down(whole, (height, width), box), target

    def _small(self, row: int, path: str, large: Pixels8, size: tuple[int, int]) -> Pixels8:
        """Return the small image of a pair. Raises DataError when it is not of its size."""
        assert self.files.small is not None
        other = self.files.small.path(row)
        small = self.recent.get(other, self.read.channels)
        if small.shape[:2] != size:
            raise DataError(
                f"'{other}' is {small.shape[0]}x{small.shape[1]} and '{path}' {large.shape[0]}x{large.shape[1]}: that "
                f"is not {self.scale} times as large, remove or replace the pair"
            )
        return small


def holding(column: Column, images: Pixels8) -> Column:
    """Return a column with other images [n, height, width, channels], of another size too."""
    shape = tuple(images.shape[1 + axis] for axis in column.layout.axes)[: len(column.layout.shape)]
    return replace(column, stored=images, layout=replace(column.layout, shape=shape))
