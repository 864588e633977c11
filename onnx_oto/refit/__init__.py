"""What the layers that read a cut channel can make up for, from the activations that they see."""

from onnx_oto.refit.elimination import losses
from onnx_oto.refit.least_squares import Refitted, refitted
from onnx_oto.refit.moments import Moments, gathered
from onnx_oto.refit.readers import Reader, readers
from onnx_oto.refit.taps import Tapped, tapped

__all__ = ["Moments", "Reader", "Refitted", "Tapped", "gathered", "losses", "readers", "refitted", "tapped"]
