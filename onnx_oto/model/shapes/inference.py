"""Shape inference that follows shape arithmetic and trusts stored shapes only where it knows nothing itself.

One walk in topological order (`walk`): onnx's own inference node by node, sharpened by claims about partly known
values and open sizes, with small values evaluated on the way, so that each node sees all that precedes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_oto.model.graph.flat import Placed, flatten
from onnx_oto.model.graph.node import Node, read_laid_out, read_opsets
from onnx_oto.model.graph.tensors import element_count, is_external, to_array
from onnx_oto.model.shapes.dims import Dim, Shape, symbol_for, symbols
from onnx_oto.model.shapes.schema_types import Schemas
from onnx_oto.model.shapes.supposed import Contradicted, Source, Suppositions, stored_types
from onnx_oto.model.shapes.symbols import Symbols
from onnx_oto.model.shapes.types import Kind, Kinds, type_shape
from onnx_oto.model.shapes.values import MAX_ELEMENTS
from onnx_oto.model.shapes.walk import Walk

# A float constant above this may be a trained weight: nothing is computed from it.
WEIGHT_ELEMENTS = 1024
# A model whose suppositions contradict it so often is inferred without any.
MOST_TRIALS = 16


@dataclass(frozen=True)
class Knowledge:
    """What is known about tensors without running the model.

    `shapes` and `dtypes` cover every typed value (dtype 0: no tensor). A size is an int or a symbol. `values`
    holds computed values of small tensors that are no initializers: object dtype when partly known (see
    `values`), else numeric and complete. `supposed`: tensors whose shapes rest on what nothing proves; `stored`:
    those of them whose stored shapes were used (see `supposed`). `about`: sizes that some symbols are nearly.
    `settled`: outputs of Ifs whose branches give several ranks, of which only one is possible (see `ranks`). `read`:
    the nodes as they were then; they may be renamed and read other tensors now.
    """

    shapes: dict[str, Shape | None]
    dtypes: dict[str, int]
    values: dict[str, np.ndarray]
    supposed: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    about: Mapping[str, Dim] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    read: Sequence[tuple[Node, Placed]] = field(default=(), repr=False, compare=False)


def infer(model: ModelProto, *, strict: bool = False) -> Knowledge:
    """Return shapes, element types and values of a sorted model whose Constants are initializers.

    The argument is not modified. A node whose inputs contradict each other or its operator has unknown outputs,
    and a declared graph output that contradicts what is inferred counts for nothing; with `strict` the former, and
    an output of another element type, raise ModelError naming the node.
    """
    schemas, constants = Schemas(model), small_constants(model)
    given = _given(model, schemas.kinds)
    taken = {name for kind in given.values() for size in kind.open for name in symbols(size)}
    declared = {value.name: value.type for value in model.graph.output}
    placed = flatten(model.graph)
    nodes = list(zip(read_laid_out(placed, read_opsets(model)), placed, strict=True))
    stored = stored_types(model)
    banned: set[Source] = set()
    settled: dict[str, int] = {}
    for trial in itertools.count():
        supposed = Suppositions(stored, banned, nothing=trial >= MOST_TRIALS)
        drawn = Symbols(taken)
        walk = Walk(schemas, drawn, constants, declared, supposed, settled=settled, strict=strict)
        for name, kind in given.items():
            walk.give(name, kind)
        try:
            values = walk.run(nodes)
        except Contradicted as error:
            banned |= error.sources
            continue
        more = walk.settled_ranks([node for node, _ in nodes])
        if more.keys() <= settled.keys():
            break
        settled = more | settled
    return Knowledge(
        walk.shapes,
        walk.dtypes,
        values,
        supposed.tensors,
        supposed.used,
        drawn.about,
        frozenset(settled),
        nodes,
    )


def small_constants(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the initializers that arithmetic may use: no strings, nothing large enough to be a weight."""
    found = {}
    for tensor in model.graph.initializer:
        if is_external(tensor) or tensor.data_type == TensorProto.STRING:
            continue
        count = element_count(tensor)
        is_float = tensor.data_type not in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
        if count <= (WEIGHT_ELEMENTS if is_float else MAX_ELEMENTS):
            found[tensor.name] = to_array(tensor)
    return found


def _given(model: ModelProto, kinds: Kinds) -> dict[str, Kind]:
    """Return the types of graph inputs and initializers; every open size of an input has a symbol.

    "?" twice does not mean two equal sizes, so each gets a symbol of its own. The same name does; a name that is an
    expression ("past + 1") is a symbol too, since nobody holds a runtime to it.
    """
    found = {}
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for position, value in enumerate(model.graph.input):
        shape = type_shape(value.type)
        if shape is None or all(isinstance(size, int) for size in shape):
            found[value.name] = kinds.read(value.type)
            continue
        named = []
        for axis, size in enumerate(shape):
            name = f"input{position}_{axis}" if size is None else size
            if isinstance(name, str) and name not in chosen:
                chosen[name] = symbol_for(name, taken)
                taken.add(chosen[name])
            named.append(chosen[name] if isinstance(name, str) else name)
        found[value.name] = kinds.tensor(value.type.tensor_type.elem_type, tuple(named))
    for tensor in model.graph.initializer:
        found[tensor.name] = kinds.tensor(tensor.data_type, tuple(tensor.dims))
    return found
