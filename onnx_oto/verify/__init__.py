"""Proof that two models compute the same."""

from onnx_oto.verify.compare import Verdict, compare
from onnx_oto.verify.inputs import random_inputs
from onnx_oto.verify.runner import Runner, runner

__all__ = ["Runner", "Verdict", "compare", "random_inputs", "runner"]
