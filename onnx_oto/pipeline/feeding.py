"""What a user gives to verify with: inputs in an npz file, shapes as text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.data.archive import read_arrays
from onnx_oto.errors import DataError, UsageError
from onnx_oto.model.graph.order import fed_inputs
from onnx_oto.pipeline.options import FeedOptions
from onnx_oto.runtime.comparing import Feeding

Array = npt.NDArray[Any]
Number = TypeVar("Number", int, float)
Path = str | os.PathLike[str]


def read_feeding(model: onnx.ModelProto, options: FeedOptions) -> Feeding:
    """Return what the options say of the inputs of a model. Raises UsageError, DataError, StorageError."""
    examples = () if options.inputs is None else read_examples(options.inputs, model)
    return Feeding(examples=examples, shapes=parse_shapes(options.input_shape), limits=options.limits)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return shapes by input name.

    >>> parse_shapes(["x:1,16000", "a:b:3"])
    {'x': (1, 16000), 'a:b': (3,)}
    """
    found = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        try:
            found[name] = tuple(int(size) for size in sizes.split(",")) if sizes else ()
        except ValueError:
            name = ""
        if not name or any(size < 1 for size in found[name]):
            raise UsageError(f"'{text}' is no shape of an input: write NAME:d0,d1,... such as x:1,16000")
    return found


def parse_numbers(option: str, texts: Sequence[str], kind: Callable[[str], Number]) -> dict[str, Number]:
    """Return numbers by input name, for an option that is given as NAME:NUMBER. Raises UsageError.

    >>> parse_numbers("batch-axis", ["x:1", "a:b:0"], int)
    {'x': 1, 'a:b': 0}
    """
    found = {}
    for text in texts:
        name, _, number = text.rpartition(":")
        try:
            found[name] = kind(number)
        except ValueError:
            name = ""
        if not name:
            what = "a whole number" if kind is int else "a number"
            raise UsageError(f"{option} is '{text}': write NAME:NUMBER, with the name of an input and {what}")
    return found


def inputs_of(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return the inputs that must be fed, by name."""
    return {value.name: value for value in fed_inputs(model.graph)}


def read_examples(path: Path, model: onnx.ModelProto) -> list[dict[str, Array]]:
    """Return the feeds that an npz file holds for a model: one, or several where the first axes are fixed.

    An array whose first axis is k times the size that the model fixes holds the values of k feeds. Ranks, fixed sizes
    and types are compared. Raises DataError.
    """
    wanted = inputs_of(model)

    def judged(blanks: Mapping[str, Array]) -> Iterable[str]:
        missing = [name for name in wanted if name not in blanks]
        if missing:
            raise DataError(f"it lacks input {missing[0]!r}: it holds {sorted(blanks)}")
        return wanted

    arrays = read_arrays(path, judged)
    empty = next((name for name in wanted if arrays[name].size == 0), None)
    if empty is not None:
        raise DataError(f"'{path}': {empty!r} has shape {arrays[empty].shape}: there is nothing to verify on")
    parts = {name: _parts(arrays[name], value) for name, value in wanted.items()}
    count = max((len(each) for each in parts.values()), default=1)
    feeds = []
    for index in range(count):
        feed = {name: each[index] if index < len(each) else each[0] for name, each in parts.items()}
        feeds.append({name: _checked(path, feed[name], value) for name, value in wanted.items()})
    short = [name for name, each in parts.items() if len(each) not in (1, count)]
    if short:
        raise DataError(f"'{path}': {short[0]!r} holds {len(parts[short[0]])} feeds, another input {count}")
    return feeds


def _parts(array: Array, value: onnx.ValueInfoProto) -> list[Array]:
    dims = value.type.tensor_type.shape.dim
    size = dims[0].dim_value if dims else 0
    if size < 1 or array.ndim != len(dims) or len(array) < 2 * size or len(array) % size:
        return [array]
    return np.split(array, len(array) // size)


def _checked(path: Path, array: Array, value: onnx.ValueInfoProto) -> Array:
    if not value.type.HasField("tensor_type"):
        raise DataError(f"input {value.name!r} is no tensor: compare on random inputs of another model")
    kind = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    sizes = [dim.dim_value or None for dim in kind.shape.dim]
    fits = array.ndim == len(sizes) and all(
        want in (None, have) for want, have in zip(sizes, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        shape = str(sizes).replace("None", "?")
        raise DataError(
            f"'{path}': {value.name!r} is {array.dtype} {list(array.shape)}, the model reads {dtype} {shape}"
        )
    return array
