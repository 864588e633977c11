"""Where the time of a training step goes: ONNX Runtime, gradient averaging, the optimizer, everything else.

    python tools/bench_step.py [--stages 64,128,256,512] [--batch 64] [--steps 8] [--direction sgd] [--clip-norm N]
    python tools/bench_step.py --plain PYTHON [--folder FOLDER]
    python tools/bench_step.py --torch PYTHON [--networks NAMES] [--threads 1,2] [--compile] [--stock PYTHON]

Trains a CIFAR-style residual network (default: ResNet-18 with 11.2 million parameters, at 32x32) on random images with
DHSPG through the real training loop, `--steps` steps in each phase, and prints medians per phase. All work in numpy
(averaging, optimizer, batches, checks, the copy of the last good state) should stay at or below 8 % of a step.

--torch: whole steps with the optimizer instead, here and in eager PyTorch, for twelve networks, in turns: DHSPG on SGD
with momentum, in its shrinking phase, against SGD with momentum. Medians, the median of the ratios of paired rounds,
peak memory; with --compile torch.compile beside it, with --stock three forward passes of a stock onnxruntime as the
floor. PYTHON: that of an environment with torch, torchvision, timm and onnxscript, or with onnxruntime. Where a step's
time goes in ONNX Runtime: `PYTHONPATH=tools python -m step_bench.profile FOLDER/NETWORK`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models
import numpy as np
from step_bench.optimizer import dhspg
from step_bench.turns import COMPILED, FLOOR, OURS, PLAIN, THEIRS, beside, compare, table

from onnx_oto import data
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.model import normalise
from onnx_oto.optim import DIRECTIONS, Optimizer, Plan
from onnx_oto.training.events import Event, Stepped
from onnx_oto.training.loop import Recipe, train
from onnx_oto.training.transforms import ClipNorm
from onnx_oto.zigs import analyse, trainable

PHASES = ("observe", "shrink", "finish", "done")
PARTS = ("onnxruntime", "averaging", "optimizer", "other")
NETWORKS = (
    "resnet20", "resnet18", "resnet18-8", "resnet50", "vgg16_bn", "mobilenet_v2", "efficientnet_b0", "densenet121",
    "convnext_tiny", "vit_small", "encoder", "carn",
)  # fmt: skip
"""Those of `step_bench.networks`, which this environment cannot import."""
LIMIT = 0.08  # largest share of a step that numpy may take


@dataclass
class Timed:
    """An optimizer that notes how long its last step took."""

    inner: Optimizer
    seconds: float = 0.0

    @property
    def phase(self) -> str:
        return self.inner.phase

    @property
    def zeroed(self) -> int:
        return self.inner.zeroed

    @property
    def target(self) -> int | None:
        return self.inner.target

    def hear(self, loss: float) -> bool:
        return self.inner.hear(loss)

    def step(self, params: np.ndarray, grads: np.ndarray, lr: float) -> None:
        begin = time.perf_counter()
        self.inner.step(params, grads, lr)
        self.seconds = time.perf_counter() - begin

    def state(self) -> dict[str, np.ndarray]:
        return self.inner.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.inner.restore(state)


@dataclass
class Stopwatch:
    """Notes the parts of every step, by phase; a step lasts from the end of the one before."""

    session: ShardedSession
    optimizer: Timed
    steps: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    last: float = 0.0

    def notice(self, event: Event) -> None:
        now = time.perf_counter()
        if isinstance(event, Stepped) and self.last:
            parts = {
                "onnxruntime": self.session.seconds.run,
                "averaging": self.session.seconds.average,
                "optimizer": self.optimizer.seconds,
            }
            parts["other"] = now - self.last - sum(parts.values())
            self.steps.setdefault(event.phase, []).append(parts)
        self.last = now


def random_images(session: ShardedSession, count: int, image: tuple[int, int, int]) -> data.Dataset:
    rng = np.random.default_rng(0)
    tables = [
        data.Table(split, {"": rng.integers(0, 256, (n, *image), np.uint8)}, {"y": rng.integers(0, 10, n)})
        for split, n in (("train", count), ("test", 16))
    ]
    inputs = {"image": data.Input(image, np.dtype(np.float32))}
    return data.Tables(*tables).fit(inputs, {"y": data.Labels(classes=10)})


def measure(
    stages: tuple[int, ...], batch: int, steps: int, size: int, direction: str, clip: float | None
) -> tuple[int, int, Stopwatch]:
    """Return parameters, shards, and the timed steps of a run with `steps` steps in every phase."""
    image = (3, size, size)
    model = normalise(models.residual(stages=stages, blocks=2, image=image))
    analysis = analyse(model)
    session = prepare(
        model, TrainingSpec(trainable(analysis), "cross-entropy", batch), choose_backend()
    ).build()
    assert isinstance(session, ShardedSession)
    try:
        optimizer = Timed(dhspg(analysis, session, Plan(steps, steps, steps), 0.6, direction))
        watch = Stopwatch(session, optimizer)
        transforms = () if clip is None else (ClipNorm(clip),)
        recipe = Recipe(1, batch, lambda step: 1e-3, "cross-entropy", transforms=transforms)
        train(session, optimizer, random_images(session, 4 * steps * batch, image), recipe, observer=watch)
        return session.params.size, session.shards, watch
    finally:
        session.close()


def summary(watch: Stopwatch) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of every part and the numpy share, by phase."""
    found = {}
    for phase in PHASES:
        steps = watch.steps[phase]
        row = {part: 1e3 * statistics.median(step[part] for step in steps) for part in PARTS}
        total = statistics.median(sum(step.values()) for step in steps)
        share = statistics.median(1 - step["onnxruntime"] / sum(step.values()) for step in steps)
        found[phase] = {**row, "step": 1e3 * total, "numpy_share": share}
    return found


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the comparisons with PyTorch; each is printed when it is done."""
    pythons = {OURS: sys.executable}
    if options.torch:
        pythons[THEIRS] = options.torch
    if options.plain:
        pythons[PLAIN] = options.plain
    if options.compile:
        pythons[COMPILED] = options.torch
    if options.stock:
        pythons[FLOOR] = options.stock
    for network in options.networks.split(","):
        for threads in options.threads.split(","):
            row = compare(
                network,
                options.folder,
                pythons,
                threads=int(threads),
                rounds=options.rounds,
                steps=options.steps,
            )
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stages", default="64,128,256,512", help="channels per stage (default: ResNet-18)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=8, help="steps per phase")
    parser.add_argument("--direction", choices=list(DIRECTIONS), default="sgd")
    parser.add_argument("--clip-norm", type=float)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--torch", metavar="PYTHON", help="compare with PyTorch, in turns")
    parser.add_argument("--stock", metavar="PYTHON", help="one with a stock onnxruntime, for the floor")
    parser.add_argument(
        "--plain",
        metavar="PYTHON",
        help="compare with the plain backend in that environment, of networks in --folder",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile beside it")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="those to compare")
    parser.add_argument("--threads", default="2", help="numbers of threads to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/step_bench"), help="where exported networks stay"
    )
    options = parser.parse_args()
    if options.torch or options.plain:
        found = list(rows(options))
        print(table(found) if options.torch else beside(found))
        if options.torch and options.plain:
            print("\n" + beside(found))
        return
    stages = tuple(int(text) for text in options.stages.split(","))
    parameters, shards, watch = measure(
        stages, options.batch, options.steps, options.size, options.direction, options.clip_norm
    )
    phases = summary(watch)
    if options.json:
        result: dict[str, Any] = {"parameters": parameters, "shards": shards, "batch": options.batch}
        print(json.dumps({**result, "limit": LIMIT, "phases": phases}))
        return
    print(
        f"{parameters / 1e6:.1f} million parameters, batch {options.batch} at {options.size}x{options.size}, "
        f"{shards} shards, medians of {options.steps} steps per phase, milliseconds"
    )
    print(f"{'phase':8s}" + "".join(f"{part:>13s}" for part in (*PARTS, "step")) + "  numpy")
    for phase, row in phases.items():
        cells = "".join(f"{row[part]:13.1f}" for part in (*PARTS, "step"))
        print(
            f"{phase:8s}{cells}{100 * row['numpy_share']:6.1f}% {'ok' if row['numpy_share'] <= LIMIT else 'OVER'}"
        )


if __name__ == "__main__":
    main()
