"""Columns of pyarrow as numpy: numbers, tensors in lists, images in bytes, labels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnx_oto.data.extras import extra
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Role = Literal["number", "tensor", "image", "word"]


def role(kind: Any) -> Role | None:
    """Return what a column of a type holds, None for what is never read (dates, decimals, nested structures)."""
    types = extra("pyarrow", "to read tables").types
    kind = stored(kind)
    if types.is_dictionary(kind):
        return role(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind):
        return "word"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "image"
    if types.is_struct(kind):
        return "image" if kind.get_field_index("bytes") >= 0 else None
    if is_list(kind):
        while is_list(kind):
            kind = stored(kind.value_type)
        return "tensor" if role(kind) == "number" else None
    return None


def stored(kind: Any) -> Any:
    """Return the type that an extension type is stored as."""
    return getattr(kind, "storage_type", kind)


def is_list(kind: Any) -> bool:
    """Say whether a type is one of lists."""
    types = extra("pyarrow", "to read tables").types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def number_dtype(kind: Any) -> np.dtype[Any]:
    """Return the numpy type of numbers, or of those in lists; booleans are 0 and 1."""
    kind = stored(kind)
    while is_list(kind) or hasattr(kind, "index_type"):
        kind = stored(kind.value_type)
    dtype = np.dtype(kind.to_pandas_dtype())
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def numbers(column: Any, name: str, first: int) -> Array:
    """Return numbers [n]. name: of file and column; first: the number of the first row. Raises DataError."""
    _require_all(column, name, first)
    if hasattr(column.type, "index_type"):
        column = column.dictionary_decode()
    found: Array = column.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        bad = int(np.flatnonzero(~np.isfinite(found))[0])
        raise DataError(f"{name}, row {first + bad} is {found[bad]}: every number must be finite")
    return found.astype(np.uint8) if found.dtype == np.bool_ else found


def tensors(column: Any, name: str, first: int) -> Array:
    """Return what lists hold as arrays of one shape [n, ...]. Raises DataError for lists of different lengths."""
    compute = extra("pyarrow.compute", "to read tables")
    inner = tuple(getattr(column.type, "shape", ()))
    column = getattr(column, "storage", column)
    shape = [len(column)]
    while is_list(column.type):
        _require_all(column, name, first)
        lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
        per_row = max(1, len(lengths) // max(1, shape[0]))
        wrong = np.flatnonzero(lengths != lengths[0]) if len(lengths) else np.zeros(0, int)
        if wrong.size:
            row = int(wrong[0]) // per_row
            raise DataError(
                f"{name}, row {first + row} holds {lengths[wrong[0]]} entries, others {lengths[0]}: all must have one "
                "shape"
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        column = compute.list_flatten(column)
        column = getattr(column, "storage", column)
    if column.null_count:
        at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{name}, row {first + at // max(1, len(column) // max(1, shape[0]))} lacks a number")
    found: Array = column.to_numpy(zero_copy_only=False)
    found = found.astype(np.uint8) if found.dtype == np.bool_ else found
    return found.reshape(shape[0], *inner) if inner else found.reshape(shape)


def words(column: Any, name: str, first: int) -> list[str]:
    """Return texts; numbers are written out. Raises DataError where one is missing."""
    _require_all(column, name, first)
    return [str(word) for word in column.to_pylist()]


def images(column: Any, name: str, first: int) -> list[bytes]:
    """Return the bytes of encoded images. Raises DataError where there are none."""
    compute = extra("pyarrow.compute", "to read tables")
    if column.type.num_fields:
        column = compute.struct_field(column, "bytes")
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{name}, row {row} holds no bytes of an image: store the images in the table")
    return list(column.to_pylist())


def _require_all(column: Any, name: str, first: int) -> None:
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{name}, row {row} is empty: fill it or remove the row")
