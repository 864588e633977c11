"""The picture of a graph as a file of its own: `inspect --graph`."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from onnx_oto import __version__
from onnx_oto.errors import RuntimeMissingError, UnsupportedError
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import storing
from onnx_oto.pipeline.opening import Opened
from onnx_oto.reporting.drawing import png, svg
from onnx_oto.reporting.layers import Looked, layers
from onnx_oto.reporting.layout import NoLayout
from onnx_oto.reporting.picture import Picture, draw
from onnx_oto.reporting.rendering import render
from onnx_oto.zigs.cost import count_macs


def draw_graph(opened: Opened, place: str | os.PathLike[str]) -> Picture:
    """Write the graph of a model to a file, as what its name ends in; return what is in it.

    A page lists the graph where it cannot be drawn; of the others RuntimeMissingError is raised without graphviz, and
    UnsupportedError where that takes too long. Raises StorageError.
    """
    looked = Looked(opened.analysis, None, count_macs(opened.analysis).at)
    picture = draw(looked, layers(looked, {}))
    kind = Path(place).suffix.lower()
    title = f"The graph of {opened.path.name}"
    try:
        content = _page(picture, title) if kind == ".html" else _image(picture, title, kind)
    except NoLayout as trouble:
        has_graphviz = importlib.util.find_spec("pygraphviz") is not None or shutil.which("dot") is not None
        kind_of_error = UnsupportedError if has_graphviz else RuntimeMissingError
        raise kind_of_error(
            f"'{place}' is not drawn: {trouble}; a name that ends in .html lists the graph"
        ) from None
    with storing(place), replacing(place) as file:
        file.write(content)
    return picture


def _image(picture: Picture, title: str, kind: str) -> bytes:
    if picture.placed is None:
        raise NoLayout(picture.why)
    return png(picture, title) if kind == ".png" else svg(picture, title).encode()


def _page(picture: Picture, title: str) -> bytes:
    drawing = svg(picture, title, alone=False) if picture.placed is not None else None
    return render(
        "graph.html", title=title, picture=picture, graph=drawing, reads=picture.reads(), version=__version__
    ).encode()
