"""How long one optimizer step takes, at the size of a ResNet-18 (CIFAR stem, 11.2 million parameters).

The package's DHSPG, ours, and PyTorch's SGD with momentum (foreach), which shrinks nothing, take turns; gradients are
drawn anew for each step and not timed. The first steps are plain, then half of the groups shrink.

python -m oto_reference.timing PACKAGE STEPS EVERY
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from onnx_oto.optim import OPTIMIZERS, Dhspg, Optimizer, Plan, Sgd, Task
from oto_reference import theirs
from oto_reference.network import Part
from oto_reference.ours import Flat, lowest

STAGES, BLOCKS = (64, 128, 256, 512), 2
Step = Callable[[], None]


def parameters() -> dict[str, torch.nn.Parameter]:
    """Return the convolutions, norms and the last layer of a ResNet-18, random."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, width: int, *inputs: int) -> None:
        shapes[f"{name}.weight"] = (width, *inputs)
        shapes[f"{name}.scale"] = shapes[f"{name}.shift"] = (width,)

    layer("stem", STAGES[0], 3, 3, 3)
    before = STAGES[0]
    for stage, width in enumerate(STAGES):
        for block in range(BLOCKS):
            layer(f"{stage}.{block}.a", width, before, 3, 3)
            layer(f"{stage}.{block}.b", width, width, 3, 3)
            if width != before:
                layer(f"{stage}.{block}.short", width, before, 1, 1)
            before = width
    shapes["head"] = (10, before)
    return {name: torch.nn.Parameter(0.1 * torch.randn(shape)) for name, shape in shapes.items()}


def parts_of(named: dict[str, torch.nn.Parameter]) -> list[Part]:
    """Return every layer's rows as groups of their own."""
    layers: dict[str, list[str]] = {}
    for name in named:
        if name != "head":
            layers.setdefault(name.rpartition(".")[0], []).append(name)
    return [Part(named[names[0]].shape[0], dict.fromkeys(names, 0)) for names in layers.values()]


def sides(package: Path, steps: int) -> dict[str, tuple[Step, Step]]:
    """Return, by name, what draws gradients and what takes the step. Groups shrink in the second half of the steps."""
    found: dict[str, tuple[Step, Step]] = {}
    rng = torch.Generator().manual_seed(1)

    def fresh() -> tuple[dict[str, torch.nn.Parameter], Step]:
        named = parameters()
        for each in named.values():
            each.grad = torch.zeros_like(each)

        def draw() -> None:
            for each in named.values():
                assert each.grad is not None
                each.grad.normal_(generator=rng)

        return named, draw

    named, draw = fresh()
    sgd = torch.optim.SGD(named.values(), lr=1e-4, momentum=0.9, weight_decay=5e-4, foreach=True)
    found["torch SGD, foreach"] = (draw, lambda: sgd.step())
    named, draw = fresh()
    other = theirs.optimizer_class(package)(
        theirs.groups_of(parts_of(named), named),
        lr=1e-4,
        first_momentum=0.9,
        weight_decay=5e-4,
        target_group_sparsity=0.5,
        tolerance_group_sparsity=0.0,
        start_pruning_steps=steps // 2,
    )
    found["the package"] = (draw, lambda: theirs.step(other))
    flat = Flat(parameters())
    index = flat.index(parts_of(dict(flat.parameters)))
    job = Task(Sgd(), flat.size, index, lowest(0.5), steps)
    plan = Plan(steps // 2, steps, 1)
    mine: dict[str, Optimizer] = {
        "dense": OPTIMIZERS["dense"]().build(job),
        "dhspg": Dhspg(Sgd(), flat.size, index, lowest(0.5), plan, regularizer=1e-3),
    }
    for name, optimizer in mine.items():
        found[f"ours, {name}"] = _ours(optimizer, flat)
    return found


def _ours(optimizer: Optimizer, flat: Flat) -> tuple[Step, Step]:
    x, g, rng = flat.values(), np.empty(flat.size, np.float32), np.random.default_rng(1)

    def draw() -> None:
        rng.standard_normal(dtype=np.float32, out=g)

    return draw, lambda: optimizer.step(x, g, 1e-4)


def main(package: str, steps: str, every: str) -> int:
    """Print medians of the milliseconds of both halves; the first four steps of each half are left out."""
    count = max(int(steps), 20)
    both = sides(Path(package), count)
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(count):
        for name, (draw, step) in both.items():
            draw()
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    size = sum(each.numel() for each in parameters().values())
    print(
        f"{size:,} parameters, milliseconds of a step (median of {count // 2 - 4}), {torch.get_num_threads()} threads"
    )
    print(f"{'':22s}{'plain':>8s}{'shrinking':>11s}")
    for name, all_of_them in seconds.items():
        halves = (all_of_them[4 : count // 2], all_of_them[count // 2 + 4 :])
        plain, shrinking = (1e3 * statistics.median(half) for half in halves)
        print(f"{name:22s}{plain:8.1f}{shrinking:11.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
