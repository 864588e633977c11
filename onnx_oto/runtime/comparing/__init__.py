"""Proof that two models compute the same."""

from onnx_oto.runtime.comparing.compare import Feeding, compare
from onnx_oto.runtime.comparing.feeds import feeds_at
from onnx_oto.runtime.comparing.inputs import random_inputs
from onnx_oto.runtime.comparing.piecewise import Held, compare_piecewise
from onnx_oto.runtime.comparing.verdict import Departure, Verdict, size_text

__all__ = [
    "Departure",
    "Feeding",
    "Held",
    "Verdict",
    "compare",
    "compare_piecewise",
    "feeds_at",
    "random_inputs",
    "size_text",
]
