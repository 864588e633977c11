"""Reverse mode written as plain ONNX: any ONNX Runtime computes it.

backend.py      the backend
reverse.py      the graph read backwards
table.py        the table of gradients, and what it covers
back.py         what a gradient may read and write
kernels.py      gradients as single nodes, for functions of ours, and what they are written out
elementwise.py, moves.py, products.py, reductions.py, normalization.py, losses.py, convolution.py, pooling.py:
                the gradients
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from onnx_oto.gradients.backends.plain.backend import Plain

__all__ = ["Plain"]

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")
