"""What share of a training step waits for its batch: a ResNet-20 with every augmentation, through the real training.

    python tools/loader_wait.py DATA [--batch 64] [--steps 60] [--shards 0] [--loaders 1] [--most 0.05]

DATA is what `train` reads: images of 10 classes, uint8. Prints the median step, how long a batch takes to make, and the
share of waiting, over all steps and over all but the first, which nothing can be made ahead of. Exits with 1 when the
latter is more than `--most`. Images of one channel have no saturation to change.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import models
import numpy as np
import onnx

import onnx_oto
from onnx_oto.data import open_data
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.preparing import make_ready
from onnx_oto.training import Stepped
from onnx_oto.training.events import Event

STAGES, BLOCKS = (16, 32, 64), 3


@dataclass
class Watch:
    """The steps of a run, and a wish to stop behind `most` of them."""

    most: int
    steps: list[Stepped] = field(default_factory=list)

    def notice(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.steps.append(event)

    def enough(self) -> bool:
        return len(self.steps) >= self.most


def image_of(data: Path) -> tuple[int, int, int]:
    """Return channels, height and width."""
    (sample,) = open_data(data).train.inputs.values()
    shape = sample.shape
    return (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if shape[2] in (1, 3) else shape


def making(model: Path, data: Path, options: TrainOptions, repeat: int = 20) -> float:
    """Return the median milliseconds that a batch takes to make with nothing beside it."""
    train = make_ready(model, data, options, lambda text: None).dataset.train
    times = []
    for number in range(repeat):
        rng = np.random.default_rng(number)
        rows = rng.integers(0, len(train), options.batch)
        begin = time.perf_counter()
        train.batch(rows, rng)
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def share(steps: list[Stepped]) -> float:
    return sum(step.waited for step in steps) / sum(step.seconds for step in steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--loaders", type=int, default=1)
    parser.add_argument("--most", type=float, default=0.05)
    asked = parser.parse_args()
    image = image_of(asked.data)
    options = TrainOptions(
        batch=asked.batch,
        shards=asked.shards,
        loaders=asked.loaders,
        flip=True,
        crop=4,
        zoom=0.5,
        cutout=8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4 if image[0] == 3 else 0.0,
        mixup=0.2,
        mean=(0.5,),
        std=(0.25,),
        sparsity=0.5,
    )
    watch = Watch(asked.steps)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet20.onnx"
        onnx.save(models.residual(stages=STAGES, blocks=BLOCKS, image=image, classes=10), model)
        made = making(model, asked.data, options)
        run = Path(folder) / "run"
        onnx_oto.train(model, asked.data, run, options, observer=watch, stop=watch.enough)
    median = 1e3 * statistics.median(step.seconds for step in watch.steps)
    later = share(watch.steps[1:])
    print(
        f"{asked.data.name}: ResNet-20 at {'x'.join(map(str, image))}, batch {asked.batch}, loaders {asked.loaders}: "
        f"step {median:.0f} ms, a batch alone {made:.1f} ms, waiting {share(watch.steps):.2%} of {len(watch.steps)} "
        f"steps, {later:.2%} without the first"
    )
    sys.exit(later > asked.most)


if __name__ == "__main__":
    main()
