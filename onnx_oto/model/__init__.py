"""Models: safe load, atomic save, normal form, and the view that analysis reads."""

from onnx_oto.model.files.check import check, full_check
from onnx_oto.model.files.loading import load, runnable_bytes, stored_bytes
from onnx_oto.model.files.saving import save
from onnx_oto.model.graph.node import Node
from onnx_oto.model.normal.form import normal_form, normalise
from onnx_oto.model.shapes.dims import Dim, Shape
from onnx_oto.model.shapes.inference import infer
from onnx_oto.model.view import Graph, graph

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
    "normal_form",
    "normalise",
    "runnable_bytes",
    "save",
    "stored_bytes",
]
