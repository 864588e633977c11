"""`verify`: do two model files compute the same?"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.data.npz import read_arrays
from onnx_oto.errors import DataError
from onnx_oto.model import load
from onnx_oto.verify import Verdict, compare

Path = str | os.PathLike[str]


def verify_files(full: Path, compact: Path, *, inputs: Path | None = None, seed: int = 0) -> Verdict:
    """Return the verdict on two model files, on random inputs or those of an npz file keyed by input name.

    Raises DataError when the models differ in inputs or outputs, or the given inputs do not fit.
    """
    left, right = load(full), load(compact)
    ours, theirs = _inputs(left), _inputs(right)
    if list(ours) != list(theirs):
        raise DataError(
            f"'{compact}' has inputs {list(theirs)}, '{full}' has {list(ours)}: they cannot be compared"
        )
    if len(left.graph.output) != len(right.graph.output):
        raise DataError(
            f"'{full}' has {len(left.graph.output)} outputs, '{compact}' has {len(right.graph.output)}: "
            "they cannot be compared"
        )
    feeds = None if inputs is None else [_fitting(inputs, ours)]
    return compare(left, right, seed=seed, inputs=feeds)


def _inputs(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in constants}


def _fitting(path: Path, wanted: dict[str, onnx.ValueInfoProto]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that the model reads, after comparing ranks, fixed sizes and types."""
    arrays = read_arrays(path)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"'{path}' lacks input {missing[0]!r}: it holds {sorted(arrays)}")
    return {name: _checked(path, arrays[name], value) for name, value in wanted.items()}


def _checked(path: Path, array: npt.NDArray[Any], value: onnx.ValueInfoProto) -> npt.NDArray[Any]:
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
