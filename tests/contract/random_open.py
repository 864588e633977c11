"""Random chains of views whose sizes are computed when the model runs.

Axes are products of factors: open sizes (batch, height, width, length) and channels. Steps merge, split and transpose
them, each target of a Reshape written in one of the ways exporters have: read with Shape, multiplied, divided, copied
(0) or inferred (-1). In between stand gates, means, softmaxes and layers. `size` fixes the open sizes instead: the same
graph, for comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Factor = int | str
"""Channels, or the name of an open size."""
Axes = tuple[tuple[Factor, ...], ...]


@dataclass
class Chain:
    """A model under construction; `axes` are the factors of every tensor's axes."""

    rng: np.random.Generator
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    axes: dict[str, Axes] = field(default_factory=dict)

    def maybe(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def choice(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def name(self, what: str) -> str:
        return f"{what}{len(self.nodes)}_{len(self.initializers)}"

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = self.name("k")
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        name = self.name("w")
        value = self.rng.uniform(0.3, 1.3, shape) * self.rng.choice([-1.0, 1.0], shape)
        value = value / np.sqrt(max(np.prod(shape[1:]), 1))
        self.initializers.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, factors: Axes | None = None, **attrs: Any) -> str:
        """Return the output of a new node; `factors` of its axes for one that later steps may look at."""
        name = self.name("t")
        self.nodes.append(helper.make_node(op, inputs, [name], **attrs))
        if factors is not None:
            self.axes[name] = factors
        return name

    # --- sizes ------------------------------------------------------------------------------------------------
    def size(self, wanted: tuple[Factor, ...], depth: int = 2) -> str | None:
        """Return an int64 [1] tensor of a product of factors, made in a way drawn at random; None if none is."""
        ways = [self._read(wanted), self._multiplied(wanted, depth), self._divided(wanted, depth)]
        if not any(isinstance(f, str) for f in wanted):
            ways.append(lambda: self.constant([_number(wanted)]))
        ways = [way for way in ways if way is not None]
        made = self.choice(ways)() if ways else None
        if made is not None and self.maybe(0.1):
            made = self.node("Sub", self.node("Add", made, self.constant([3])), self.constant([3]))
        if made is not None and self.maybe(0.1):
            made = self.node("Cast", self.node("Cast", made, to=TensorProto.INT32), to=TensorProto.INT64)
        return made

    def _read(self, wanted: tuple[Factor, ...]) -> Any:
        """Read with Shape, as an axis or a run of axes of a tensor that is there."""
        found = [
            (name, a, b)
            for name, axes in self.axes.items()
            for a in range(len(axes))
            for b in range(a + 1, len(axes) + 1)
            if _same([f for axis in axes[a:b] for f in axis], wanted)
        ]
        if not found:
            return None

        def make() -> str:
            name, a, b = self.choice(found)
            if b - a > 1:
                return self.node("ReduceProd", self.node("Shape", name, start=a, end=b), keepdims=1)
            if self.maybe(0.4):
                return self.node("Shape", name, start=a, end=b)
            shape = self.node("Shape", name)
            if self.maybe(0.5):
                return self.node("Slice", shape, self.constant([a]), self.constant([b]))
            scalar = self.node("Gather", shape, self.constant(a), axis=0)
            return self.node("Unsqueeze", scalar, self.constant([0]))

        return make

    def _multiplied(self, wanted: tuple[Factor, ...], depth: int) -> Any:
        if len(wanted) < 2 or depth == 0:
            return None

        def make() -> str | None:
            at = int(self.rng.integers(1, len(wanted)))
            a, b = self.size(wanted[:at], depth - 1), self.size(wanted[at:], depth - 1)
            return None if a is None or b is None else self.node("Mul", a, b)

        return make

    def _divided(self, wanted: tuple[Factor, ...], depth: int) -> Any:
        """Divide the size of a larger axis by what is too much of it."""
        larger = []
        for name, axes in self.axes.items():
            for a, axis in enumerate(axes):
                rest = Counter(axis) - Counter(wanted)
                if rest and not Counter(wanted) - Counter(axis):
                    larger.append((name, a, tuple(rest.elements())))
        if not larger or depth == 0:
            return None

        def make() -> str | None:
            name, a, rest = self.choice(larger)
            by = self.size(rest, depth - 1)
            return None if by is None else self.node("Div", self.node("Shape", name, start=a, end=a + 1), by)

        return make

    def target(self, source: Axes, axes: Axes) -> str | None:
        """Return a target of a Reshape; at most one element is inferred, some may be copied."""
        inferred = int(self.rng.integers(len(axes))) if self.maybe(0.5) else -1
        parts: list[str | None] = []
        for i, axis in enumerate(axes):
            if i == inferred:
                parts.append(self.constant([-1]))
            elif i < len(source) and source[i] == axis and self.maybe(0.3):
                parts.append(self.constant([0]))
            else:
                parts.append(self.size(axis))
        if None in parts:
            return None
        return self.node("Concat", *(p for p in parts if p is not None), axis=0)

    def reshape(self, name: str, axes: Axes) -> str:
        target = self.target(self.axes[name], axes)
        while target is None:
            target = self.target(self.axes[name], axes)
        return self.node("Reshape", name, target, factors=axes)

    def transpose(self, name: str, perm: list[int]) -> str:
        axes = self.axes[name]
        return self.node("Transpose", name, perm=perm, factors=tuple(axes[i] for i in perm))


def _number(factors: tuple[Factor, ...]) -> int:
    return int(np.prod([f for f in factors if isinstance(f, int)], dtype=np.int64))


def _same(a: Any, b: Any) -> bool:
    return Counter(f for f in a if isinstance(f, str)) == Counter(
        f for f in b if isinstance(f, str)
    ) and _number(tuple(a)) == _number(tuple(b))


# --- steps: each takes a tensor and returns another with the same factors ---------------------------------------
def merge(chain: Chain, x: str) -> str:
    axes = chain.axes[x]
    if len(axes) < 2:
        return x
    at = int(chain.rng.integers(len(axes) - 1))
    return chain.reshape(x, (*axes[:at], axes[at] + axes[at + 1], *axes[at + 2 :]))


def split(chain: Chain, x: str) -> str:
    """Split an axis between two factors, or a channel axis into two."""
    axes = chain.axes[x]
    places = [i for i, axis in enumerate(axes) if len(axis) > 1]
    even = [i for i, axis in enumerate(axes) if len(axis) == 1 and isinstance(axis[0], int) and axis[0] > 2]
    if len(axes) > 5 or not (places or even):
        return x
    i = chain.choice(places or even)
    axis = axes[i]
    if len(axis) > 1:
        at = int(chain.rng.integers(1, len(axis)))
        return chain.reshape(x, (*axes[:i], axis[:at], axis[at:], *axes[i + 1 :]))
    size = int(axis[0])
    part = chain.choice([n for n in range(2, size) if size % n == 0] or [1])
    return x if part == 1 else chain.reshape(x, (*axes[:i], (part,), (size // part,), *axes[i + 1 :]))


def transpose(chain: Chain, x: str) -> str:
    return chain.transpose(x, [int(i) for i in chain.rng.permutation(len(chain.axes[x]))])


def act(chain: Chain, x: str) -> str:
    op = chain.choice(["Relu", "Tanh", "Sigmoid", "Sqrt", "Exp", "Abs"][: 6 if chain.maybe(0.3) else 2])
    return chain.node(op, chain.node("Abs", x) if op == "Sqrt" else x, factors=chain.axes[x])


def gate(chain: Chain, x: str) -> str:
    """x times a sigmoid of its mean over one axis, or of itself."""
    axes = chain.axes[x]
    mean = x
    if chain.maybe(0.6):
        mean = chain.node("ReduceMean", x, axes=[int(chain.rng.integers(len(axes)))], keepdims=1)
    return chain.node("Mul", x, chain.node("Sigmoid", mean), factors=axes)


def centre(chain: Chain, x: str) -> str:
    axes = chain.axes[x]
    free = [i for i, axis in enumerate(axes) if all(isinstance(f, str) for f in axis)]
    if not free:
        return x
    mean = chain.node("ReduceMean", x, axes=[chain.choice(free)], keepdims=1)
    return chain.node("Sub", x, mean, factors=axes)


def attend(chain: Chain, x: str) -> str:
    """x times a softmax of itself over its last axis: zero stays zero."""
    soft = chain.node("Softmax", x, axis=-1)
    return chain.node("Mul", x, soft, factors=chain.axes[x])


def scale(chain: Chain, x: str) -> str:
    """Times a parameter along an axis of channels."""
    axes = chain.axes[x]
    places = [i for i, axis in enumerate(axes) if len(axis) == 1 and isinstance(axis[0], int)]
    if not places:
        return x
    i = chain.choice(places)
    shape = [int(axes[i][0]), *[1] * (len(axes) - i - 1)]
    return chain.node("Mul", x, chain.weight(*shape), factors=axes)


def residual(chain: Chain, x: str) -> str:
    """Out and back through other axes, and added."""
    axes = chain.axes[x]
    if len(axes) < 2:
        return x
    y = act(chain, merge(chain, x))
    return chain.node("Add", x, chain.reshape(y, axes), factors=axes)


def expand(chain: Chain, x: str) -> str:
    """Times its mean over one axis, written out to the full shape."""
    axes = chain.axes[x]
    mean = chain.node("ReduceMean", x, axes=[int(chain.rng.integers(len(axes)))], keepdims=1)
    shape = chain.node("Shape", x)
    if chain.maybe(0.5):
        parts = [chain.size(axis) for axis in axes]
        if None not in parts:
            shape = chain.node("Concat", *(p for p in parts if p is not None), axis=0)
    wide = chain.node("Expand", mean, shape, factors=axes)
    return chain.node("Mul", x, wide, factors=axes)


def filled(chain: Chain, x: str) -> str:
    """Plus (or the maximum with) a constant of the same shape."""
    axes = chain.axes[x]
    value = helper.make_tensor("", TensorProto.FLOAT, [1], [chain.choice([0.0, 0.0, 0.0, 0.5])])
    parts = [chain.size(axis) for axis in axes]
    shape = chain.node("Shape", x)
    if chain.maybe(0.5) and None not in parts:
        shape = chain.node("Concat", *(p for p in parts if p is not None), axis=0)
    fill = chain.node("ConstantOfShape", shape, value=value)
    return chain.node(chain.choice(["Add", "Max"]), x, fill, factors=axes)


def shift(chain: Chain, x: str) -> str:
    """Plus itself, one position further along an open axis."""
    axes = chain.axes[x]
    places = [i for i, axis in enumerate(axes) if len(axis) == 1 and isinstance(axis[0], str)]
    if not places:
        return x
    i = chain.choice(places)
    tail, at = chain.constant([-1]), chain.constant([i])
    cut = chain.node("Slice", x, chain.constant([0]), tail, at)
    if chain.maybe(0.5):
        pads = [0] * (2 * len(axes))
        pads[i] = 1
        moved = chain.node("Pad", cut, chain.constant(pads), factors=axes)
    else:
        first = chain.node("Slice", x, chain.constant([0]), chain.constant([1]), at)
        moved = chain.node("Concat", first, cut, axis=i, factors=axes)
    return chain.node("Add", x, moved, factors=axes)


STEPS = [merge, merge, split, split, transpose, transpose, act, gate, centre, attend, scale, residual]
STEPS += [expand, filled, shift]


# --- whole models -----------------------------------------------------------------------------------------------
def tidy(chain: Chain, x: str) -> str:
    """Return x as [B, channels, all other sizes], every factor put apart and ordered anew."""
    if len(chain.axes[x]) > 1 and chain.maybe(0.2):
        x = merge(chain, x)
    factors = [f for axis in chain.axes[x] for f in axis]
    x = chain.reshape(x, tuple((f,) for f in factors))
    order = sorted(range(len(factors)), key=lambda i: (factors[i] != "B", isinstance(factors[i], str), i))
    x = chain.transpose(x, order)
    factors = [factors[i] for i in order]
    channels = tuple(f for f in factors if isinstance(f, int))
    rest = tuple(f for f in factors if isinstance(f, str) and f != "B")
    return chain.reshape(x, (("B",), (_number(channels),), rest))


def layer(chain: Chain, x: str, width: int) -> str:
    """A layer over [B, channels, places]: Conv, or MatMul with the channels moved to the end."""
    batch, channels, places = chain.axes[x]
    inside = _number(channels)
    if chain.maybe(0.6):
        bias = [chain.weight(width)] if chain.maybe(0.6) else []
        return chain.node("Conv", x, chain.weight(width, inside, 1), *bias, factors=(batch, (width,), places))
    x = chain.transpose(x, [0, 2, 1])
    y = chain.node("MatMul", x, chain.weight(inside, width), factors=(batch, places, (width,)))
    return chain.transpose(y, [0, 2, 1])


def open_model(seed: int, sizes: Mapping[str, int] | None = None) -> ModelProto:
    """Return the model of a seed, with open sizes B, H and W (or B and L), or with those of `sizes`."""
    chain = Chain(np.random.default_rng(seed))
    image = chain.maybe(0.6)
    width = chain.choice([4, 6, 8, 12])
    if image:
        stride = chain.choice([1, 1, 2])
        given: Axes = (("B",), (3,), ("H",), ("W",))
        chain.axes["x"] = given
        places = ("h", "w") if stride == 2 else ("H", "W")
        kernel = chain.weight(width, 3, 3, 3)
        x = chain.node(
            "Conv",
            "x",
            kernel,
            chain.weight(width),
            pads=[1] * 4,
            strides=[stride] * 2,
            factors=(("B",), (width,), *((p,) for p in places)),
        )
    else:
        given = (("B",), ("L",), (5,))
        chain.axes["x"] = given
        x = chain.node("MatMul", "x", chain.weight(5, width), factors=(("B",), ("L",), (width,)))
    for block in range(chain.choice([1, 1, 2])):
        if block:
            x = layer(chain, tidy(chain, x), chain.choice([4, 6, 8]))
        for _ in range(chain.choice([2, 4, 6, 8])):
            x = chain.choice(STEPS)(chain, x)
    x = layer(chain, tidy(chain, x), 5)
    y = chain.node("ReduceMean", x, axes=[2], keepdims=0) if chain.maybe(0.3) else chain.node("Identity", x)
    shape = [(sizes or {}).get(str(f), f) for axis in given for f in axis]
    rank = 2 if chain.nodes[-1].op_type == "ReduceMean" else 3
    graph = helper.make_graph(
        chain.nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [None] * rank)],
        chain.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feed(model: ModelProto, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random inputs of a model with open sizes."""
    shape = [d.dim_value or sizes[d.dim_param] for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": rng.standard_normal(shape).astype(np.float32)}
