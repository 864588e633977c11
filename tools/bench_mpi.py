"""Two ranks against two shards of one process: whole training steps of a residual network, in turns.

    .venv/bin/python tools/bench_mpi.py --rounds 12 [--arch resnet18 --batch 32]

Both sides are started once and take blocks of steps one after the other, each while the other one sleeps, so that what
else the machine does falls on both. Prints milliseconds of a step, the ratio of each pair of blocks, what one sum over
the ranks takes, and how loaded the machine was. --threads: the cores that both sides may use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # tools are run, not imported

from models import residual
from mpi_launch import command, environment, missing

CLASSES = 10
ARCHITECTURES = {
    "resnet20": ((16, 32, 64), 3, (1, 28, 28)),
    "resnet18": ((64, 128, 256, 512), 2, (3, 32, 32)),
}
"""Channels of each stage, blocks of each, shape of an image."""
_SUMS = 100


def serve(arch: str, batch: int, shards: int, ranked: bool) -> None:
    """Take as many steps as a line of stdin says, and answer with a line of JSON, until there is none."""
    from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
    from onnx_oto.optim import Dense, Sgd
    from onnx_oto.peers.lifeline import Voice
    from onnx_oto.peers.mpi import Ranks
    from onnx_oto.peers.seam import ALONE

    peers: Any = Ranks(Voice(print, os._exit), shards) if ranked else ALONE
    stages, blocks, image = ARCHITECTURES[arch]
    model = residual(stages=stages, blocks=blocks, image=image, classes=CLASSES)
    names = [each.name for each in model.graph.initializer]
    trained = tuple(name for name in names if not name.endswith(("mean", "var")))
    spec = TrainingSpec(
        trained,
        "cross-entropy",
        batch,
        shards,
        statistics="shard",
        target_shapes={"y": ()},
        portion=peers.portion,
    )
    prepared = prepare(model, spec, choose_backend("auto"))
    session = prepared.build(peers=peers)
    optimizer = Dense(Sgd(momentum=0.9), session.params.size)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, *image)).astype(np.float32), rng.integers(0, CLASSES, batch)
    rows = np.arange(batch) if session.rows is None else session.rows
    own = {prepared.feeds[0].name: x[rows]}

    def steps(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            begin = time.perf_counter()
            session.step(own, y[rows])
            optimizer.step(session.params, session.grads, 1e-3)
            taken.append(1e3 * (time.perf_counter() - begin))
        return taken

    steps(3)
    flat, sums = np.zeros(session.params.size + sum(b.size for b in session.buffers.values()), np.float32), []
    for _ in range(_SUMS):
        begin = time.perf_counter()
        peers.add_up(flat, [1.0])
        sums.append(1e3 * (time.perf_counter() - begin))
    if peers.rank == 0:
        print(json.dumps({"bytes": flat.nbytes, "sum": statistics.median(sums)}), flush=True)
    while line := peers.told(sys.stdin.readline).strip():
        begin = time.process_time()
        taken = steps(int(line))
        used = 1e3 * (time.process_time() - begin) / int(line)
        everywhere = sum(peers.gather(used))
        if peers.rank == 0:
            print(json.dumps([statistics.median(taken), everywhere]), flush=True)
    os._exit(0)


class Side:
    """One of the two, started."""

    def __init__(self, ranks: int, words: list[str]) -> None:
        whole = [sys.executable, __file__, "--serve", *words]
        self.process = subprocess.Popen(
            whole if ranks == 1 else command(ranks, whole),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def answer(self) -> Any:
        """Return what it says next."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line[:1] in "[{":
                return json.loads(line)
        raise SystemExit("a side has ended")

    def ask(self, count: int) -> list[float]:
        """Return the median milliseconds of so many steps, and those of processors that one takes."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        found: list[float] = self.answer()
        return found


def main() -> int:
    """Print the comparison; the exit code says whether two ranks reach --least of the speed."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--arch", choices=ARCHITECTURES, default="resnet20")
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--ranks", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=12)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--least", type=float, default=0.9)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--ranked", action="store_true", help=argparse.SUPPRESS)
    wanted = arguments.parse_args()
    if wanted.serve:
        serve(wanted.arch, wanted.batch, wanted.ranks, wanted.ranked)
    if reason := missing():
        print(f"{reason}: pip install 'onnx-oto[mpi]'")
        return 1
    words = ["--arch", wanted.arch, "--batch", str(wanted.batch), "--ranks", str(wanted.ranks)]
    alone, shared = Side(1, words), Side(wanted.ranks, [*words, "--ranked"])
    alone.answer()
    facts = shared.answer()
    pairs, used = [], []
    before = os.getloadavg()[0]
    for turn in range(wanted.rounds):
        sides = (alone, shared) if turn % 2 == 0 else (shared, alone)
        found = {side: side.ask(wanted.steps) for side in sides}
        one, other = found[alone], found[shared]
        pairs.append((one[0], other[0]))
        used.append((one[1], other[1]))
        print(
            f"round {turn}: {one[0]:.1f} ms, {other[0]:.1f} ms: {one[0] / other[0]:.3f}; of processors "
            f"{one[1]:.1f} ms, {other[1]:.1f} ms: {one[1] / other[1]:.3f}",
            flush=True,
        )
    ratios = [one / other for one, other in pairs]
    ms = [statistics.median(column) for column in zip(*pairs, strict=True)]
    least = [min(column) for column in zip(*pairs, strict=True)]
    print(
        f"{wanted.arch}, batch {wanted.batch}: {wanted.ranks} shards {ms[0]:.1f} ms (least {least[0]:.1f}), "
        f"{wanted.ranks} ranks {ms[1]:.1f} ms (least {least[1]:.1f}); speed of ranks / shards: median of pairs "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
    )
    work = [one / other for one, other in used]
    print(
        f"processor time, shards / ranks: median of pairs {statistics.median(work):.3f} "
        f"({min(work):.3f} to {max(work):.3f})"
    )
    print(
        f"one sum over the ranks: {facts['bytes']:,} bytes, {facts['sum']:.2f} ms; load {before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores"
    )
    for side in (alone, shared):
        side.process.kill()
    return 0 if statistics.median(ratios) >= wanted.least else 1


if __name__ == "__main__":
    sys.exit(main())
