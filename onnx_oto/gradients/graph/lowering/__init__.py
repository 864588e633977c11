"""Training-only rewriting of a graph into ops with a correct gradient; one function per op.

Every module here is imported: that enters its functions into the table. A new family is one file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from onnx_oto.gradients.graph.lowering.engine import Lowered, Refusal, lower
from onnx_oto.gradients.graph.lowering.lowerings import Mask, registered

__all__ = ["Lowered", "Mask", "Refusal", "lower", "registered"]

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")
