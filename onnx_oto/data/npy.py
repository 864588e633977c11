"""Arrays in npy files: a folder of x_train.npy, y_train.npy and so on, or one file of inputs without labels.

They stay in their files where they are large, and are read when samples are asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import psutil

from onnx_oto.data import archive
from onnx_oto.data.deferred import Deferred, Unread
from onnx_oto.data.files import reading_file
from onnx_oto.data.npyhead import HEADER_BYTES, Head, read_head, require_size
from onnx_oto.data.npz import tables_of
from onnx_oto.data.reading import Reading
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]

FILE_TEXT = "npy file of inputs, without labels"
FOLDER_TEXT = "folder with x_train.npy, y_train.npy, x_test.npy, y_test.npy"


def takes_file(path: Path) -> bool:
    """Say whether this is an npy file, by its name."""
    return path.suffix.lower() == ".npy" and not path.is_dir()


def takes_folder(path: Path) -> bool:
    """Say whether there are npy files in a folder."""
    return path.is_dir() and any(path.glob("*.npy"))


def open_file(path: Path, reading: Reading) -> Deferred:
    """Return what the header of an npy file says. Raises StorageError, DataError."""
    return _opened(path, {"x_train": path}, reading)


def open_folder(path: Path, reading: Reading) -> Deferred:
    """Return what the headers of the npy files in a folder say. Raises StorageError, DataError."""
    return _opened(path, {file.stem: file for file in sorted(path.glob("*.npy"))}, reading)


def _opened(path: Path, files: Mapping[str, Path], reading: Reading) -> Deferred:
    heads = {key: _head(file) for key, file in files.items()}
    blanks = {key: Unread(head.shape, head.dtype) for key, head in heads.items()}
    try:
        found = tables_of(blanks, reading)
    except DataError as error:
        raise DataError(f"'{path}': {error}") from None
    return Deferred(found, lambda: tables_of({key: _values(file) for key, file in files.items()}, reading))


def _head(path: Path) -> Head:
    with reading_file(path) as file:
        return _checked(path, file)


def _values(path: Path) -> Array:
    """Return an array; a large one stays in its file."""
    with reading_file(path) as file:
        head = _checked(path, file)
        size = math.prod(head.shape) * head.dtype.itemsize
        order: Literal["F", "C"] = "F" if head.is_fortran else "C"
        if size >= archive.MAPPED_BYTES:
            return np.asarray(np.memmap(file, head.dtype, "r", head.begin, head.shape, order))
        if size > (free := psutil.virtual_memory().available):
            raise DataError(
                f"'{path}' takes {size} bytes, {free} bytes of memory are free: store fewer samples"
            )
        file.seek(head.begin)
        return np.frombuffer(file.read(size), head.dtype).reshape(head.shape, order=order)


def _checked(path: Path, file: BinaryIO) -> Head:
    if not os.fstat(file.fileno()).st_size:
        raise DataError(f"'{path}' is empty (0 bytes): write it again with numpy.save")
    try:
        head = read_head(file.read(HEADER_BYTES), path.stem)
        there = os.fstat(file.fileno()).st_size - head.begin
        require_size(path.stem, math.prod(head.shape) * head.dtype.itemsize, there, head.dtype, head.shape)
    except DataError as error:
        raise DataError(f"'{path}': {error}") from None
    return head
