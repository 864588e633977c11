"""The proof that a device computes the gradients that the CPU computes, before anything is trained on it.

Providers bring kernels of their own, and some of them are wrong: with onnxruntime-openvino 1.24.1 the gradient of a
bicubic GridSample is off by more than its norm, and no message says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.session.equality import example
from onnx_oto.gradients.session.native import Memory
from onnx_oto.gradients.session.shards import Shard, Targets
from onnx_oto.losses import Target
from onnx_oto.runtime.devices import Device

FARTHEST = 0.05
"""Distance of a parameter's gradient from the CPU's, relative to its norm. Where BatchNormalization sees few samples,
sums in another order alone make 0.01; a kernel that is wrong makes 0.1 and more."""
_SEEN = 1e-3
"""Share of the whole gradient's norm below which a parameter's own is noise."""


def require_same(device: Device, there: Shard, here: Shard, memory: Memory, feeds: Sequence[Feed]) -> None:
    """Run both shards, which write the first gradients of `memory`, on the same random samples and targets.

    there: on the device; here: the same graph on the CPU. Raises UnsupportedError where they differ.
    """
    rng = np.random.default_rng(0)
    batch = {feed.name: example(feed, there.size, rng) for feed in feeds}
    targets = {name: _target(target, rng) for name, target in there.targets.items()}
    given = Targets(targets, np.array(1.0 / there.size, np.float32))
    found = []
    for shard in (there, here):
        loss = shard.run(batch, given, 0, (0, 0))
        found.append((loss, {name: view.copy() for name, view in memory.gradient_views[0].items()}))
        memory.grads[0].fill(0.0)
    (loss, gradients), (expected_loss, expected) = found
    if not np.isfinite(expected_loss):
        return  # such samples prove nothing
    whole = np.sqrt(sum(_norm(each) ** 2 for each in expected.values()))
    wrong = "" if abs(loss - expected_loss) <= FARTHEST * max(abs(expected_loss), 1e-3) else "the loss"
    for name, own in expected.items():
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
