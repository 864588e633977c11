"""Shape rules by operator; importing this package fills the registries."""

from onnx_oto.model.shapes.claims import arithmetic, contrib, dtypes, needs, windows
from onnx_oto.model.shapes.claims.needs import needed
from onnx_oto.model.shapes.claims.table import CLAIMS, FOREIGN, Claimed, Foreign, broadcast, merge

__all__ = [
    "CLAIMS",
    "FOREIGN",
    "Claimed",
    "Foreign",
    "arithmetic",
    "broadcast",
    "contrib",
    "dtypes",
    "merge",
    "needed",
    "needs",
    "windows",
]
