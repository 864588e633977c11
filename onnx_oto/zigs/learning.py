"""Which initializers are parameters, and why others that have the role of one are not trained.

A file does not say what was a parameter. Names alone do not either: exporters fold parameters into constants of their
own naming (`onnx::Conv_497`), and lift constants to initializers. So the role decides, names and values only where a
constant has the role of a parameter:

- weights of layers, embeddings, scales and shifts of norms, biases, slopes are parameters;
- so is what is added or multiplied elementwise where a weight produces the channels (a bias written as Add, a layer
  scale, a position embedding); other numbers of arithmetic are not;
- and what is added or multiplied anywhere behind the inputs, in a norm too, under a name like those of parameters
  (`block.0.scale`), or computed from such;
- a norm that scales by ones and shifts by zeros under names that exporters make up has no parameters;
- nor is a parameter what such a name says to be written in the code (`/layer/Constant_output_0`), or what is a table by
  its values: whole or half numbers, masks, sines and cosines or straight lines of the position;
- what bodies of If, Loop or Scan alone read is not trained either: no gradient comes there.

What is left out so keeps its values, but goes with its channel when that is removed.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnx_oto.errors import UsageError
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.trace import Role
from onnx_oto.model.graph.flat import BODIES, owner_of
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.unrolled import MOST_TRIPS
from onnx_oto.model.normal.widen import HALVES
from onnx_oto.model.view import Graph
from onnx_oto.zigs.analysis import Analysis

_NORMS = (
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
)
_OWN = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "PRelu": (1,),
    **dict.fromkeys(_NORMS, (1, 2)),
}
"""Inputs of operators that are parameters even where they have one element, and so no axis with channels."""
_LITERAL = re.compile(r"(^|/)Constant(_\d+)?_output_\d+$")
_MADE_UP = re.compile(rf"{_LITERAL.pattern}|^(val_|onnx::[A-Za-z]+_|_)?\d+$|^(const|constant)_?\d*$")
_DOTTED = re.compile(r"^[A-Za-z_]\w*(\.\w+)+$")
_MASK = -1e4
TRAINED = (TensorProto.FLOAT, *HALVES)
"""Half precision is trained in float32 (see `model.normal.widen`)."""
_TOLERANCE = 1e-3
WRITTEN = "it is written in the code of the model"
TABLE = "its values are those of a table or a mask"
INSIDE = "only bodies of If, Loop or Scan read it that training does not enter"
PLAIN = "its norm has no parameters: it scales by ones and shifts by zeros"


@dataclass(frozen=True)
class Parameters:
    """Names of initializers, float32 or half precision, in graph order each.

    trained: what training changes. left: what has the role of a parameter and is none, with the reason.
    """

    trained: tuple[str, ...]
    left: dict[str, str]


def trainable(analysis: Analysis) -> tuple[str, ...]:
    """Return the names of the parameters that training changes, in graph order (see `parameters`)."""
    return parameters(analysis).trained


def parameters(analysis: Analysis, origins: Origins | None = None, *, also: Sequence[str] = ()) -> Parameters:
    """Return what is trained, and what is left out of those that have the role of a parameter.

    origins: the names that initializers have in the model file, where normal form has changed them. also: patterns
    (shell wildcards) of initializers to train whatever they look like. Raises UsageError for a pattern that matches
    none of float32 or half precision.
    """
    statistics = analysis.statistics
    named = _Named(analysis, origins or Origins())
    asked = set(named.matching(also)) - statistics
    candidates = {*analysis.trace.weights, *_elementwise(analysis), *_single(analysis.graph)}
    candidates |= {*_dotted(analysis.graph, named), *asked}
    plain = set(_plain_norms(analysis.graph, named))
    inside = set(_inside(analysis))
    trained, left = [], {}
    for name in named.floats:
        if name not in candidates or name in statistics:
            continue
        reason = "" if name in asked else _why_left(analysis, named, name, plain)
        reason = INSIDE if name in inside - asked else reason
        if reason:
            left[name] = reason
        else:
            trained.append(name)
    return Parameters(tuple(trained), left)


def told(found: Parameters, origins: Origins) -> tuple[str, ...]:
    """Return sentences about what a person may not expect: constants left untrained, a weight trained as two."""
    sentences = []
    if found.left:
        name, reason = next(iter(found.left.items()))
        rest = len(found.left) - 1
        others = f" and {rest} more" if rest else ""
        sentences.append(
            f"not trained: '{name}' ({reason}){others}; --also-train PATTERN trains what matches all the same"
        )
    for name in found.trained:
        origin = origins.of(name)
        if origin.folded and origin.name != name and origin.name in found.trained:
            sentences.append(
                f"'{name}' is computed from '{origin.name}', which is also used as it is: trained as two parameters"
            )
    return tuple(sentences)


class _Named:
    """The initializers of a model that can be trained, and the names they have in its file."""

    def __init__(self, analysis: Analysis, origins: Origins) -> None:
        self._origins = origins
        tensors = analysis.graph.initializers
        self.floats = [name for name, t in tensors.items() if t.data_type in TRAINED]

    def in_file(self, name: str) -> str:
        return self._origins.of(name).name

    def matching(self, patterns: Iterable[str]) -> Iterator[str]:
        for pattern in patterns:
            found = [
                name
                for name in self.floats
                if any(fnmatch.fnmatchcase(each, pattern) for each in (name, self.in_file(name)))
            ]
            if not found:
                near = difflib.get_close_matches(pattern, self.floats, 3, 0.5)
                hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
                raise UsageError(f"--also-train '{pattern}' matches no float initializer of the model{hint}")
            yield from found


def _elementwise(analysis: Analysis) -> Iterator[str]:
    """Yield what is added or multiplied elementwise where a weight produces the channels."""
    produced = np.zeros(analysis.lanes.count, bool)
    found: dict[str, list[IntArray]] = {}
    for use, labels in analysis.uses:
        if use.role != Role.PRODUCER.value:
            continue
        if use.param in analysis.trace.weights:
            produced[analysis.lanes.of_label[labels]] = True
        else:
            found.setdefault(use.param, []).append(analysis.lanes.of_label[labels])
    return (name for name, axes in found.items() if any(produced[lanes].any() for lanes in axes))


def _single(graph: Graph) -> Iterator[str]:
    """Yield parameters of one element: of layers, and biases added to a product with a weight of one column."""
    for node in graph.nodes:
        if not node.domain:
            yield from (node.input(i) for i in _OWN.get(node.op, ()) if _elements(graph, node.input(i)) == 1)
        if node.op == "Add" and not node.domain:
            for bias, other in (node.inputs, node.inputs[::-1]):
                made = graph.producer.get(other)
                if made is None or made.op != "MatMul" or not graph.shape(bias):
                    continue
                weight = graph.shape(made.inputs[1])
                if _elements(graph, bias) == 1 and made.inputs[1] in graph.initializers and weight:
                    yield from [bias] if weight[-1] == 1 else []


def _dotted(graph: Graph, named: _Named) -> Iterator[str]:
    """Yield what has a dotted name and is added to data or multiplied with it, itself or what is computed from it.

    Scales and shifts of norms are. Not what meets an input of the model as it is fed: that is preprocessing.
    """
    sources = {name: {name} if graph.dtypes.get(name) in FLOATS else set() for name in graph.initializers}
    fed = set(graph.inputs)
    for node in graph.nodes:
        own = [sources[name] for name in node.inputs if name in sources]
        if node.op in ("Shape", "Size") and not node.domain:
            sources[node.outputs[0]] = set()  # sizes are no data
        elif node.inputs and len(own) == sum(map(bool, node.inputs)) and not node.captured:
            for name in node.outputs:
                sources[name] = set().union(*own) if graph.dtypes.get(name) in FLOATS else set()
        elif not node.domain and fed.isdisjoint(node.inputs):
            applied = own if node.op in ("Add", "Sub", "Mul") else ()
            if node.op in _NORMS:
                applied = [sources.get(name, set()) for name in node.inputs[1:3]]
            for name in set().union(*applied):
                if _elements(graph, name) > 1 and _DOTTED.match(named.in_file(name)):
                    yield name


def _elements(graph: Graph, name: str) -> int:
    tensor = graph.initializers.get(name)
    return 0 if tensor is None else int(np.prod(tensor.dims, dtype=np.int64))


def _inside(analysis: Analysis) -> Iterator[str]:
    """Yield initializers that only bodies read, or what they carry starts from, by themselves or moved about before.

    Not bodies that are written out for training: of few, known trips.
    """
    graph = analysis.graph
    opened = {
        owner
        for owner, trips in analysis.trace.repeats.items()
        if isinstance(trips, int) and 0 < trips <= MOST_TRIPS
    }
    sources = {name: {name} for name in graph.initializers}
    inner: set[str] = set()
    outer: set[str] = set(graph.outputs)
    for node in graph.nodes:
        read = set().union(*(sources.get(name, set()) for name in node.inputs))
        owners = {owner for owner, _ in node.within} | (
            {owner_of(node.name)} if node.domain == BODIES else set()
        )
        if owners - opened:
            inner |= read
        elif all(name in sources for name in node.inputs if name):
            sources.update(dict.fromkeys(node.outputs, read))
        else:
            outer |= read
    yield from inner - outer


def _plain_norms(graph: Graph, named: _Named) -> Iterator[str]:
    """Yield scales and shifts of norms that scale by ones and shift by zeros, all under made-up names."""
    for node in graph.nodes:
        if node.op in _NORMS and not node.domain and _is_plain(graph, node, named):
            yield from node.inputs[1:3]


def _is_plain(graph: Graph, node: Node, named: _Named) -> bool:
    for place, value in ((1, 1.0), (2, 0.0)):
        name = node.input(place)
        if not name:
            continue
        tensor = graph.constant(name)
        if tensor is None or not _MADE_UP.search(named.in_file(name)) or (tensor != value).any():
            return False
    return True


def _why_left(analysis: Analysis, named: _Named, name: str, plain: set[str]) -> str:
    """Return why a parameter by role is a constant after all, "" if it is none."""
    if name in plain:
        return PLAIN
    if name in analysis.trace.weights or _elements(analysis.graph, name) == 1:
        return ""
    if _LITERAL.search(named.in_file(name)):
        return WRITTEN
    value = analysis.graph.constant(name)
    return TABLE if value is not None and is_table(value) else ""


def is_table(values: np.ndarray) -> bool:
    """Return whether a constant with two axes or more is a table by its values rather than something learned.

    Whole or half numbers (grids, anchors), masks of large negative numbers, or along some axis a sine, a cosine or a
    straight line in every column: f(i + 1) + f(i - 1) = k f(i) with one k.

    >>> wave = np.sin(np.outer(np.arange(9), [0.1, 1.0]))
    >>> is_table(np.indices((4, 4))[0] + 0.5), is_table(wave), is_table(np.ones((4, 4)))
    (True, True, False)
    """
    values = np.squeeze(np.asarray(values, np.float64))
    if values.ndim < 2 or (values == values.flat[0]).all():
        return False
    if not np.isfinite(values).all() or values.min() <= _MASK or (2 * values == np.round(2 * values)).all():
        return True
    return any(
        _is_wave(np.moveaxis(values, axis, 0)) for axis in range(values.ndim) if values.shape[axis] > 4
    )


def _is_wave(values: np.ndarray) -> bool:
    """Return whether every column of [n, ...] follows f(i + 1) + f(i - 1) = k f(i), and not all are constant."""
    columns = values.reshape(len(values), -1)
    if (columns == columns[:1]).all():
        return False
    inner, around = columns[1:-1], columns[2:] + columns[:-2]
    power = np.maximum((inner * inner).sum(0), 1e-30)
    k = (inner * around).sum(0) / power
    return bool((np.abs(around - k * inner).max(0) <= _TOLERANCE * np.abs(columns).max(0)).all())
