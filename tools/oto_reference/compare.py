"""Both sides on one network: the largest difference of a parameter after every step.

python -m oto_reference.compare PACKAGE STEPS EVERY
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from onnx_oto.optim import Adam, Dhspg, Direction, Optimizer, Plan, Sgd, Task
from onnx_oto.optim.published import ADAPTIVE, Published, Pull
from oto_reference import theirs
from oto_reference.network import GROUPS, PARTS, Batches, network
from oto_reference.ours import Flat, lowest

SHARE = 0.5
WITHIN = 1e-9
FIRST = 10
"""The step that groups are chosen in."""


@dataclass(frozen=True)
class Case:
    """A direction, and what is set of the penalty, on both sides."""

    name: str
    direction: Direction
    pull: Pull
    lr: float
    eps: float = 0.0


CASES = (
    Case("sgd, as the package has it", Sgd(0.0, weight_decay=0.0), Pull(1e-3, 2.0, 10.0), 0.1),
    Case("sgd, a large lambda", Sgd(0.0, weight_decay=0.0), Pull(2.0, 2.0, 10.0), 0.1),
    Case("sgd with momentum and weight decay", Sgd(0.9, weight_decay=1e-3), Pull(2.0, 1.5, 20.0), 0.05),
    Case("sgd with momentum, eps 0.95", Sgd(0.9, weight_decay=0.0), Pull(2.0, 2.0, 10.0), 0.05, 0.95),
    Case("adam, as the package has it", Adam(weight_decay=0.0), ADAPTIVE, 1e-3),
    Case("adam with weight decay, a large lambda", Adam(weight_decay=1e-3), Pull(10.0, 20.0, 1e3), 1e-2),
)


class Row(NamedTuple):
    """After a step: largest difference, largest parameter, and zero groups: package, published, our default."""

    step: int
    difference: float
    largest: float
    zero: tuple[int, int, int]


def run(case: Case, package: Path, steps: int, kind: torch.dtype) -> list[Row]:
    """Return a row for every step."""
    batches, dtype = Batches(kind), np.float64 if kind == torch.float64 else np.float32
    nets = [network(kind) for _ in range(3)]
    flats = [Flat(dict(net.named_parameters())) for net in nets]
    package_optimizer = _theirs(case, package, flats[0])
    index = flats[1].index(PARTS)
    job = Task(case.direction, flats[1].size, index, lowest(SHARE), steps)
    plan = Plan(FIRST, steps - FIRST, 1)  # no finish within the steps that are compared
    mine: list[Optimizer] = [
        Published(job, plan, pull=case.pull, eps=case.eps, dtype=dtype),
        Dhspg(case.direction, job.size, index, lowest(SHARE), Plan(FIRST, steps // 2, 5), dtype=dtype),
    ]
    values = [flat.values() for flat in flats]
    rows = []
    for step in range(steps):
        lr = case.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        batches.loss(nets[0], step)
        package_optimizer.set_learning_rate(lr)
        theirs.step(package_optimizer)
        values[0] = flats[0].values()
        for at, optimizer in enumerate(mine, 1):
            batches.loss(nets[at], step)
            gradients = flats[at].gradients()
            if step == 0:
                _begin_moments(optimizer, case.direction, values[at], gradients)
            optimizer.step(values[at], gradients, lr)
            flats[at].put(values[at])
        difference = float(np.abs(values[0] - values[1]).max())
        zero = tuple(int(np.count_nonzero(index.square_norms(x) == 0)) for x in values)
        rows.append(Row(step + 1, difference, float(np.abs(values[0]).max()), (zero[0], zero[1], zero[2])))
    return rows


def _theirs(case: Case, package: Path, flat: Flat) -> Any:
    given: dict[str, Any] = {
        "lmbda": case.pull.regularizer,
        "lmbda_amplify": case.pull.amplify,
        "hat_lmbda_coeff": case.pull.ceiling,
        "weight_decay": case.direction.weight_decay,
    }
    if isinstance(case.direction, Sgd):
        given |= {"variant": "sgd", "first_momentum": case.direction.momentum}
    elif isinstance(case.direction, Adam):
        given |= {"variant": "adam", "first_momentum": 0.9, "second_momentum": 0.999}
    return theirs.optimizer_class(package)(
        theirs.groups_of(PARTS, flat.parameters),
        lr=case.lr,
        epsilon=case.eps,
        target_group_sparsity=SHARE,
        tolerance_group_sparsity=0.0,
        start_pruning_steps=FIRST,
        **given,
    )


def _begin_moments(optimizer: Optimizer, direction: Direction, x: np.ndarray, g: np.ndarray) -> None:
    """Let Adam's moments begin at the first gradient, as the package's do: its bias is corrected all the same."""
    if isinstance(direction, Adam):
        first = g + direction.weight_decay * x
        state = optimizer.state()
        optimizer.restore({**state, "direction.mean": first, "direction.square": first * first})


def shown(case: Case, rows: dict[torch.dtype, list[Row]], every: int) -> str:
    """Return a table of every so many steps."""
    lines = [
        f"{case.name}: {GROUPS} groups, {SHARE:.0%} of them chosen in step {FIRST + 1}",
        f"{'step':>6s}{'float64':>12s}{'float32':>12s}{'largest |x|':>13s}   zero: package  published  dhspg",
    ]
    for double, single in zip(rows[torch.float64], rows[torch.float32], strict=True):
        if double.step % every == 0 or double.step == FIRST + 1:
            zero = f"{double.zero[0]:>17d}{double.zero[1]:>11d}{double.zero[2]:>7d}"
            lines.append(
                f"{double.step:>6d}{double.difference:>12.1e}{single.difference:>12.1e}{double.largest:>13.2f}{zero}"
            )
    return "\n".join(lines)


def main(package: str, steps: str, every: str) -> int:
    """Print a table for every case; return 1 if one is not within the bound in float64."""
    torch.set_num_threads(1)
    worst = 0.0
    for case in CASES:
        rows = {kind: run(case, Path(package), int(steps), kind) for kind in (torch.float64, torch.float32)}
        print(shown(case, rows, int(every)) + "\n", flush=True)
        worst = max(worst, *(row.difference for row in rows[torch.float64]))
        if any(row.zero[0] != row.zero[1] for row in rows[torch.float64]):
            worst = math.inf
    is_within = worst <= WITHIN
    print(
        f"largest difference in float64 over all cases and steps: {worst:.1e} "
        f"({'the same rule' if is_within else f'more than {WITHIN:g}: not the same rule'})"
    )
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
