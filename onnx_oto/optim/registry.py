"""The optimizers by name. A new one is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_oto.errors import UsageError
from onnx_oto.optim.base import Dense, Optimizer
from onnx_oto.optim.dhspg import Dhspg, Select
from onnx_oto.optim.directions import Direction
from onnx_oto.optim.groups import GroupIndex
from onnx_oto.optim.plan import Plan


@dataclass(frozen=True)
class Task:
    """What an optimizer is asked to do.

    size: parameters in the flat buffer. select: which groups to drop, from their scores
    (low = drop first). options: keyword arguments of the optimizer itself.
    """

    direction: Direction
    size: int
    groups: GroupIndex
    select: Select
    plan: Plan
    options: Mapping[str, Any] = field(default_factory=dict)


def _dense(task: Task) -> Optimizer:
    return Dense(task.direction, task.size, **task.options)


def _dhspg(task: Task) -> Optimizer:
    return Dhspg(task.direction, task.size, task.groups, task.select, task.plan, **task.options)


OPTIMIZERS: dict[str, Callable[[Task], Optimizer]] = {"dense": _dense, "dhspg": _dhspg}


def make(name: str, task: Task) -> Optimizer:
    """Return the optimizer `name` for a task; UsageError names the choices."""
    if name not in OPTIMIZERS:
        raise UsageError(f"optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](task)
