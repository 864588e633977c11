"""How fast images in files are found and decoded, on drawn pictures.

    python tools/bench_images.py [--size 500x375] [--read 224] [--images 64] [--files 200000]

Prints images in a second of CPU time of one core: decoded and resized, the whole way to a batch of float32, and looked
at for `--skip-bad-files`; and how long it takes to find so many files, as links, and the memory that takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from onnx_oto.data import Input, Labels, Pixels, Reading, open_data
from onnx_oto.data.images.decoding import check, decode
from onnx_oto.data.images.folders import open_folder
from onnx_oto.data.images.framing import frame

PER_FOLDER = 1000


def drawn(width: int, height: int, seed: int) -> Image.Image:
    """Return a picture of waves and discs, about as hard for JPEG as a photograph."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = rng.normal(0, 4, (height, width, 3)) + 128
    for _ in range(12):
        down, right, phase = *rng.uniform(0.005, 0.4, 2), rng.uniform(0, 6)
        pixels += rng.uniform(2, 20, 3) * np.sin(down * y + right * x + phase)[..., None]
    for _ in range(30):
        top, left, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(5, height / 5)
        pixels[(y - top) ** 2 + (x - left) ** 2 < radius**2] += rng.uniform(-60, 60, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def per_second(work: Callable[[], object], count: int, repeat: int = 5) -> float:
    """Return how many of `count` are done in a second of CPU time: the best of some runs."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return count / min(times)


def speed(root: Path, width: int, height: int, side: int, count: int) -> None:
    """Print how fast pictures are decoded."""
    folder = root / "images" / "a"
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        drawn(width, height, number).save(path, quality=90)
    cut, size = frame((side, side)), np.mean([path.stat().st_size for path in paths])
    wanted = {"image": Input((3, side, side), np.dtype(np.float32))}
    pixels = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    opening = open_data(root / "images", Reading(test_share=1 / count))
    train = opening.fit(wanted, {"y": Labels(classes=1)}, pixels=pixels).train
    rows = np.arange(len(train))
    print(f"JPEG {width}x{height}, {size / 1000:.0f} kB, to {side}x{side}; images in a second of CPU time")
    print(f"  decoded and resized  {per_second(lambda: [decode(p, 3, cut) for p in paths], count):7.0f}")
    print(f"  batches of float32   {per_second(lambda: train.batch(rows, None), len(train)):7.0f}")
    print(f"  looked at            {per_second(lambda: [check(p) for p in paths], count):7.0f}")


def finding(root: Path, count: int) -> None:
    """Print how long it takes to find files, and the memory that they take."""
    picture = drawn(32, 32, 0)
    for number in range(count):
        folder = root / "many" / str(number // PER_FOLDER)
        first = folder / "first.jpg"
        if number % PER_FOLDER == 0:  # a file system may allow few links to one file
            folder.mkdir(parents=True)
            picture.save(first)
        else:
            os.link(first, folder / f"image_{number:08}.jpg")
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    found = open_folder(root / "many")
    seconds, memory = time.perf_counter() - begin, psutil.Process().memory_info().rss - before
    files = len(found.splits["train"].files)
    print(f"{files:,} files in {len(found.classes)} folders: found in {seconds:.1f} s, {memory / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", default="500x375", help="width and height of the pictures")
    parser.add_argument("--read", type=int, default=224, help="what the model reads")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--files", type=int, default=200_000)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as root:
        speed(Path(root), width, height, options.read, options.images)
        finding(Path(root), options.files)


if __name__ == "__main__":
    main()
