"""What a training step is asked for, and the seam of sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UsageError
from onnx_oto.losses import Loss, make
from onnx_oto.model.normal.origins import Tie
from onnx_oto.peers.portions import WHOLE, Portion
from onnx_oto.runtime.devices import Device

Array = NDArray[Any]
Floats = NDArray[np.float32]
Predict = Callable[[Mapping[str, Array]], Array | Sequence[Array]]
"""A batch by input name -> what the loss reads of it."""


STATISTICS = ("auto", "batch", "shard")


@dataclass(frozen=True)
class TrainingSpec:
    """What is trained, against which loss, in steps of which size. Raises UsageError for values out of range.

    trainable     initializer names (float32); their order is the order in the flat buffers
    loss          a loss, or the name of one (losses.LOSSES)
    batch         samples per step, over all shards
    shards        sessions side by side, each with its share of the batch; 0 = one per core, but never fewer
                  than 16 samples per shard where BatchNormalization uses each shard's statistics
    threads       of each of them; 0 = as many as serve the backend, of the cores that are left over
    portion       which of them run in this process, where several share the batch
    output        the model output the loss reads, or a sequence of them; None = the first ones
    seed          of Dropout; the masks of step t depend on (seed, t) alone
    sample_shapes shape of one sample per model input, for models that leave more than the batch open
    target_shapes shape of one sample per target that is known, from which the loss sees how it is meant
    held          initializer names (float32) that do not train, but lie in the flat buffers behind the trainable ones:
                  a session reads what is written there
    ties          which of them hold the same parameter: each gets the sum of their gradients
    statistics    of which samples BatchNormalization takes its own in training: "batch", the whole, "shard", each
                  shard's, or "auto", the whole where the backend can
    device        where its sessions run
    fixed_statistics
                  whether BatchNormalization uses the running statistics it came with, which then stay as they are
    recompute     whether most tensors of the way forth are not kept for the way back, but made again
    """

    trainable: tuple[str, ...]
    loss: str | Loss
    batch: int
    shards: int = 0
    threads: int = 0
    output: str | Sequence[str] | None = None
    seed: int = 0
    sample_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    target_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    statistics: str = "auto"
    fixed_statistics: bool = False
    recompute: bool = False
    device: Device = field(default_factory=Device)
    ties: tuple[Tie, ...] = field(default=(), compare=False)
    portion: Portion = WHOLE

    def __post_init__(self) -> None:
        make(self.loss)
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}: it must be at least 1")
        if self.shards < 0 or self.shards > self.batch:
            raise UsageError(f"shards is {self.shards}: choose 0 (automatic) to {self.batch} (the batch)")
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}: choose 0 (automatic) or more")
        if self.statistics not in STATISTICS:
            raise UsageError(f"statistics is {self.statistics!r}: choose one of {', '.join(STATISTICS)}")
        if not self.trainable:
            raise UsageError("no trainable parameter was named: there is nothing to train")
        names = (*self.trainable, *self.held)
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"trainable parameter {twice!r} is named twice")


class GradientSession(Protocol):
    """One model in training. The arrays belong to the session; change them in place, never replace them.

    They are numpy's, or stand for such and lie on a device (`runtime/resident`): what is done to all of one array at
    once works on both, and `np.asarray` gives a copy of numpy.

    params   float32 [P]: every parameter in the flat buffers, one after the other; a change is seen by the next step
    grads    float32 [P]: the gradient of the mean loss of the last step; the caller's to overwrite
    still    names of the parameters in the buffers whose gradient is always 0: held, or not on the way to the loss
    slices   parameter name -> (offset in the flat buffers, shape)
    statistics
             float32 [S]: BatchNormalization running means and variances, one after the other; `step` updates them
    statistic_slices
             their initializer names -> (offset there, shape)
    steps    steps taken so far; it also selects the Dropout masks, so restore it when training goes on
    shards   into how many parts a batch is divided
    hindrance
             why parameters do not stay on the device, though its memory could hold them; None where nothing hinders
    rows     int64 [n], which samples of a batch `step` takes, where other processes take the rest; None = all
    """

    params: Floats
    grads: Floats
    still: frozenset[str]
    slices: dict[str, tuple[int, tuple[int, ...]]]
    statistics: Floats
    statistic_slices: dict[str, tuple[int, tuple[int, ...]]]
    steps: int
    shards: int
    rows: NDArray[np.int64] | None
    hindrance: str | None

    def step(self, batch: Mapping[str, Array], target: Array | Mapping[str, Array] | None) -> float:
        """Return the mean loss of one batch after filling `grads`; `params` is only read. Of all processes the same.

        target: by name, or the array of the only one, "y".

        Raises DataError when the batch does not fit the model. A loss that is not finite is returned as is.
        """
        ...

    def predict(self, batch: Mapping[str, Array]) -> Array | list[Array]:
        """Return what the loss reads (see `losses.read`) for any number of samples, in inference mode.

        One array, or a list where the loss reads several outputs.
        """
        ...

    def evaluating(self, samples: int) -> AbstractContextManager[Predict]:
        """Return a block that gives a `predict` for so many samples: of the parameters as they are on entering it."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return copies of all trainable parameters and running statistics by initializer name."""
        ...

    def close(self) -> None:
        """Stop the worker threads. The session cannot be used afterwards."""
        ...
