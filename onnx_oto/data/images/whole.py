"""Whole images in place of the patches that are cut out of them, for models that take any height and width.

Only height and width of the input that are multiples of a number may do: what is over is cut off at the bottom and on
the right, of both images of a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_oto.data.arrangement import Pattern
from onnx_oto.data.batches import OneByOne
from onnx_oto.data.fit import Rows
from onnx_oto.data.images.patches import Patches
from onnx_oto.data.source import Batch, Source
from onnx_oto.data.splitting import Chosen, chosen_of


@dataclass(frozen=True, eq=False)
class Wholes:
    """Pairs of whole images, each of its own size, served one by one: a Source.

    multiple: of which height and width of an input are.
    """

    patches: Patches
    multiple: int = 1

    def __len__(self) -> int:
        return len(self.patches)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return one pair; nothing is drawn."""
        (row,) = indices.tolist()
        return self.patches.whole(row, self.multiple)


def wholes(source: Source, multiple: int = 1) -> Source | None:
    """Return the images that the samples of a source are patches of (see `Wholes`); None where they are none."""
    patches, rows = chosen_of(source)
    if not isinstance(patches, Patches):
        return None
    return OneByOne(Chosen(Wholes(patches, multiple), rows))


def trial(source: Source, height: int, width: int) -> Batch:
    """Return a batch of one sample of a size, to see whether a model takes it. source: of patches."""
    patches, _ = chosen_of(source)
    assert isinstance(patches, Patches)
    return patches.grey(height, width)


def takes_any_size(source: Source, patterns: Mapping[str, Pattern]) -> bool:
    """Say whether a model takes images of any height and width in place of patches.

    patterns: by input, the shape of one sample as the model declares it, None for what it leaves open.
    """
    patches, _ = chosen_of(source)
    if not isinstance(patches, Patches):
        return False
    for name, column in patches.examples.inputs.items():
        axes, pattern = column.layout.axes, patterns.get(name, ())
        if len(pattern) != len(column.shape) or len(pattern) < 2:
            return False
        if any(pattern[axes.index(stored)] is not None for stored in (0, 1)):  # height and width
            return False
    return True
