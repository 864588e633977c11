"""Random models with bodies: If, Loop and Scan among other steps, and inside of each other once.

Weights lie in the body or outside of it, and may be shared by both. A body reads what stands outside. A condition and a
number of trips are constants, or computed from the model's input; a loop may run no trip at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from .random_graphs import BATCH, Pick, Shape, Sketch, sketch
from .random_steps import STEPS, Step

MOST_TRIPS = 3


@dataclass
class Body(Sketch):
    """The body of a node of `outer`, under construction: it sees the tensors of `outer`."""

    outer: Sketch | None = None
    suffix: str = ""
    made: set[str] = field(default_factory=set)

    def many(
        self, op: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> list[str]:
        names = [f"t{len(self.shapes) + i}{self.suffix}" for i in range(len(shapes))]
        self.shapes |= {n: tuple(s) for n, s in zip(names, shapes, strict=True)}
        self.used |= set(inputs)
        self.made |= set(names)
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def weight(self, *shape: int, name: str = "w") -> str:
        assert self.outer is not None
        if self.maybe(2):
            return self.outer.weight(*shape, name=name)
        before = len(self.initializers)
        full = super().weight(*shape, name=name)
        return self._own(full, before)

    def constant(self, value: Any, dtype: Any = None) -> str:
        before = len(self.initializers)
        return self._own(super().constant(value, dtype), before)

    def _own(self, name: str, before: int) -> str:
        """Give the initializer that was just made, if any, a name that nothing outside has."""
        if len(self.initializers) > before:
            tensor = self.initializers[-1]
            tensor.name = f"{name}{self.suffix}"
            self.weights[:] = [(tensor.name if n == name else n, shape) for n, shape in self.weights]
            return str(tensor.name)
        return name

    def given(self, name: str) -> str:
        """Return a tensor as an output of the body: made here, under a name of its own."""
        return self.node("Identity", [name], self.shapes[name])

    def graph(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        if not self.maybe(3):
            return helper.make_graph(self.nodes, "body", inputs, outputs, self.initializers)
        constants = [helper.make_node("Constant", [], [t.name], value=t) for t in self.initializers]
        return helper.make_graph([*constants, *self.nodes], "body", inputs, outputs)


def _steps() -> list[Step]:
    """Return the steps of graphs without bodies, but for rounding: what rounds to even differs by more than sums do."""
    return [step for step in STEPS if step.__name__ != "half_precision"]


def body(s: Sketch, *inputs: tuple[str, Shape], sees: Sequence[str] = ()) -> Body:
    """Return an empty body that sees the latest tensors of `s`, those it is told to, and its own inputs."""
    number = sum(node.op_type in ("If", "Loop", "Scan") for node in s.nodes)
    depth = s.suffix if isinstance(s, Body) else ""
    result = Body(s.pick, s.opset, s.dtype, s.rng, outer=s, suffix=f"_b{number}{s.pick(1000)}{depth}")
    result.shapes = dict(s.shapes) | dict(inputs)
    result.tensors = [*sees, *s.tensors[-3:], *(name for name, _ in inputs)]
    return result


def fill(inner: Body, count: int) -> None:
    """Add `count` random steps to a body, a further body among them if it is the first one."""
    steps = _steps() if isinstance(inner.outer, Body) else [*_steps(), *NESTED]
    tried = 0
    while count and tried < 20:
        count -= bool(inner.choice(steps)(inner))
        tried += 1


def shaped(inner: Body, shape: Shape) -> str:
    """Return a tensor of `shape` that the body makes, by a further layer where it made none."""
    found = inner.tensor(like=shape)
    if found is not None and found in inner.made and not inner.maybe(4):
        return found
    source = inner.tensor(rank=len(shape))
    like = [t for t in inner.tensors if len(inner.shapes[t]) == len(shape)]
    near = [t for t in [source, *like] if t is not None and _one_layer(inner.shapes[t], shape)]
    x = near[0]
    if len(shape) == 4:
        return inner.node("Conv", [x, inner.weight(shape[1], inner.shapes[x][1], 1, 1)], shape)
    return inner.node("MatMul", [x, inner.weight(inner.shapes[x][-1], shape[-1])], shape)


def _one_layer(have: Shape, want: Shape) -> bool:
    if len(want) == 4:
        return (have[0], *have[2:]) == (want[0], *want[2:])
    return have[:-1] == want[:-1]


def declared(s: Sketch, name: str, shape: Shape, *, ranked: bool = False) -> ValueInfoProto:
    """Return the declaration of an input or output of a body, now and then without sizes.

    ranked: never without a rank, as onnxruntime wants it of what trips give.
    """
    sizes: list[int | None] | None = [None, *shape[1:]] if shape and shape[0] == BATCH else list(shape)
    if s.maybe(4):
        sizes = None if s.maybe(2) and not ranked else [None] * len(shape)
    return helper.make_tensor_value_info(name, s.dtype, sizes)


def truth(s: Sketch, name: str | None = None) -> str:
    """Return a scalar truth value that is computed from a tensor, the model's input where none is given."""
    total = s.node("ReduceSum", [name or "x"], (), keepdims=0)
    return s.node(s.choice(("Less", "Greater")), [total, s.scalar(0.0)], ())


def branches(s: Sketch) -> bool:
    """An If whose branches give tensors of one shape."""
    x = s.tensor()
    if x is None:
        return False
    shape = s.shapes[x]
    condition = truth(s, x if s.maybe(3) else None)
    graphs = []
    for _ in range(2):
        inner = body(s, sees=[x])
        if s.maybe(5):
            out = inner.given(x)
        else:
            fill(inner, 1 + s.pick(2))
            out = inner.given(shaped(inner, shape))
        s.used |= inner.used
        graphs.append(inner.graph([], [declared(s, out, shape)]))
    then_branch, else_branch = graphs
    s.keep(s.node("If", [condition], shape, then_branch=then_branch, else_branch=else_branch))
    return True


def start(s: Sketch, shape: Shape) -> str:
    """Return what a loop may start from: a tensor, zeros in several spellings, or a parameter."""
    way = s.pick(5)
    found = s.tensor(like=shape)
    if way < 2 and found is not None:
        return found
    if way == 2:
        return s.node("ConstantOfShape", [s.constant(list(shape))], shape)
    if way == 3:
        return s.node("Expand", [s.scalar(0.0), s.constant(list(shape))], shape)
    if found is not None and s.maybe(3):
        return s.node("Mul", [found, s.scalar(0.0)], shape)
    return s.weight(*shape, name="p") if s.maybe(2) else s.constant(np.zeros(shape), np.float32)


def _turn(s: Sketch, inner: Body, shape: Shape, state: str) -> tuple[str, str]:
    """Return what is carried on and what a trip gives, made by random steps."""
    fill(inner, 1 + s.pick(3))
    new = shaped(inner, shape)
    if s.maybe(2):
        new = inner.node(s.choice(("Add", "Mul", "Max")), [new, state], shape)
    if s.maybe(2):
        new = inner.node(s.choice(("Tanh", "Relu", "Sigmoid", "Elu")), [new], shape)
    new = inner.node("Clip", [new, inner.scalar(-20.0), inner.scalar(20.0)], shape)  # not ever larger
    trip = new if s.maybe(2) else shaped(inner, shape)
    return inner.given(new), inner.given(trip)


def _behind(s: Sketch, last: str, stacked: str, shape: Shape) -> None:
    """Offer what comes out of a loop to later steps."""
    both = s.pick(4)
    if both != 1:
        s.keep(last)
    if both:  # of no trips onnxruntime 1.19 does not write the sum, so there is always one more
        more = s.node("ConstantOfShape", [s.constant([1, *shape])], (1, *shape))
        trips = s.shapes[stacked][0] + 1
        whole = s.node("Concat", [more, stacked], (trips, *shape), axis=0)
        s.keep(s.node("ReduceSum", [whole, s.constant([0])], shape, keepdims=0))


def loop(s: Sketch) -> bool:
    """A Loop that carries a tensor, and gives one for every trip."""
    x = s.tensor()
    if x is None or (len(s.shapes[x]) == 2 and s.shapes[x][1] == 1):
        return False
    shape = s.shapes[x]
    trips = s.pick(MOST_TRIPS + 1)
    first = start(s, shape)
    name = f"state{len(s.shapes)}{getattr(s, 'suffix', '')}"
    inner = body(s, (name, shape))
    new, trip = _turn(s, inner, shape, name)
    condition = f"c{name}"
    if s.maybe(3):
        total = inner.node("ReduceSum", [new], (), keepdims=0)
        end = inner.node("Less", [total, inner.scalar(float(s.choice((-1.0, 0.0, 3.0))))], ())
    else:
        inner.shapes[condition] = ()
        end = inner.given(condition)
    truths = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in (condition, end)]
    counter = helper.make_tensor_value_info(f"i{name}", TensorProto.INT64, [])
    graph = inner.graph(
        [counter, truths[0], declared(s, name, shape)],
        [truths[1], declared(s, new, shape), declared(s, trip, shape, ranked=True)],
    )
    s.used |= inner.used
    count = s.constant(trips)
    if s.maybe(3):
        count = s.node("Cast", [truth(s)], (), to=TensorProto.INT64)
    go = s.choice(("", s.constant(True, bool)))
    last, stacked = s.many("Loop", [count, go, first], [shape, (trips, *shape)], body=graph)
    _behind(s, last, stacked, shape)
    return True


def scan(s: Sketch) -> bool:
    """A Scan over tensors that are put one behind the other first."""
    x = s.tensor()
    if x is None:
        return False
    shape = s.shapes[x]
    y = s.tensor(like=shape)
    assert y is not None
    axes = s.constant([0])
    parts = [s.node("Unsqueeze", [t, axes], (1, *shape)) for t in (x, y)]
    whole = s.node("Concat", parts, (2, *shape), axis=0)
    first = start(s, shape)
    state, part = (f"{n}{len(s.shapes)}{getattr(s, 'suffix', '')}" for n in ("state", "part"))
    inner = body(s, (state, shape), (part, shape))
    new, trip = _turn(s, inner, shape, state)
    graph = inner.graph(
        [declared(s, state, shape), declared(s, part, shape)],
        [declared(s, new, shape, ranked=True), declared(s, trip, shape, ranked=True)],
    )
    s.used |= inner.used
    last, stacked = s.many("Scan", [first, whole], [shape, (2, *shape)], body=graph, num_scan_inputs=1)
    _behind(s, last, stacked, shape)
    return True


BODIES: list[Step] = [branches, loop, scan]
NESTED: list[Step] = BODIES * 3


def random_bodies(pick: Pick, count: int, *, seed: int = 0) -> ModelProto:
    """Return a random model of about `count` steps, one of five a node with a body, one of them at least."""
    drawn = sketch(pick, [*_steps(), *BODIES * (len(STEPS) // 12)], count, seed=seed)
    while not any(node.op_type in ("If", "Loop", "Scan") for node in drawn.nodes):
        drawn.choice(BODIES)(drawn)
    return drawn.finish()
