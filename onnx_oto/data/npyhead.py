"""Heads of npy files that nobody vouches for: type and shape of an array, and where its values begin."""

from __future__ import annotations

import io
import zipfile
import zlib
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np

from onnx_oto.errors import DataError, one_line

try:
    from lzma import LZMAError
except ImportError:  # a Python built without lzma: then zipfile refuses such members by itself
    LZMAError = zlib.error  # type: ignore[assignment,misc]

HEADER_BYTES = 1 << 14
"""More than any head has."""
MOST_AXES_SHOWN = 8

# What numpy and zipfile raise for damaged, encrypted or foreign content.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    TokenError,  # of Python 3.12 and newer, by which numpy reads old heads
    UnicodeError,
)


class Head(NamedTuple):
    """begin: of the values, in bytes."""

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool


def read_head(content: bytes, key: str) -> Head:
    """Return what the first bytes of an npy file say, HEADER_BYTES of them. key: its name in messages.

    Raises DataError for what is no array, and for arrays of objects: nothing is ever unpickled.
    """
    try:
        file = io.BytesIO(content)
        if not content.startswith(np.lib.format.MAGIC_PREFIX):
            raise DataError(f"member {key!r} is no array")
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"array {key!r} has version {version} of the npy format: store plain numbers")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(file)
    except DAMAGE as error:
        raise DataError(f"array {key!r} cannot be read: it is damaged ({one_line(error)})") from None
    if dtype.hasobject:
        raise DataError(
            f"array {key!r} cannot be read: it holds Python objects, which are never loaded; store numbers"
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise DataError(f"array {key!r} cannot be read: {shape_text(shape)} is no shape")
    return Head(file.tell(), dtype, shape, is_fortran)


def require_size(key: str, wanted: int, there: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise DataError when there are not as many bytes of values as type and shape take."""
    if wanted != there:
        raise DataError(
            f"array {key!r} cannot be read: {dtype} of shape {shape_text(shape)} takes {wanted} bytes, "
            f"the file holds {there}: it is damaged"
        )


def shape_text(shape: tuple[Any, ...]) -> str:
    """Return a shape as text, the first axes of a long one."""
    text = str(shape[:MOST_AXES_SHOWN])
    if len(shape) <= MOST_AXES_SHOWN:
        return text
    return f"{text[:-1]}, and {len(shape) - MOST_AXES_SHOWN} more axes)"
