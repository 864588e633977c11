"""The proof that a device computes the gradients that the CPU computes, before anything is trained on it.

Providers bring kernels of their own, and some of them are wrong: with onnxruntime-openvino 1.24.1 the gradient of a
bicubic GridSample is off by more than its norm, and no message says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.session.equality import example
from onnx_oto.gradients.session.native import Memory
from onnx_oto.gradients.session.resident import Resident
from onnx_oto.gradients.session.shards import Shard, Targets
from onnx_oto.losses import Target
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.resident import require_exact

FARTHEST = 0.05
"""Distance of a parameter's gradient from the CPU's, relative to its norm. Where BatchNormalization sees few samples,
sums in another order alone make 0.01; a kernel that is wrong makes 0.1 and more."""
_SEEN = 1e-3
"""Share of the whole gradient's norm below which a parameter's own is noise."""
_SEED = (0, 0)


class Expected(NamedTuple):
    """What the CPU computes of made-up samples and targets: the loss, and gradients by name."""

    batch: Mapping[str, NDArray[Any]]
    targets: Targets
    loss: float
    gradients: Mapping[str, NDArray[np.float32]]


def expect(here: Shard, memory: Memory, feeds: Sequence[Feed]) -> Expected:
    """Return what a shard on the CPU computes, which writes the first gradients of `memory`."""
    rng = np.random.default_rng(0)
    batch = {feed.name: example(feed, here.size, rng) for feed in feeds}
    targets = {name: _target(target, rng) for name, target in here.targets.items()}
    given = Targets(targets, np.array(1.0 / here.size, np.float32))
    return Expected(batch, given, *_run(here, memory, batch, given))


def require_same(device: Device, there: Shard, memory: Memory, expected: Expected) -> None:
    """Raise UnsupportedError where the same graph computes otherwise on a device; it writes the same gradients."""
    _compare(device, expected, *_run(there, memory, expected.batch, expected.targets))


def require_same_there(device: Device, there: Shard, memory: Memory, expected: Expected) -> Resident:
    """Return the buffers of a session on its device. Raises UnsupportedError where what it computes in them differs."""
    resident = Resident(memory, device)
    require_exact(resident.room)
    before = resident.statistics.value
    loss = resident.step(there, expected.batch, expected.targets, _SEED)
    gradients = memory.layout.views(np.asarray(resident.grads))
    resident.statistics.take(before)
    _compare(device, expected, loss, gradients)
    return resident


def _run(
    shard: Shard, memory: Memory, batch: Mapping[str, NDArray[Any]], targets: Targets
) -> tuple[float, dict[str, NDArray[np.float32]]]:
    loss = shard.run(batch, targets, 0, _SEED)
    gradients = {name: view.copy() for name, view in memory.gradient_views[0].items()}
    memory.grads[0].fill(0.0)
    return loss, gradients


def _compare(
    device: Device, expected: Expected, loss: float, gradients: Mapping[str, NDArray[np.float32]]
) -> None:
    if not np.isfinite(expected.loss):
        return  # such samples prove nothing
    whole = np.sqrt(sum(_norm(each) ** 2 for each in expected.gradients.values()))
    wrong = "" if abs(loss - expected.loss) <= FARTHEST * max(abs(expected.loss), 1e-3) else "the loss"
    for name, own in expected.gradients.items():
        far = _norm(gradients[name] - own)
        if not far <= FARTHEST * max(_norm(own), _SEEN * whole):
            wrong = wrong or f"the gradient of {name!r}"
    if wrong:
        raise UnsupportedError(
            f"device {device.name!r}: {device.provider} computes {wrong} otherwise than the CPU, so a kernel of it is "
            "wrong: use another version of it, or --device cpu"
        )


def _norm(array: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(array.reshape(-1).astype(np.float64)))


def _target(target: Target, rng: np.random.Generator) -> NDArray[np.generic]:
    if target.classes is not None:
        return rng.integers(0, max(target.classes, 1), target.shape).astype(target.dtype)
    numbers = rng.standard_normal(target.shape)
    return np.clip(numbers, target.low, target.high).astype(target.dtype)
