"""Images of a packed file: image i is the JPEG file blob[off[i]:off[i + 1]] (see the README beside such a file).

python tools/crops.py labelled FILE OUT.npz     x_train, y_train, x_test, y_test, uint8 [n, height, width, 3]
python tools/crops.py pairs FILE FOLDER         small and large images, for super-resolution by 2
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]
TEST_SHARE = 0.1


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


def write_labelled(path: Path, output: Path, seed: int = 0) -> tuple[int, int]:
    """Write images and labels as train reads them; return how many train and test.

    The file says which ones test (`is_test`), or else a tenth that the seed draws.
    """
    packed = np.load(path)
    labels = packed["y"].astype(np.int64)
    test = packed["is_test"].astype(bool) if "is_test" in packed else set_apart(len(labels), seed)
    parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    arrays = {f"x_{name}": crops(path, rows) for name, rows in parts.items()}
    arrays |= {f"y_{name}": labels[rows] for name, rows in parts.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f"part-{output.name}")
    np.savez(part, **arrays)
    part.replace(output)
    return len(parts["train"]), len(parts["test"])


def write_pairs(path: Path, folder: Path, patch: int = 48, scale: int = 2, seed: int = 0) -> tuple[int, int]:
    """Write FOLDER/{train,test}/{HR,LR}/*.png; return how many images train and test.

    LR is HR made smaller by bicubic scaling with antialiasing. A tenth that the seed draws is for tests; of these, the
    middle `patch` pixels of LR and the same place of HR.
    """
    test = set_apart(count(path), seed)
    for row in range(len(test)):
        large = Image.fromarray(crops(path, [row])[0])
        large = large.crop((0, 0, large.width // scale * scale, large.height // scale * scale))
        small = large.resize((large.width // scale, large.height // scale), Image.Resampling.BICUBIC)
        if test[row]:
            left, top = (small.width - patch) // 2, (small.height - patch) // 2
            small = small.crop((left, top, left + patch, top + patch))
            large = large.crop(tuple(scale * v for v in (left, top, left + patch, top + patch)))
        for kind, image in (("HR", large), ("LR", small)):
            place = folder / ("test" if test[row] else "train") / kind / f"{row:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place)
    return int((~test).sum()), int(test.sum())


def set_apart(samples: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which samples are for tests: a tenth of them, at least one."""
    chosen = np.zeros(samples, bool)
    chosen[np.random.default_rng(seed).permutation(samples)[: max(1, round(TEST_SHARE * samples))]] = True
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("form", choices=["labelled", "pairs"])
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    write = write_labelled if arguments.form == "labelled" else write_pairs
    train, test = write(arguments.file, arguments.output)
    print(f"{arguments.output}: {train} + {test} images", file=sys.stderr)


if __name__ == "__main__":
    main()
