"""Optimizers whose buffers lie on a device, for whoever has arrays: they go there and come back around every step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from onnx_oto.optim import Optimizer, Task
from onnx_oto.optim.base import OptimizerOptions
from onnx_oto.runtime.devices import read_device
from onnx_oto.runtime.resident import Room, Vector

DEVICE = os.environ.get("ONNX_OTO_DEVICE", "CPUExecutionProvider")
"""The runtime's own provider, unless told otherwise where there is another one."""
UNIT = 64


@cache
def room() -> Room:
    """Return the room of all tests: sessions are opened once."""
    device = read_device(DEVICE)
    return Room(replace(device, memory=device.memory or "cpu"))


def there(array: np.ndarray) -> Vector:
    """Return an array on the device, with zeros behind it."""
    longer = np.zeros(padded(len(array)), np.float32)
    longer[: len(array)] = array
    return Vector.of(room(), longer)


def padded(size: int) -> int:
    """Return the size of a buffer that holds so many elements and one that is of no group."""
    return -(-(size + 1) // UNIT) * UNIT


class OnDevice:
    """An optimizer built for a task, but on the device."""

    def __init__(self, options: OptimizerOptions, task: Task) -> None:
        self.inner: Optimizer = options.build(replace(task, size=padded(task.size)))

    def hear(self, loss: float) -> bool:
        return self.inner.hear(loss)

    def step(self, params: np.ndarray, grads: np.ndarray, lr: float) -> None:
        x, g = there(params), there(grads)
        self.inner.step(x, g, lr)  # type: ignore[arg-type]
        np.copyto(params, np.asarray(x)[: len(params)])

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.inner.restore(state)

    @property
    def phase(self) -> str:
        return self.inner.phase

    @property
    def zeroed(self) -> int:
        return self.inner.zeroed

    @property
    def target(self) -> int | None:
        return self.inner.target
