"""Latency of models, measured side by side."""

from onnx_oto.bench.latency import Latency, latency

__all__ = ["Latency", "latency"]
