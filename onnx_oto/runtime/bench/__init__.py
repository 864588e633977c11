"""Models measured on the runtime that will serve them, by the interpreter of any Python environment."""

from onnx_oto.runtime.bench.driver import ENGINES, Bench
from onnx_oto.runtime.bench.measured import Host, Measured, NodeTime, Timing, Weight
from onnx_oto.runtime.bench.staircase import Staircase, probe_block

__all__ = [
    "ENGINES",
    "Bench",
    "Host",
    "Measured",
    "NodeTime",
    "Staircase",
    "Timing",
    "Weight",
    "probe_block",
]
