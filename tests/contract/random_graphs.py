"""Random models: a growing graph to which random steps add operators (see `random_steps`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .builder import weight

BATCH = 2
Pick = Callable[[int], int]
"""pick(n) returns a number from 0 to n - 1; hypothesis or a random generator decides."""
Shape = tuple[int, ...]


@dataclass
class Sketch:
    """A model under construction. Shapes have the batch as a number, in front."""

    pick: Pick
    opset: int = 17
    dtype: int = TensorProto.FLOAT
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    weights: list[tuple[str, Shape]] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    # --- choices ----------------------------------------------------------------------------------------------
    def choice(self, options: Sequence[Any]) -> Any:
        """Return one of `options`."""
        return options[self.pick(len(options))]

    def maybe(self, one_in: int) -> bool:
        """Return True once in `one_in` times."""
        return self.pick(one_in) == one_in - 1

    def tensor(self, rank: int | None = None, like: Shape | None = None, least: int = 1) -> str | None:
        """Return one of the latest tensors of a rank (or shape) with at least `least` channels; None: there is none."""
        fitting = [
            t
            for t in self.tensors[-8:]
            if (rank is None or len(self.shapes[t]) == rank)
            and (like is None or self.shapes[t] == like)
            and self.channels(t) >= least
        ]
        return self.choice(fitting) if fitting else None

    def channels(self, name: str) -> int:
        """Return the size of the channel axis: 1 of images and vectors, the last of sequences."""
        shape = self.shapes[name]
        return shape[-1] if len(shape) == 3 else shape[1]

    # --- parts ------------------------------------------------------------------------------------------------
    def weight(self, *shape: int, name: str = "w") -> str:
        """Return a random parameter; now and then one that is used already."""
        same = [n for n, s in self.weights if s == shape and n.startswith(name)]
        if same and self.maybe(6):
            return str(self.choice(same))
        full = f"{name}{len(self.initializers)}"
        self.weights.append((full, shape))
        value = weight(full, list(shape), self.rng).astype(helper.tensor_dtype_to_np_dtype(self.dtype))
        self.initializers.append(numpy_helper.from_array(value, full))
        return full

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Return a constant: int64 by default."""
        array = np.array(value, np.int64 if dtype is None else dtype)
        name = f"k{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def scalar(self, value: float) -> str:
        """Return a scalar constant of the model's type."""
        return self.constant(value, helper.tensor_dtype_to_np_dtype(self.dtype))

    def node(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """Add a node with one output of `shape`; return the output."""
        return self.many(op, inputs, [shape], **attributes)[0]

    def many(
        self, op: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; return them."""
        names = [f"t{len(self.shapes) + i}" for i in range(len(shapes))]
        self.shapes |= {n: tuple(s) for n, s in zip(names, shapes, strict=True)}
        self.used |= set(inputs)
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def keep(self, *names: str) -> None:
        """Offer tensors to later steps."""
        self.tensors.extend(names)

    # --- the end ----------------------------------------------------------------------------------------------
    def finish(self) -> ModelProto:
        """Return the model: every tensor that nothing reads goes through one more layer into an output."""
        outputs = [self._readout(t) for t in [t for t in self.tensors if t not in self.used]]
        symbolic = self.maybe(2)
        graph = helper.make_graph(
            self.nodes,
            "random",
            [self._info("x", symbolic)],
            [self._info(name, symbolic) for name in outputs],
            self.initializers,
        )
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def _readout(self, name: str) -> str:
        shape = self.shapes[name]
        if len(shape) == 4:
            return self.node("Conv", [name, self.weight(3, shape[1], 1, 1)], (shape[0], 3, *shape[2:]))
        return self.node("MatMul", [name, self.weight(shape[-1], 3)], (*shape[:-1], 3))

    def _info(self, name: str, symbolic: bool) -> Any:
        batch: str | int = "N" if symbolic else BATCH
        return helper.make_tensor_value_info(name, self.dtype, [batch, *self.shapes[name][1:]])


def sketch(pick: Pick, steps: Sequence[Callable[[Sketch], bool]], count: int, *, seed: int = 0) -> Sketch:
    """Return a sketch with an input, a first layer, and `count` random steps that applied."""
    result = Sketch(pick, rng=np.random.default_rng(seed))
    sequence = result.maybe(3)
    shape = (BATCH, 4, 3) if sequence else (BATCH, 3, 6, 6)
    result.shapes["x"] = shape
    if sequence:
        result.keep(result.node("MatMul", ["x", result.weight(3, 8)], (BATCH, 4, 8)))
    else:
        channels = result.choice((4, 6, 8))
        weights = [result.weight(channels, 3, 3, 3), result.weight(channels, name="b")]
        result.keep(result.node("Conv", ["x", *weights], (BATCH, channels, 6, 6), pads=[1, 1, 1, 1]))
    applied, tried = 0, 0
    while applied < count and tried < 4 * count:
        applied += bool(result.choice(steps)(result))
        tried += 1
    return result
