"""Images of a packed file: image i is the JPEG file blob[off[i]:off[i + 1]] (see the README beside such a file)."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]


def crops(path: Path, rows: Iterable[int], size: int | None = None) -> Bytes:
    """Return the images at `rows`, uint8 [n, size, size, 3]; None leaves the size as it is."""
    packed = np.load(path)
    blob, offsets = packed["blob"], packed["off"]
    found = []
    for row in rows:
        image = Image.open(io.BytesIO(blob[offsets[row] : offsets[row + 1]].tobytes())).convert("RGB")
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        found.append(np.asarray(image))
    return np.stack(found)


def count(path: Path) -> int:
    """Return how many images a packed file holds."""
    return len(np.load(path)["off"]) - 1
