"""What every model of one run is made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """bn: BatchNormalization "folded" into its neighbours or "kept" as nodes; "training": kept, and the whole model
    exported in training mode (torchscript only). exporter: "dynamo" or "torchscript" (torch sets only). static: fix
    the batch at 2. seed: of weights and statistics."""

    bn: str = "folded"
    exporter: str = "dynamo"
    static: bool = False
    seed: int = 0
