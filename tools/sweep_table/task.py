"""What the parent of a sweep asks of the process that probes one model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What the parent asks for.

    stock: a Python with stock onnxruntime, or "". openvino: in its OpenVINO, too. memory: bytes, 0 = no limit.
    """

    path: str
    sparsity: float = 0.5
    by: str = "magnitude"
    seed: int = 0
    stock: str = ""
    memory: int = 0
    latency: float = 1.0
    head_dims: bool = False
    openvino: bool = False
