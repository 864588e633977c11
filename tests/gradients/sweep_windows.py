"""Random convolutions and poolings of every rank, with their exact gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from . import exact
from .exact import Exact, Windows

if TYPE_CHECKING:
    from onnx_oto.gradients import Backend

Array = NDArray[Any]
OPS = ("Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool")
RANKS = (1, 2, 3)
SIZES = {1: (1, 2, 5, 8, 13), 2: (1, 3, 4, 7), 3: (1, 2, 3, 5)}


@dataclass(frozen=True)
class Case:
    """One node y = op(a, w, b) whose parameters are trained; `wanted` are those that get a gradient."""

    op: str
    attributes: Mapping[str, Any]
    values: Mapping[str, Array]
    windows: Windows
    wanted: tuple[str, ...]
    opset: int = 19
    seed: int = 0
    size: tuple[int, ...] = field(default=())

    @property
    def text(self) -> str:
        """The case in one line."""
        settings = " ".join(f"{key}={value}" for key, value in self.attributes.items())
        shapes = " ".join(f"{key}{list(value.shape)}" for key, value in self.values.items())
        return f"{self.op} {shapes} {settings} wanted {'+'.join(self.wanted)} opset {self.opset}"

    @property
    def weights(self) -> Array:
        """The weights r of the loss sum(y * r), float32."""
        x = self.values["a"]
        if self.op == "ConvTranspose":
            channels = self.values["w"].shape[1] * self.attributes.get("group", 1)
        else:
            channels = len(self.values["w"]) if "w" in self.values else x.shape[1]
        rng = np.random.default_rng(self.seed + 1)
        return rng.standard_normal((len(x), channels, *self.size)).astype(np.float32)


def draw(op: str, rank: int, seed: int) -> Case:
    """Return a random case, the same for the same arguments; of every other one, attributes at their default go."""
    rng = np.random.default_rng([OPS.index(op), rank, seed])
    case = None
    while case is None:
        case = _draw(op, rank, rng)
    if seed % 2:
        return case
    default = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0, "group": 1, "ceil_mode": 0}
    said = {k: v for k, v in case.attributes.items() if k not in default or np.any(np.array(v) != default[k])}
    return replace(case, attributes=said)


def _draw(op: str, rank: int, rng: np.random.Generator) -> Case | None:
    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    size = tuple(pick(*SIZES[rank]) for _ in range(rank))
    if op.startswith("Global"):
        return _global(op, size, pick, rng)
    kernel = tuple(pick(1, 2, 3, 3, 5 if rank < 3 else 2) for _ in range(rank))
    strides = tuple(pick(1, 1, 2, 3) for _ in range(rank)) if pick(0, 1) else (pick(1, 2),) * rank
    dilations = tuple(pick(1, 2, 3) for _ in range(rank)) if pick(0, 0, 1) else (1,) * rank
    mode = pick("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    mode = "NOTSET" if op == "ConvTranspose" else mode
    ceil = bool("Pool" in op and mode == "NOTSET" and pick(0, 1))
    pads = _pads(op, mode, size, kernel, strides, dilations, pick)
    windows = Windows(size, kernel, strides, dilations, pads, ceil)
    if min(windows.out) < 1 or math.prod(windows.out) * math.prod(kernel) > 4000:
        return None
    if ceil and windows.has_empty():  # refused: runtimes disagree about the size of the output
        return None
    if "Pool" in op and (windows.counts(include_pad=False) == 0).any():
        return None
    attributes: dict[str, Any] = {"strides": strides}
    if op == "MaxPool" or any(d != 1 for d in dilations):
        attributes["dilations"] = dilations
    attributes |= {"auto_pad": mode} if mode != "NOTSET" else {"pads": pads}
    if "Pool" in op:
        attributes |= {"kernel_shape": kernel, "ceil_mode": int(ceil)}
    if op == "AveragePool":
        attributes["count_include_pad"] = pick(0, 1)
    batch = pick(1, 2, 3, 5, 8)
    if "Pool" in op:
        values = {"a": _normal(rng, batch, pick(1, 2, 3, 16), *size)}
        return Case(
            op, attributes, values, windows, ("a",), seed=int(rng.integers(1 << 30)), size=windows.out
        )
    return _convolution(op, attributes, windows, batch, pick, rng)


def _global(op: str, size: tuple[int, ...], pick: Any, rng: np.random.Generator) -> Case:
    ones, nil = (1,) * len(size), (0,) * (2 * len(size))
    values = {"a": _normal(rng, pick(1, 2, 5), pick(1, 3, 16), *size)}
    return Case(op, {}, values, Windows(size, size, ones, ones, nil), ("a",), size=ones)


def _convolution(
    op: str, attributes: dict[str, Any], windows: Windows, batch: int, pick: Any, rng: np.random.Generator
) -> Case:
    group = pick(1, 1, 2, 3, 4, 16)
    share, filters = pick(1, 1, 2, 3), pick(1, 1, 2) * group
    if group == 1:
        share, filters = pick(1, 2, 5), pick(1, 3, 4)
    attributes["group"] = group
    values = {"a": _normal(rng, batch, share * group, *windows.size)}
    out, size = share * group, windows.out
    if op == "ConvTranspose":  # the adjoint: what the windows give is its input
        values["a"] = _normal(rng, batch, filters, *windows.out)
        fits = _natural(windows)
        attributes["output_padding"] = tuple(n - m for n, m in zip(windows.size, fits, strict=True))
        size = windows.size
    values["w"] = _normal(rng, filters, share, *windows.kernel)
    if pick(0, 1):
        values["b"] = _normal(rng, out if op == "ConvTranspose" else filters)
    wanted = pick(tuple(values), tuple(values), ("a",), ("w",))
    return Case(op, attributes, values, windows, wanted, seed=int(rng.integers(1 << 30)), size=size)


def _natural(windows: Windows) -> list[int]:
    """Return the size of a transposed convolution without output_padding."""
    rank = len(windows.size)
    return [
        (o - 1) * s + (k - 1) * d + 1 - windows.pads[axis] - windows.pads[rank + axis]
        for axis, (o, s, k, d) in enumerate(
            zip(windows.out, windows.strides, windows.kernel, windows.dilations, strict=True)
        )
    ]


def _pads(
    op: str, mode: str, size: Any, kernel: Any, strides: Any, dilations: Any, pick: Any
) -> tuple[int, ...]:
    begin, end = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        most = k - 1 if "Pool" in op else (k - 1) * d
        if mode == "NOTSET":
            begin.append(pick(0, 0, min(1, most), most, most + (1 if op == "Conv" else 0)))
            end.append(pick(begin[-1], begin[-1], 0, min(1, most)))
            continue
        total = 0 if mode == "VALID" else max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        halves = [total // 2, total - total // 2]
        before, after = halves if mode != "SAME_LOWER" else halves[::-1]
        begin.append(before)
        end.append(after)
    return (*begin, *end)


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def expected(case: Case) -> Exact:
    """Return the exact output and gradients."""
    values = {name: value.astype(np.float64) for name, value in case.values.items()}
    x, r = values["a"], case.weights.astype(np.float64)
    if case.op in ("MaxPool", "GlobalMaxPool"):
        return exact.max_pool(x, r, case.windows)
    if "Pool" in case.op:
        return exact.average_pool(x, r, case.windows, bool(case.attributes.get("count_include_pad", 0)))
    weights = values["w"]
    group = case.attributes.get("group", 1)
    filters = len(weights) if case.op == "Conv" else weights.shape[1] * group
    form = exact.conv if case.op == "Conv" else exact.conv_transpose
    return form(x, weights, values.get("b", np.zeros(filters)), r, case.windows, group)


def model_of(case: Case) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the case as a model that ends in its loss, and what is trained in it.

    Where the gradient of `a` is wanted, the parameter is added to the data; else the data are `a` itself.
    """
    trained = "a" in case.wanted
    shape = case.values["a"].shape
    inputs = ["a", *(name for name in case.values if name != "a")]
    nodes = [
        helper.make_node("Add", ["a.param", "data"], ["a"], name="entry"),
        helper.make_node(case.op, inputs, ["y"], name="node", **case.attributes),
        helper.make_node("Mul", ["y", "r"], ["weighted"], name="weighted"),
        helper.make_node("ReduceSum", ["weighted"], ["loss"], keepdims=0, name="loss"),
    ]
    stored = {("a.param" if name == "a" else name): value for name, value in case.values.items()} | {
        "r": case.weights
    }
    if not trained:
        nodes[0] = helper.make_node("Identity", ["data"], ["a"], name="entry")
        del stored["a.param"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8)
    return model, tuple("a.param" if name == "a" else name for name in case.wanted)


def errors(case: Case, repeats: int = 2, backend: Backend | None = None) -> dict[str, float]:
    """Return the largest errors of the loss and of each gradient relative to the largest entry, over some steps."""
    from onnx_oto.gradients import TrainingSpec, choose_backend, prepare

    model, trainable = model_of(case)
    right = expected(case)
    batch = case.values["a"].shape
    spec = TrainingSpec(trainable, "output", batch=batch[0], shards=1)
    session = prepare(model, spec, backend or choose_backend()).build()
    data = np.zeros(batch, np.float32) if "a" in case.wanted else case.values["a"]
    result: dict[str, float] = {}
    for _ in range(repeats):
        session.grads[...] = np.nan
        loss = session.step({"data": data}, None)
        total = float(np.sum(right.y * case.weights))
        size = float(np.abs(right.y * case.weights).sum())
        result["loss"] = max(result.get("loss", 0.0), abs(loss - total) / max(size, 1e-6))
        for name, (offset, shape) in session.slices.items():
            gradient = session.grads[offset : offset + int(np.prod(shape))].reshape(shape)
            true = right.grads[name.removesuffix(".param")]
            least = (
                1.0 if name == "b" else 1e-6
            )  # of one filter it is one sum, which may come out at any small number
            off = np.abs(gradient - true).max() / max(np.abs(true).max(), least)
            result[name] = max(result.get(name, 0.0), float(np.nan_to_num(off, nan=np.inf)))
    session.close()
    return result
