"""A model that gives what its readers read: rows of features at positions drawn at random, for every sample.

A convolution of 512 channels with a 3x3 window reads 4,608 numbers for each of its outputs. Only those of a few
positions leave the graph: their places are computed inside it, from the sizes that the tensors have there, so that any
size of image and any padding works. `phase`, a number in [0, 1) that is fed, moves them from batch to batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.writer import GraphWriter
from onnx_oto.refit.readers import Reader, Window

Array = npt.NDArray[Any]
FIRST_OPSET = 9
"""Before it comparisons and limits are written in other ways."""
_PREFIX = "onnx_oto.tap"
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Tapped:
    """The model, its readers in the order of its outputs, and the name of the input that moves positions."""

    model: onnx.ModelProto
    readers: tuple[Reader, ...]
    phase: str

    def feeds(self, inputs: Mapping[str, Array], number: int) -> dict[str, Array]:
        """Return the inputs of batch `number` with the phase."""
        names = {value.name for value in self.model.graph.input}
        found = {name: array for name, array in inputs.items() if name in names}
        if self.phase in names:
            found[self.phase] = np.array([number * _GOLDEN % 1.0], np.float32)
        return found

    def rows(self, outputs: Sequence[Array]) -> list[npt.NDArray[np.float32]]:
        """Return what each reader reads: float32 [samples, rows, G, F], from the outputs of a run."""
        return [_rows(reader, array) for reader, array in zip(self.readers, outputs, strict=True)]


def tapped(
    model: onnx.ModelProto, readers: Sequence[Reader], positions: Sequence[int], *, seed: int
) -> Tapped:
    """Return a copy of a model of float32 (or float64) that gives what these readers read.

    positions: of each reader, how many are looked at in a sample; of a matrix all rows are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    writer = GraphWriter(opset_of(model), _PREFIX)
    phase = fresh(f"{_PREFIX}.phase", all_names(model.graph))
    rng = np.random.default_rng(seed)
    for reader, count in zip(readers, positions, strict=True):
        if reader.window is not None:
            name = _of_windows(writer, reader, reader.window, phase, rng, count)
        else:
            name = _of_rows(writer, reader, phase, rng, count)
        result.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    result.graph.input.append(helper.make_tensor_value_info(phase, TensorProto.FLOAT, [1]))
    writer.write_to(result.graph)
    drop_unneeded(result.graph)
    return Tapped(result, tuple(readers), phase)


def _as_float(writer: GraphWriter, tensor: str) -> str:
    """Return a tensor as float32: double precision gives rows like any other."""
    return writer.emit("Cast", tensor, to=TensorProto.FLOAT)


def _size(writer: GraphWriter, tensor: str, axis: int) -> str:
    """Return the size of an axis as a float32 [1]."""
    return writer.emit(
        "Cast",
        writer.emit("Gather", writer.emit("Shape", tensor), writer.ints([axis]), axis=0),
        to=TensorProto.FLOAT,
    )


def _drawn(writer: GraphWriter, phase: str, rng: np.random.Generator, count: int, size: str) -> str:
    """Return `count` whole numbers in [0, size), float32 [count, 1]: drawn once, moved by the phase."""
    moved = writer.emit("Add", writer.value(rng.random((count, 1))), phase)
    share = writer.emit("Sub", moved, writer.emit("Floor", moved))
    at = writer.emit("Floor", writer.emit("Mul", share, size))
    return writer.emit("Min", at, writer.emit("Sub", size, writer.value([1.0])))


def _of_windows(
    writer: GraphWriter, reader: Reader, window: Window, phase: str, rng: np.random.Generator, count: int
) -> str:
    """Return [N, C, count * taps]: what `count` outputs read in every channel."""
    offsets = np.array(list(product(*(range(k) for k in window.kernel))), np.float32)
    linear, inside = "", ""
    for axis, (step, dilation) in enumerate(zip(window.strides, window.dilations, strict=True)):
        size = _size(writer, reader.source, axis + 2)
        outputs = _size(writer, reader.output, axis + 2)
        first = writer.emit("Mul", _drawn(writer, phase, rng, count, outputs), writer.value([float(step)]))
        begin = _begin(writer, window, axis, size, outputs)
        start = writer.emit("Sub", first, begin)
        at = writer.emit("Add", start, writer.value(offsets[None, :, axis] * dilation))
        below = writer.emit("Not", writer.emit("Less", at, writer.value([0.0])))
        valid = writer.emit("And", below, writer.emit("Less", at, size))
        inside = writer.emit("And", inside, valid) if inside else valid
        last = writer.emit("Sub", size, writer.value([1.0]))
        clipped = writer.emit("Max", writer.emit("Min", at, last), writer.value([0.0]))
        place = writer.emit("Cast", clipped, to=TensorProto.INT64)
        if linear:
            whole = writer.emit("Cast", size, to=TensorProto.INT64)
            linear = writer.emit("Add", writer.emit("Mul", linear, whole), place)
        else:
            linear = place
    flat = writer.reshape(_as_float(writer, reader.source), [0, 0, -1])
    found = writer.emit("Gather", flat, writer.reshape(linear, [-1]), axis=2)
    mask = writer.emit("Cast", writer.reshape(inside, [-1]), to=TensorProto.FLOAT)
    return writer.emit("Mul", found, mask)


def _begin(writer: GraphWriter, window: Window, axis: int, size: str, outputs: str) -> str:
    """Return how far the first window begins in front of an axis, float32 [1]."""
    if not window.auto.startswith("SAME"):
        known = window.pads[axis] if window.auto == "NOTSET" else 0
        return writer.value([float(known)])
    extent = float(window.extents[axis])
    covered = writer.emit("Mul", outputs, writer.value([float(window.strides[axis])]))
    more = writer.value([extent - window.strides[axis]])
    total = writer.emit("Sub", writer.emit("Add", covered, more), size)
    total = writer.emit("Max", total, writer.value([0.0]))
    half = writer.emit("Floor", writer.emit("Mul", total, writer.value([0.5])))
    return half if window.auto == "SAME_UPPER" else writer.emit("Sub", total, half)


def _of_rows(writer: GraphWriter, reader: Reader, phase: str, rng: np.random.Generator, count: int) -> str:
    """Return [N, count, F]: so many rows of every sample; of a matrix its one row."""
    rows = writer.reshape(_as_float(writer, reader.source), [0, -1, reader.features])
    if reader.flat:
        return rows
    at = _drawn(writer, phase, rng, count, _size(writer, rows, 1))
    places = writer.emit("Cast", writer.reshape(at, [-1]), to=TensorProto.INT64)
    return writer.emit("Gather", rows, places, axis=1)


def _rows(reader: Reader, array: Array) -> npt.NDArray[np.float32]:
    if reader.window is None:
        return array.astype(np.float32, copy=False)[:, :, None, :]
    samples, channels, _ = array.shape
    apart = array.reshape(samples, channels, -1, reader.window.taps).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(apart, np.float32).reshape(samples, -1, reader.groups, reader.features)
