"""Models measured on the runtime that will serve them, by the interpreter of any Python environment."""

from onnx_oto.runtime.serving.driver import ENGINES, Serving
from onnx_oto.runtime.serving.measured import Host, Measured, NodeTime, Timing, median_interval
from onnx_oto.runtime.serving.staircase import Staircase, probe_block

__all__ = [
    "ENGINES",
    "Host",
    "Measured",
    "NodeTime",
    "Serving",
    "Staircase",
    "Timing",
    "median_interval",
    "probe_block",
]
