"""What `train` is asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from onnx_oto.errors import UsageError
from onnx_oto.gradients.backends import AUTO
from onnx_oto.losses import Loss, make
from onnx_oto.metrics import metrics_for
from onnx_oto.optim import DIRECTIONS
from onnx_oto.pipeline.feeding import FeedOptions


@dataclass(frozen=True, kw_only=True)
class TrainOptions(FeedOptions):
    """How to train; the fields are the options of the command line.

    sparsity: share of groups to zero. scope: ranked over the whole model ("global", every dimension keeping at
    least `min_keep` of its lanes) or the same share in every dimension. shards: 0 = one per core. loss and metrics: by
    name, with options as in "smooth-l1:beta=0.5"; no metric: the loss's own. ignore_label: the label that counts for
    nothing, None: -100. backend: what makes gradients, by name. fixed_statistics: whether BatchNormalization trains
    with the running statistics it came with, which stay, not with the batch's.
    """

    sparsity: float = 0.5
    epochs: int = 10
    batch: int = 64
    lr: float = 0.1
    optimizer: str = "dhspg"
    direction: str = "sgd"
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warm_up: float = 0.05
    loss: str = "cross-entropy"
    ignore_label: int | None = None
    metrics: tuple[str, ...] = ()
    output: str | None = None
    seed: int = 0
    shards: int = 0
    scope: Literal["global", "dimension"] = "global"
    min_keep: float = 0.1
    round_to: int = 1
    flip: bool = False
    crop: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    backend: str = AUTO
    fixed_statistics: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"sparsity {self.sparsity} is not a share: give a number from 0 to below 1")
        for name in ("epochs", "batch", "round_to"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}: give at least 1")
        for name in ("shards", "crop", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}: it cannot be negative")
        for name in ("warm_up", "min_keep"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f"{name.replace('_', '-')} is {getattr(self, name)}: give a share from 0 to 1"
                )
        if self.direction not in DIRECTIONS:
            raise UsageError(f"direction '{self.direction}': choose one of {', '.join(DIRECTIONS)}")
        metrics_for(self.make_loss(), self.metrics)

    def make_loss(self) -> Loss:
        """Return the loss with its options. Raises UsageError for what it does not know."""
        return make(self.loss, **({} if self.ignore_label is None else {"ignore": self.ignore_label}))

    @property
    def prunes(self) -> bool:
        """Whether groups are driven to zero at all."""
        return self.optimizer != "dense"

    def as_json(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return values
