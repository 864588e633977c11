"""Nodes that mix channels linearly, y = W x + b: what a channel that goes gave to y, other channels can give as well.

A reader is told by its operator (`FORMS`): one function each, which says how the weight is a matrix, which features of
the input it multiplies, and where a constant can be added to y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.trace import Role
from onnx_oto.model.graph.node import Node
from onnx_oto.zigs.analysis import Analysis

Array = npt.NDArray[Any]
FEW = 2
"""An axis of fewer channels loses none."""


@dataclass(frozen=True)
class Bias:
    """An initializer with one number per output, of which `factor` times what is added arrives in y."""

    name: str
    factor: float


@dataclass(frozen=True)
class Window:
    """Where a convolution reads: sizes, steps and dilations per spatial axis; pads, or auto_pad's way to find them."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str

    @property
    def taps(self) -> int:
        """How many positions one output reads."""
        return int(np.prod(self.kernel, dtype=np.int64))

    @property
    def extents(self) -> tuple[int, ...]:
        """How many positions lie between the first and the last that one output reads, those included."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True))

    @property
    def is_agreed(self) -> bool:
        """Whether all runtimes find the same way to fill: of steps much longer than a window some cut the front off."""
        far = any(step > extent + 1 for step, extent in zip(self.strides, self.extents, strict=True))
        return not (far and self.auto.startswith("SAME"))


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear node, in G groups of O outputs and F features each.

    source: the tensor that is read, output: y before anything is added behind the node. lanes: int64 [G, F], the lane
    of every feature, -1 where it always stays. window: of a convolution, None for products with the last axis. swapped:
    whether the weight's axes are features, outputs. flat: whether the tensor is a matrix, a row for each sample or so.
    """

    node: Node
    source: str
    output: str
    weight: str
    bias: Bias | None
    lanes: IntArray
    window: Window | None = None
    swapped: bool = False
    flat: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The initializers that a refit changes."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias.name)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.lanes.shape[0])

    @property
    def features(self) -> int:
        """How many features a group has."""
        return int(self.lanes.shape[1])

    def matrix(self, weight: Array) -> npt.NDArray[np.float64]:
        """Return a weight as float64 [G, O, F]."""
        wide = weight.astype(np.float64)
        if self.window is None:
            return (wide.T if self.swapped else wide)[None]
        return wide.reshape(self.groups, -1, self.features)

    def as_weight(self, matrix: npt.NDArray[np.float64], like: Array) -> Array:
        """Return [G, O, F] in the form and type of a weight."""
        if self.window is None:
            return np.ascontiguousarray(matrix[0].T if self.swapped else matrix[0]).astype(like.dtype)
        return matrix.reshape(like.shape).astype(like.dtype)


Form = Callable[[Analysis, Node], Reader | None]
FORMS: dict[str, Form] = {}


def _form(op: str) -> Callable[[Form], Form]:
    def register(form: Form) -> Form:
        FORMS[op] = form
        return form

    return register


def readers(analysis: Analysis) -> tuple[Reader, ...]:
    """Return the nodes that read prunable lanes linearly, with a weight of their own."""
    found = []
    for node in analysis.graph.nodes:
        form = FORMS.get(node.op) if not node.domain and not node.within else None
        reader = None if form is None else form(analysis, node)
        if reader is not None and (reader.lanes >= 0).any():
            found.append(reader)
    return tuple(found)


@_form("Conv")
def _conv(analysis: Analysis, node: Node) -> Reader | None:
    weight = _weight(analysis, node)
    if weight is None:
        return None
    shape = tuple(analysis.graph.initializers[weight].dims)
    lanes = _lanes(analysis, weight, 1)
    if lanes is None:
        return None
    ones = (1,) * (len(shape) - 2)
    attrs = node.attrs
    window = Window(
        shape[2:],
        tuple(attrs.get("strides") or ones),
        tuple(attrs.get("dilations") or ones),
        tuple(attrs.get("pads") or (0,) * (2 * len(ones))),
        str(attrs.get("auto_pad", "NOTSET")),
    )
    if not window.is_agreed:
        return None
    groups = int(attrs.get("group", 1))
    of_feature = np.repeat(np.broadcast_to(lanes.reshape(-1, shape[1]), (groups, shape[1])), window.taps, 1)
    bias = _bias(analysis, node, shape[0])
    return Reader(node, node.inputs[0], node.outputs[0], weight, bias, of_feature, window)


@_form("Gemm")
def _gemm(analysis: Analysis, node: Node) -> Reader | None:
    attrs = node.attrs
    if attrs.get("transA", 0):
        return None
    alpha, beta = (float(attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    return _product(analysis, node, swapped=not attrs.get("transB", 0), alpha=alpha, beta=beta)


@_form("MatMul")
def _matmul(analysis: Analysis, node: Node) -> Reader | None:
    return _product(analysis, node, swapped=True)


def _product(
    analysis: Analysis, node: Node, *, swapped: bool, alpha: float = 1.0, beta: float = 1.0
) -> Reader | None:
    weight = _weight(analysis, node)
    shape = analysis.graph.shapes.get(node.inputs[0])
    if weight is None or shape is None or len(shape) < 2 or not alpha:
        return None
    dims = tuple(analysis.graph.initializers[weight].dims)
    if len(dims) != 2:
        return None
    lanes = _lanes(analysis, weight, 0 if swapped else 1)
    if lanes is None:
        return None
    bias = _bias(analysis, node, dims[1 if swapped else 0], alpha=alpha, beta=beta)
    lanes = lanes.reshape(1, -1)
    names = (node.inputs[0], node.outputs[0], weight)
    return Reader(node, *names, bias, lanes, swapped=swapped, flat=len(shape) == 2)


def _weight(analysis: Analysis, node: Node) -> str | None:
    """Return the weight, an initializer that nothing else reads and whose values are known."""
    name = node.input(1)
    graph = analysis.graph
    if name not in graph.initializers or not _is_read_once(analysis, name):
        return None
    return None if node.inputs[0] in graph.initializers or graph.constant(name) is None else name


def _is_read_once(analysis: Analysis, name: str) -> bool:
    """Say whether one node alone reads a tensor: no other, no body of a loop, and nobody outside."""
    graph = analysis.graph
    return (
        len(graph.consumers.get(name, ())) == 1 and name not in graph.captured and name not in graph.outputs
    )


def _lanes(analysis: Analysis, weight: str, axis: int) -> IntArray | None:
    """Return the lane of every feature on an axis of a weight, -1 where it stays; None where no lane can go.

    Lanes that the weight itself makes on that axis (tied weights) are none of a reader's.
    """
    labels = analysis.trace.labels_of(weight, axis)
    if labels is None or labels.size < FEW or analysis.trace.roles.get((weight, axis)) is Role.PRODUCER:
        return None
    lanes = analysis.lanes.of_label[labels]
    return np.where(analysis.can_go[lanes], lanes, -1)


def _bias(analysis: Analysis, node: Node, size: int, *, alpha: float = 1.0, beta: float = 1.0) -> Bias | None:
    """Return where a constant is added to y: the node's own bias, one that an Add adds, a norm's running mean.

    alpha: what the node multiplies its product by, beta: its own bias.
    """
    if node.input(2):
        return _own(analysis, node.input(2), beta / alpha, size) if beta else None
    if not _is_read_once(analysis, node.outputs[0]):
        return None
    reader, position = analysis.graph.consumers[node.outputs[0]][0]
    if reader.domain:
        return None
    if reader.op == "BatchNormalization" and position == 0:
        return _own(analysis, reader.input(3), -1 / alpha, size)
    if reader.op == "Add":
        rank = len(analysis.graph.initializers[node.input(1)].dims)
        behind = rank - 2 if node.op == "Conv" else 0
        return _own(analysis, reader.inputs[1 - position], 1 / alpha, size, behind=behind)
    return None


def _own(analysis: Analysis, name: str, factor: float, size: int, *, behind: int = 0) -> Bias | None:
    """Return a bias that nothing else reads. behind: how many axes there are behind the one of the outputs."""
    graph = analysis.graph
    if name not in graph.initializers or not _is_read_once(analysis, name):
        return None
    dims = tuple(graph.initializers[name].dims)
    at = len(dims) - 1 - behind
    is_row = at >= 0 and dims[at] == size and all(n == 1 for axis, n in enumerate(dims) if axis != at)
    return Bias(name, factor) if is_row and graph.constant(name) is not None else None
