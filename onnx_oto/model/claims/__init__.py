"""Shape rules by operator; importing this package fills the registries."""

from onnx_oto.model.claims import contrib, sizes, tables, windows
from onnx_oto.model.claims.registry import CLAIMS, FOREIGN, Facts, Foreign, broadcast, merge

__all__ = [
    "CLAIMS",
    "FOREIGN",
    "Facts",
    "Foreign",
    "broadcast",
    "contrib",
    "merge",
    "sizes",
    "tables",
    "windows",
]
