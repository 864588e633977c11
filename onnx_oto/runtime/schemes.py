"""What a runtime wants of models in 8 bits. Only the standard library is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """What a runtime wants of quantized models. All weights are symmetric, with a scale for each channel.

    activations: "uint8" or "int8". symmetric: whether the zero point of activations is the middle. reduced: weights of
    7 bits, for processors that add products of pairs up in 16. biases: whether they become int32.
    """

    activations: str = "uint8"
    symmetric: bool = False
    reduced: bool = False
    biases: bool = True
