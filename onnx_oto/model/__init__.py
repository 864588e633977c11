"""Models: safe load, atomic save, normal form, and the view that analysis reads."""

from onnx_oto.model.check import check, full_check
from onnx_oto.model.dims import Dim, Shape
from onnx_oto.model.files import load, runnable_bytes, stored_bytes
from onnx_oto.model.graph import Graph, graph
from onnx_oto.model.node import Node
from onnx_oto.model.normal import normalise
from onnx_oto.model.shapes import infer
from onnx_oto.model.store import save

__all__ = [
    "Dim",
    "Graph",
    "Node",
    "Shape",
    "check",
    "full_check",
    "graph",
    "infer",
    "load",
    "normalise",
    "runnable_bytes",
    "save",
    "stored_bytes",
]
