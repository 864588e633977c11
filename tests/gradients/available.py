"""The backends, for tests that hold for each; those that this environment lacks are skipped with their reason."""

from __future__ import annotations

import sys

import pytest

from onnx_oto.gradients import BACKENDS, choose_backend
from onnx_oto.gradients.backends.ort_training import OrtTraining

WORKING = tuple(make for make in BACKENDS.values() if make().why_not() is None)
_LACKS = OrtTraining().why_not()
EACH = [
    pytest.param(make, id=name, marks=pytest.mark.skipif(make not in WORKING, reason=str(make().why_not())))
    for name, make in BACKENDS.items()
]
"""For `parametrize`: functions that make a backend."""
needs_training_build = pytest.mark.skipif(_LACKS is not None, reason=str(_LACKS))
"""Marks a test that ONNX Runtime's training build itself is the subject of."""
first = choose_backend
"""Makes the backend that is taken where none is named."""
module = sys.modules[type(first()).__module__]
"""Where that backend is written, for tests that replace what it uses."""
