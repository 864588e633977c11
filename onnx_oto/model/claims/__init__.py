"""Shape rules by operator; importing this package fills the registries."""

from onnx_oto.model.claims import contrib, needs, sizes, tables, windows
from onnx_oto.model.claims.needs import needed
from onnx_oto.model.claims.registry import CLAIMS, FOREIGN, Facts, Foreign, broadcast, merge

__all__ = [
    "CLAIMS",
    "FOREIGN",
    "Facts",
    "Foreign",
    "broadcast",
    "contrib",
    "merge",
    "needed",
    "needs",
    "sizes",
    "tables",
    "windows",
]
