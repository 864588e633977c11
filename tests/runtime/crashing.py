"""What brings a runtime down: an integer divided by zero, which newer ones refuse themselves."""

from __future__ import annotations

import onnxruntime
import pytest

_LAST = (1, 19)
divides_and_dies = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) > _LAST,
    reason="this runtime refuses integer division by zero, and nothing is known that brings it down",
)
