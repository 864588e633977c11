"""Whole training steps on a device: with all that is trained staying there, and with the optimizer in numpy.

    .venv/bin/python tools/device_steps.py cuda [--networks resnet20,resnet18] [--batch 64] [--steps 10]
    .venv/bin/python tools/device_steps.py CPUExecutionProvider     # the same code where there is no device

First every optimizer with every direction on random buffers: the largest difference to numpy's parameters over 60
steps, and whether the same groups are zero. Then, for each network, steps of DHSPG while its groups shrink, and of
Adam, in turns with sessions that have parameters and gradients in arrays of numpy: medians in milliseconds, of the
clock and of the processor, what crosses in a step besides the batch, and the largest difference of losses.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/
sys.path.insert(0, str(Path(__file__).resolve().parent))

from paper_six.form import Form
from paper_six.networks import NETWORKS
from step_bench.optimizer import dhspg

from onnx_oto.gradients import TrainingSpec, prepare
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.model import normalise
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS, Dense, GroupIndex, Optimizer, Plan, Stretch, Task
from onnx_oto.runtime.devices import Device, read_device, require_device
from onnx_oto.runtime.resident import Room, Vector
from onnx_oto.training.guard import Guard
from onnx_oto.zigs import analyse, trainable

GROUPS, ROW, SIZE = 60, 300, 20480
LR = 1e-3


class Apart(Device):
    """A provider that is given arrays of numpy, the CPU's too."""

    @property
    def is_cpu(self) -> bool:
        return False


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    """Choose half of the groups: those that are gone, then the lowest."""
    first = np.zeros(GROUPS, np.bool_) if gone is None else gone
    chosen = np.zeros(GROUPS, np.bool_)
    chosen[np.lexsort((scores, ~first))[: round(share * GROUPS / 2)]] = True
    return chosen


def compare(device: Device) -> None:
    """Print how far every optimizer on a device is from the one in numpy."""
    room, labels = Room(device), np.arange(GROUPS, dtype=np.int32)
    blocks = (Stretch(0, 1, GROUPS, ROW, labels), Stretch(GROUPS * ROW, 3, GROUPS, 1, labels))
    for name, options in OPTIMIZERS.items():
        told = []
        for direction, kind in DIRECTIONS.items():
            task = Task(kind(), SIZE, GroupIndex(blocks, GROUPS), lowest, 40, (slice(0, GROUPS * ROW),))
            here, there = (trajectory(options().build(task), place) for place in (None, room))
            far = max(float(np.abs(a - b).max()) for a, b in zip(here, there, strict=True))
            same = all(np.array_equal(a == 0, b == 0) for a, b in zip(here, there, strict=True))
            told.append(f"{direction} {far:.1e}{'' if same else ' OTHER ZEROS'}")
        print(f"{name}: {', '.join(told)}", flush=True)


def trajectory(optimizer: Optimizer, room: Room | None) -> list[np.ndarray]:
    """Return the parameters after every step, in numpy where there is no room."""
    rng = np.random.default_rng(0)
    x: Any = rng.standard_normal(SIZE).astype(np.float32)
    x[GROUPS * (ROW + 3) :] = 0
    g: Any = np.zeros_like(x)
    if room is not None:
        x, g = Vector.of(room, x), Vector.of(room, g)
    found = []
    for _ in range(60):
        noise = rng.standard_normal(SIZE).astype(np.float32) * np.float32(0.1)
        noise[GROUPS * (ROW + 3) :] = 0
        np.copyto(g, np.asarray(x) * np.float32(0.3) + noise)
        optimizer.step(x, g, 0.02)
        found.append(np.array(np.asarray(x)))
    return found


@dataclass
class Running:
    """A session in training."""

    session: ShardedSession
    optimizer: Optimizer
    guard: Guard
    times: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    crossed: tuple[int, int] = (0, 0)

    def step(self, batch: dict[str, np.ndarray], labels: np.ndarray) -> None:
        """Take a step as the loop does, to its end."""
        session, room = self.session, room_of(self.session)
        before = (room.sent, room.received) if room else (0, 0)
        begin, worked = time.perf_counter(), time.process_time()
        self.losses.append(session.step(batch, labels))
        fault = self.guard.fault(self.losses[-1])
        if fault is not None:
            raise SystemExit(fault)
        self.guard.accept()
        self.optimizer.step(session.params, session.grads, LR)
        if room is not None:
            room.run()  # what it would do in front of the next step
            self.crossed = (room.sent - before[0], room.received - before[1])
        self.times.append(1000 * (time.perf_counter() - begin))
        self.busy.append(1000 * (time.process_time() - worked))


def room_of(session: ShardedSession) -> Room | None:
    """Return where its parameters stay."""
    params: Any = session.params
    return params.room if isinstance(params, Vector) else None


def measure(name: str, batch: int, device: Device, steps: int) -> None:
    """Print the steps of a network for images of 32x32."""
    model = normalise(NETWORKS[name](Form(classes=10, size=32), 0))
    analysis = analyse(model)
    ways: dict[str, Callable[[ShardedSession], Optimizer]] = {
        "dhspg, shrinking": lambda session: dhspg(analysis, session, Plan(0, 4 * steps, 1), 0.6, "sgd"),
        "adam": lambda session: Dense(DIRECTIONS["adam"](), session.params.size),
    }
    places = (device, Apart(device.name, device.provider, device.options))
    value = model.graph.input[0]
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
    x = {value.name: np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)}
    for way, make in ways.items():
        runs = []
        for place in places:
            spec = TrainingSpec(trainable(analysis), "cross-entropy", batch=batch, shards=1, device=place)
            session = prepare(model, spec, Plain(on_cpu=False)).build()
            assert isinstance(session, ShardedSession)
            runs.append(Running(session, make(session), Guard(session)))
        for _ in range(steps):
            for run in runs:
                run.step(x, np.arange(batch) % 10)
        there, here = runs
        far = max(abs(a - b) for a, b in zip(there.losses, here.losses, strict=True))
        cross = 4 * (here.session.params.size + here.session.statistics.size)
        print(
            f"{name}, batch {batch}, {way}: {median(there.times[3:]):.1f} ms there, {median(here.times[3:]):.1f} with "
            f"numpy; of the processor {median(there.busy[3:]):.1f} and {median(here.busy[3:]):.1f}; "
            f"{there.crossed[0]:,} bytes go and {there.crossed[1] + 4:,} come, {cross:,} and {cross + 4:,} with numpy; "
            f"losses differ by {far:.1e} at most",
            flush=True,
        )
        for run in runs:
            run.session.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("device", type=read_device)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=["resnet20", "resnet18"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    require_device(options.device)
    device = replace(options.device, memory=options.device.memory or "cpu")
    compare(device)
    for name in options.networks:
        measure(name, options.batch, device, options.steps)


if __name__ == "__main__":
    main()
