"""Images for tests, in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def put(path: Path, height: int = 8, width: int = 8, level: int | None = None, channels: int = 3) -> Path:
    """Write an image of one level, or of noise that depends on its name, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    array = rng.integers(0, 256, (height, width, channels), np.uint8)
    if level is not None:
        array[:] = level
    Image.fromarray(array if channels > 1 else array[..., 0]).save(path)
    return path
