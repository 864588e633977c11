"""Tensor payloads: sizes without decoding, checks, numpy views, densified sparse tensors."""

from __future__ import annotations

import math
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper

from onnx_oto.errors import ModelError, StorageError
from onnx_oto.model.graph.budget import MAX_BYTES

FLOATS = frozenset({1, 10, 11, 16})
"""TensorProto data types whose constants may be parameters: float, float16, double, bfloat16."""

NARROW = frozenset({2, 3, 10, 16, 17, 18, 19, 20, 21, 22, 23})
"""TensorProto data types that weights are stored in to save space: float16, bfloat16, and those of 4 and 8 bits."""

MAX_DENSE_BYTES = 2 * MAX_BYTES
"""What all sparse tensors of a model may take together when they are stored densely."""
_HALF_BYTES: tuple[int, ...] = (TensorProto.UINT4, TensorProto.INT4, TensorProto.FLOAT4E2M1)
_EXTERNAL = int(TensorProto.EXTERNAL)
_PLAIN = {
    int(kind): helper.tensor_dtype_to_np_dtype(kind)
    for kind in (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.INT64,
        TensorProto.INT32,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.BOOL,
    )
    if sys.byteorder == "little"
}
"""The types whose raw payload is what numpy holds."""
_TYPED_FIELDS = {
    "float_data": (TensorProto.FLOAT, TensorProto.COMPLEX64),
    "double_data": (TensorProto.DOUBLE, TensorProto.COMPLEX128),
    "int64_data": (TensorProto.INT64,),
    "uint64_data": (TensorProto.UINT32, TensorProto.UINT64),
}


def element_count(tensor: TensorProto) -> int:
    """Return the product of the dims. Raises ModelError for a negative one."""
    dims = list(tensor.dims)
    if dims and min(dims) < 0:
        raise ModelError(f"tensor {tensor.name!r} has a negative size: dims {dims}")
    return math.prod(dims)


@cache
def bits_per_element(data_type: int) -> int:
    """Return the width of one element, 0 for strings. Raises ModelError for an unknown type."""
    if data_type == TensorProto.STRING:
        return 0
    if data_type in _HALF_BYTES:
        return 4
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"unknown element type {data_type} of a tensor") from None


def byte_count(tensor: TensorProto) -> int:
    """Return how many bytes the elements take in raw form; needs no payload. Strings count 0."""
    return (element_count(tensor) * bits_per_element(tensor.data_type) + 7) // 8


def is_external(tensor: TensorProto) -> bool:
    """Say whether the payload lies in another file (and has not been loaded)."""
    return tensor.data_location == _EXTERNAL


def locate(tensor: TensorProto, path: Path, offset: int, length: int) -> None:
    """Say where the payload of an external tensor lies, so that `to_array` reads it whenever it is asked to."""
    tensor.ClearField("external_data")
    for key, value in (("location", str(path)), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def is_located(tensor: TensorProto) -> bool:
    """Say whether `to_array` can read the payload of an external tensor: where it lies was checked (see `locate`)."""
    return any(each.key == "location" and os.path.isabs(each.value) for each in tensor.external_data)


def check_payload(tensor: TensorProto) -> None:
    """Raise ModelError unless the tensor (not external) holds exactly the elements that its dims promise."""
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {tensor.name!r} is stored in segments, which is not supported")
    expected = byte_count(tensor)
    if tensor.data_type == TensorProto.STRING:
        found, expected, unit = len(tensor.string_data), element_count(tensor), "strings"
    elif tensor.HasField("raw_data"):
        found, unit = len(tensor.raw_data), "bytes"
    else:
        found, expected, unit = *_typed_length(tensor), "values"
    if found != expected:
        raise ModelError(
            f"tensor {tensor.name!r} of dims {list(tensor.dims)} needs {expected} {unit} but holds {found}: "
            "the file is damaged"
        )


def is_plain(tensor: TensorProto) -> bool:
    """Say whether a tensor has a raw payload that is what numpy holds, element for element."""
    return tensor.data_type in _PLAIN and tensor.HasField("raw_data") and not tensor.HasField("segment")


def plain_type(tensor: TensorProto) -> np.dtype:
    """Return the type of the elements of a tensor that `is_plain`."""
    return _PLAIN[tensor.data_type]


def to_array(tensor: TensorProto) -> np.ndarray:
    """Return the elements as a read-only array; a view of one bytes object when the payload is raw.

    What lies in another file is read anew each time. Raises ModelError, also where that is not known or has changed.
    """
    if is_external(tensor):
        tensor = _read(tensor)
    try:
        if is_plain(tensor):
            return np.frombuffer(tensor.raw_data, plain_type(tensor)).reshape(tensor.dims)
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {error}") from None
    array.flags.writeable = False
    return array


def _read(tensor: TensorProto) -> TensorProto:
    """Return a located tensor with its payload."""
    where = {each.key: each.value for each in tensor.external_data}
    if not is_located(tensor):
        raise ModelError(f"tensor {tensor.name!r} was not loaded")
    path, offset, length = where["location"], int(where["offset"]), int(where["length"])
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            payload = file.read(length)
    except OSError as error:
        raise StorageError(f"cannot read external data {path!r}: {error.strerror or error}") from None
    if len(payload) != length:
        raise ModelError(f"external data of tensor {tensor.name!r}: {path!r} became shorter while reading")
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=payload)


def from_array(array: np.ndarray, name: str) -> TensorProto:
    """Return a tensor with raw payload."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def write_array(array: np.ndarray, name: str, tensor: TensorProto) -> None:
    """Write an array into an empty tensor: `from_array` with one copy less, for what is large."""
    if array.dtype.kind not in "fiu" or not array.dtype.isbuiltin:
        tensor.CopyFrom(from_array(array, name))
        return
    tensor.name = name
    tensor.dims.extend(array.shape)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.raw_data = _payload(array.astype(array.dtype.newbyteorder("<"), copy=False))


def _payload(array: np.ndarray) -> bytes:
    """Return the elements as bytes: the object that they are all of, if they are, for it need not be copied."""
    held: object = array
    while isinstance(held, np.ndarray):
        held = held.base
    if isinstance(held, bytes) and len(held) == array.nbytes and array.flags.c_contiguous:
        return held
    return array.tobytes()


def dense_bytes(sparse: SparseTensorProto) -> int:
    """Return how many bytes a sparse tensor takes when stored densely."""
    count: int = math.prod(sparse.dims)
    return count * max(bits_per_element(sparse.values.data_type), 8) // 8


def densify(sparse: SparseTensorProto) -> TensorProto:
    """Return the same tensor stored densely, under the name of its values.

    Without a payload where that of the values or of the indices was not loaded. Raises ModelError.
    """
    values, indices, dims = sparse.values, sparse.indices, tuple(sparse.dims)
    name = values.name
    if any(d < 0 for d in dims):
        raise ModelError(f"sparse tensor {name!r} has a negative size: dims {list(dims)}")
    count = math.prod(dims)
    if dense_bytes(sparse) > MAX_DENSE_BYTES:
        raise ModelError(f"sparse tensor {name!r} of dims {list(dims)} is too large to be stored densely")
    if is_external(values) or is_external(indices):
        empty = TensorProto(name=name, data_type=values.data_type, dims=dims)
        empty.data_location = TensorProto.EXTERNAL
        return empty
    stored = to_array(values).reshape(-1)
    if indices.data_type != TensorProto.INT64:
        raise ModelError(f"sparse tensor {name!r} has indices of another type than int64")
    where = to_array(indices)
    if where.ndim == 2 and where.shape[1] == len(dims):
        if where.size and ((where < 0).any() or (where >= np.array(dims)).any()):
            raise ModelError(f"sparse tensor {name!r} has an index outside its dims {list(dims)}")
        where = np.ravel_multi_index(tuple(where.T), dims) if dims else np.zeros(len(stored), np.int64)
    if where.shape != stored.shape or (where.size and (where.min() < 0 or where.max() >= count)):
        raise ModelError(f"sparse tensor {name!r} has indices that do not fit its {len(stored)} values")
    if (where[1:] <= where[:-1]).any():
        raise ModelError(f"sparse tensor {name!r} has indices that are not in ascending order, each once")
    dense = np.zeros(count, stored.dtype)
    dense[where] = stored
    return from_array(dense.reshape(dims), name)


def _typed_length(tensor: TensorProto) -> tuple[int, int]:
    """Return (found, expected) lengths of the typed field that holds this element type."""
    field = next((f for f, kinds in _TYPED_FIELDS.items() if tensor.data_type in kinds), "int32_data")
    expected = element_count(tensor)
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        expected *= 2
    if tensor.data_type in _HALF_BYTES:
        expected = byte_count(tensor)
    return len(getattr(tensor, field)), expected
