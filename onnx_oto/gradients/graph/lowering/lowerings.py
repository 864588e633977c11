"""The table of lowerings and what a lowering function may use.

A lowering rewrites one node into simpler ops. It knows no backend: whether a node needs it is what a backend's
`covers` decides; asked, it lowers. Its contract:

    @register("HardSigmoid")
    def hard_sigmoid(node: Site) -> Outcome: ...

It returns the name of the tensor that replaces the node's first output (or one name per output), or None when it
knows nothing simpler, and raises UnsupportedError with advice for attributes it cannot handle. It only emits
through `node`. What it emits is judged and lowered again until nothing changes, so a lowering may build on others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.static_types import UNKNOWN, Type
from onnx_oto.model.graph.forms import form

Outcome = str | Sequence[str] | None
Lowering = Callable[["Site"], Outcome]

_TABLE: dict[str, Lowering] = {}
ALWAYS_LOWERED: set[str] = set()
"""Ops that do something else in training: they go to their lowering whatever the backend says."""
REFUSED: dict[str, str] = {}
"""Ops that training cannot pass through, and why."""


def register(*ops: str, always: bool = False) -> Callable[[Lowering], Lowering]:
    """Enter a function into the table for ops of the standard domain, or "domain::Op" for another one.

    `always`: training changes what the op computes, so that no node of it may stay as it is.
    """

    def enter(function: Lowering) -> Lowering:
        for op in ops:
            if op in _TABLE:
                raise ValueError(f"op {op} has two lowerings")
            _TABLE[op] = function
            ALWAYS_LOWERED.update([op] if always else [])
        return function

    return enter


def lowering_of(node: onnx.NodeProto) -> Lowering | None:
    """Return the lowering function of a node, if its op has one."""
    return _TABLE.get(key(node))


def refuse(reason: str, *ops: str) -> None:
    """Enter ops that training cannot pass through, and why: "what is wrong: what to do"."""

    def refused(node: Site) -> Outcome:
        raise UnsupportedError(reason)

    register(*ops)(refused)
    REFUSED.update(dict.fromkeys(ops, reason))


def registered() -> tuple[str, ...]:
    """Return all op keys with a lowering, sorted."""
    return tuple(sorted(_TABLE.keys() - REFUSED.keys()))


def key(node: onnx.NodeProto) -> str:
    """Return the op name, with its domain unless that is the standard one."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


@dataclass(frozen=True)
class Mask:
    """A Dropout mask: a float32 graph input holding 0 or 1/(1-ratio), drawn anew for every step."""

    name: str
    shape: tuple[int, ...]
    ratio: float


@dataclass
class Draft:
    """What all sites of one pass share: facts about the graph and the things that lowerings add to it."""

    opset: int
    trainable: frozenset[str]
    fixed_statistics: bool = (
        False  # whether BatchNormalization trains with the running statistics it came with
    )
    types: dict[str, Type] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)  # tensors that depend on a trainable one, differentiably
    read: set[str] = field(default_factory=set)  # tensors that a node or a graph output reads
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    statistics: dict[str, str] = field(
        default_factory=dict
    )  # running statistic -> tensor with its latest value
    normed: set[str] = field(default_factory=set)  # what a BatchNormalization written in lowering puts out
    counter: int = 0
    prefix: str = "onnx_oto"  # of the names of what is written


class Site:
    """The node to be lowered: facts to read, and `emit` to write."""

    def __init__(self, proto: onnx.NodeProto, draft: Draft) -> None:
        self.proto = proto
        self.draft = draft
        self.op = proto.op_type
        self.inputs: tuple[str, ...] = tuple(proto.input)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        self.opset = draft.opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and bool(self.inputs[index])

    def has_output(self, index: int) -> bool:
        return index < len(self.outputs) and bool(self.outputs[index])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the static shape of a tensor; raises UnsupportedError when inference left it open."""
        static = self.draft.types.get(name, UNKNOWN).static
        if static is None:
            raise UnsupportedError(
                f"the shape of {name!r} is not known before the run: simplify the model first"
            )
        return static

    def dtype(self, name: str) -> np.dtype[np.generic]:
        known = self.draft.types.get(name)
        return (
            np.dtype(np.float32) if known is None else np.dtype(helper.tensor_dtype_to_np_dtype(known.dtype))
        )

    def carries(self, name: str) -> bool:
        """Return whether gradient flows into this tensor."""
        return name in self.draft.carried

    def constant(self, index: int, what: str) -> NDArray[Any] | None:
        """Return the value of an input, None without it; raises UnsupportedError when it is computed."""
        if not self.has_input(index):
            return None
        if self.inputs[index] not in self.draft.constants:
            raise UnsupportedError(
                f"its {what} {self.inputs[index]!r} is computed by the model: make it a constant"
            )
        return self.draft.constants[self.inputs[index]]

    def fresh(self, hint: str) -> str:
        self.draft.counter += 1
        return f"{self.draft.prefix}.{hint}.{self.draft.counter}"

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.emit_many(op, inputs, 1, **attributes)[0]

    def emit_many(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node and return the names of its outputs."""
        name = self.fresh(op)
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names

    def keep_needed(self, results: Iterable[str]) -> None:
        """Drop the nodes that no result needs: a part of a Split that only they read counts as used otherwise."""
        needed = set(results)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]

    def value(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a new constant."""
        name = self.fresh("constant")
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: Any, like: str) -> str:
        """Return the name of a new constant of the same dtype as the node's input `like`."""
        return self.value(value, self.dtype(like))

    def ints(self, values: Iterable[int]) -> str:
        return self.value(list(values), np.int64)

    def cast_like(self, x: str, like: str) -> str:
        return self.emit("Cast", x, to=helper.np_dtype_to_tensor_dtype(self.dtype(like)))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.emit("Reshape", x, self.ints(shape))

    def reduce(self, op: str, x: str, axes: Sequence[int], *, keepdims: int = 1) -> str:
        """Append a reduction in the form of the model's opset."""
        written = form(op, self.opset, {"axes": list(axes), "keepdims": keepdims})
        return self.emit(op, x, *(self.ints(a) for a in written.inputs.values()), **written.attributes)
