"""Proof that two models compute the same."""

from onnx_oto.verify.compare import Feeding, compare
from onnx_oto.verify.inputs import random_inputs
from onnx_oto.verify.verdict import Change, Verdict, size_text

__all__ = ["Change", "Feeding", "Verdict", "compare", "random_inputs", "size_text"]
