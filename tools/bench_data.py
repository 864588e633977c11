"""How long a batch takes to prepare: gathered, augmented, converted, normalised; and on a thread beside a step.

    python tools/bench_data.py [--batch 64] [--size 64] [--repeat 50] [--step 0.5]

Prints medians in milliseconds for uint8 images, channels first and last, as float32 channels first. `windows` is the
augmentation by sliding windows and `gather` the one by index arrays that `data/augment.py` was chosen over, for the
augmentation alone. `--step` is the length of a step in seconds: what part of it a batch takes, prepared in line, and
how long the loop waits for one that is prepared ahead while the step computes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from onnx_oto.data import Augment, Batch, Dataset, Input, Labels, Pixels, Table, Tables, batches, prefetched
from onnx_oto.data.augment import Framed, draw, write_changed

CROP = 4
EVERYTHING = Augment(True, CROP, 0.5, 8, 0.4, 0.4, 0.4)
NORMAL = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def median(work: Callable[[], object], repeat: int) -> float:
    """Return the median milliseconds of `work`, which ran once before."""
    work()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def dataset(images: np.ndarray, size: int, augment: Augment) -> Dataset:
    labels = np.zeros(len(images), np.int64)
    tables = Tables(*(Table(split, {"": images}, {"y": labels}) for split in ("train", "test")))
    wanted = {"image": Input((3, size, size), np.dtype(np.float32))}
    return tables.fit(wanted, {"y": Labels(classes=10)}, pixels=NORMAL, augment=augment)


def endless(data: Dataset, batch: int) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from batches(data.train, batch, seed=0, epoch=epoch)
        epoch += 1


def windows(planes: np.ndarray, mirror: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return planes [n, ..., H, W] mirrored and shifted, by views of all windows."""
    planes = np.where(mirror.reshape(-1, *[1] * (planes.ndim - 1)), planes[..., ::-1], planes)
    border = [(0, 0)] * (planes.ndim - 2) + [(CROP, CROP)] * 2
    size = planes.shape[-2:]
    every = np.lib.stride_tricks.sliding_window_view(np.pad(planes, border), size, axis=(-2, -1))
    return np.moveaxis(every, (-4, -3), (1, 2))[np.arange(len(planes)), shifts[0], shifts[1]]


def gather(planes: np.ndarray, mirror: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return planes [n, C, H, W] mirrored and shifted, by index arrays."""
    count, _, height, width = planes.shape
    rows = np.arange(height) + (shifts[0] - CROP)[:, None]
    columns = np.arange(width) + (shifts[1] - CROP)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = np.where(mirror[:, None], width - 1 - columns, columns)
    image = np.arange(count)[:, None, None]
    rows, columns = rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]
    return np.where(inside[..., None], planes[image, :, rows, columns], 0)


def augmentation(images: np.ndarray, channels_last: bool, repeat: int) -> dict[str, float]:
    """Return milliseconds per way of changing one batch, after proving that all ways give the same."""
    drawn = draw(len(images), np.random.default_rng(0), flip=True, steps=CROP)
    mirror, shifts = drawn.mirrored, np.stack([drawn.down, drawn.right]) + CROP
    view = Framed((0, 1) if channels_last else (1, 2))
    planes = np.moveaxis(images, (1, 2), (-2, -1)) if channels_last else images

    def written() -> np.ndarray:
        sink = np.empty_like(images)
        write_changed(images, sink, view, drawn)
        return sink

    expected = windows(planes, mirror, shifts)
    own = np.moveaxis(written(), (1, 2), (-2, -1)) if channels_last else written()
    np.testing.assert_array_equal(own, expected)
    np.testing.assert_array_equal(np.moveaxis(gather(planes, mirror, shifts), -1, 1), expected)
    return {
        "ours": median(written, repeat),
        "windows": median(lambda: windows(planes, mirror, shifts), repeat),
        "gather": median(lambda: gather(planes, mirror, shifts), repeat),
    }


def waiting(data: Dataset, batch: int, step: float, repeat: int) -> float:
    """Return the median milliseconds that a loop waits for a batch made ahead, while it sleeps for its steps."""
    times = []
    begin = time.perf_counter()
    for _ in islice(prefetched(endless(data, batch)), repeat):
        times.append(time.perf_counter() - begin)
        time.sleep(step)
        begin = time.perf_counter()
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--step", type=float, default=0.1, help="seconds that a step takes")
    options = parser.parse_args()
    batch, size, repeat = options.batch, options.size, options.repeat
    first = np.random.default_rng(0).integers(0, 256, (16 * batch, 3, size, size), np.uint8)
    print(
        f"numpy {np.__version__}, batch {batch} of 3x{size}x{size} uint8, medians of {repeat}, milliseconds"
    )
    for name, images in (("channels first", first), ("channels last", first.transpose(0, 2, 3, 1).copy())):
        cells = []
        for label, augment in (
            ("plain", Augment()),
            ("flip", Augment(True)),
            ("flip, crop", Augment(True, CROP)),
            ("everything", EVERYTHING),
        ):
            data = dataset(images, size, augment)
            made = endless(data, batch)
            cells.append(f"{label} {median(lambda made=made: next(made), repeat):.2f}")  # type: ignore[misc]
        print(f"{name}: whole batch: {', '.join(cells)}")
        ways = augmentation(images[:batch], name == "channels last", repeat)
        print(f"{name}: augmentation alone: {', '.join(f'{way} {ms:.2f}' for way, ms in ways.items())}")
    share = median(lambda: next(made), repeat) / options.step / 1e3
    wait = waiting(data, batch, options.step, min(repeat, 20))
    print(f"of a step of {options.step:g} s: {share:.2%} in line; waiting for one made ahead: {wait:.3f} ms")


if __name__ == "__main__":
    main()
