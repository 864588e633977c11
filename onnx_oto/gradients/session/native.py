"""What native code works on: sessions of the runtime, and the memory that they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from onnx_oto.errors import OtoError, UnsupportedError
from onnx_oto.gradients.graph.parameters import Weights
from onnx_oto.gradients.session.flat import FlatLayout, aligned_zeros, padded
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.gradient_jobs import open_light
from onnx_oto.runtime.runner import first_line

Array = NDArray[Any]


def open_session(content: bytes, device: Device, disabled: Sequence[str] = ()) -> Any:
    """Return a session on a device; disabled: optimizers left out. Raises UnsupportedError for what does not load."""
    try:
        return open_light(content, device, disabled)
    except OtoError:
        raise
    except Exception as error:
        raise UnsupportedError(f"ONNX Runtime cannot load the training graph: {first_line(error)}") from error


def placed(content: bytes, device: Device) -> tuple[Device, Any]:
    """Return a session and where it is: on the CPU where the device's provider cannot load an operator of it.

    What is trained was lowered to operators that every provider has; what is evaluated was not.
    """
    try:
        return device, open_session(content, device)
    except UnsupportedError:
        if device.is_cpu:
            raise
        return Device(), open_session(content, Device())


def shared(array: Array) -> Any:
    """Return an OrtValue over the array's own memory; it does not keep the array alive."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


class Memory:
    """All arrays that native code reads and writes, and the OrtValues over them.

    added: the gradients of the first shard and the running statistics, in one piece: what processes add up. one:
    whether the shards have one buffer of gradients.
    """

    def __init__(
        self,
        *,
        parameters: FlatLayout,
        statistics: FlatLayout,
        weights: Weights,
        shards: int,
        one: bool = False,
    ) -> None:
        self.layout = parameters
        self.params = parameters.pack(weights.trainable)
        begin = padded(parameters.size)
        self.added = aligned_zeros(begin + statistics.size)
        self.statistics = self.added[begin:]
        self.statistics[:] = statistics.pack(weights.statistics)
        own = self.added[: parameters.size]
        self.grads = [own, *(aligned_zeros(parameters.size) for _ in range(0 if one else shards - 1))]
        self.updates = [aligned_zeros(statistics.size) for _ in range(shards)]
        self.statistic_slices = statistics.slices
        self.buffers = statistics.views(self.statistics)
        self.gradient_views = [parameters.views(flat) for flat in self.grads] * (shards if one else 1)
        self.update_views = [statistics.views(flat) for flat in self.updates]
        frozen = {name: np.ascontiguousarray(value) for name, value in weights.frozen.items()}
        self.arrays = {**parameters.views(self.params), **self.buffers, **frozen}
        self.frozen = frozenset(frozen)
        self.values = {name: shared(array) for name, array in self.arrays.items()}
