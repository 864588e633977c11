"""The MNIST family: a folder of idx files, with or without gz.

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz   t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz

An idx file is two zeros, a byte for the type, one for the number of axes, a big-endian uint32 for the size of each, and
the values, big-endian, the last axis fastest (http://yann.lecun.com/exdb/mnist). A name may begin with that of the data
set (emnist-letters-train-images-idx3-ubyte), `t10k` may be `test`, and a dot may stand before `idx`.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import psutil

from onnx_oto.data import archive
from onnx_oto.data.dataset import Tables
from onnx_oto.data.deferred import Deferred, Unread
from onnx_oto.data.files import inflating, reading_file
from onnx_oto.data.fit import Stored
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.data.unpacking import Unpacked
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]

TEXT = "folder of idx files, with or without gz, as train-images-idx3-ubyte and train-labels-idx1-ubyte"
_NAME = re.compile(r"(?P<set>.*-)?(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-[a-z]+(\.gz)?")
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class _Head:
    """What an idx file says of itself. begin: of the values, in bytes; packed: whether the file is one of gzip."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    packed: bool

    @property
    def size(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def takes(path: Path) -> bool:
    """Say whether there are idx files in a folder."""
    return path.is_dir() and any(_NAME.fullmatch(file.name) for file in path.iterdir())


def open_idx(path: Path, reading: Reading) -> Deferred:
    """Return what the heads of the idx files in a folder say. Raises StorageError, DataError."""
    heads = {key: _head(file) for key, file in _files(path).items()}
    blanks = {key: Unread(head.shape, head.dtype) for key, head in heads.items()}
    return Deferred(
        _tables(path, blanks, reading),
        lambda: _tables(path, {key: _values(head, reading) for key, head in heads.items()}, reading),
    )


def _files(path: Path) -> dict[tuple[str, str], Path]:
    """Return the files by split and what they hold. Raises DataError where they are several, or not all there."""
    found: dict[tuple[str, str], Path] = {}
    sets: set[str] = set()
    for file in sorted(path.iterdir()):
        match = _NAME.fullmatch(file.name)
        if match is None:
            continue
        sets.add(match["set"] or "")
        key = ("train" if match["split"] == "train" else "test", match["what"])
        if len(sets) > 1:
            one, other = sorted(sets)[:2]
            raise DataError(
                f"'{path}' holds several data sets, '{one}...' and '{other}...': give each its folder"
            )
        if key in found:
            raise DataError(f"'{found[key]}' and '{file}' are the same part of the data: keep one of them")
        found[key] = file
    if ("train", "images") not in found:
        raise DataError(
            f"'{path}' holds no train-images-idx3-ubyte(.gz): it is needed beside {_listed(found)}"
        )
    if ("test", "labels") in found and ("test", "images") not in found:
        raise DataError(
            f"'{path}' holds no t10k-images-idx3-ubyte(.gz): it is needed beside {_listed(found)}"
        )
    return found


def _listed(found: Mapping[tuple[str, str], Path]) -> str:
    return ", ".join(file.name for file in found.values())


def _tables(path: Path, columns: Mapping[tuple[str, str], Stored], reading: Reading) -> Tables:
    def table(split: str) -> Table | None:
        if (split, "images") not in columns:
            return None
        labels = {TARGET: columns[split, "labels"]} if (split, "labels") in columns else {}
        return Table(split, {"": columns[split, "images"]}, labels)

    try:
        train = table("train")
        assert train is not None
        return Tables(train, table("test"), reading=reading)
    except DataError as error:
        raise DataError(f"'{path}': {error}") from None


def _head(path: Path) -> _Head:
    with reading_file(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        there = os.fstat(file.fileno()).st_size
    if not there:
        raise DataError(f"'{path}' is empty (0 bytes): copy it again")
    with inflating(path) as stream:
        start = stream.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES:
            raise DataError(
                f"'{path}' is no idx file: it begins with the bytes {start.hex(' ')}, not with 00 00 08"
            )
        sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3] or not sizes:
        raise DataError(f"'{path}' is truncated: it ends within its head; copy it again")
    shape = struct.unpack(f">{start[3]}I", sizes)
    head = _Head(path, np.dtype(_DTYPES[start[2]]), shape, 4 + len(sizes), packed)
    if not packed and head.begin + head.size != there:
        raise _truncated(head, there - head.begin)
    if packed and head.size > archive.most_inflated(there):
        raise DataError(
            f"'{path}' claims {head.size} bytes, {head.size // there} times its size: unpack it (gunzip)"
        )
    return head


def _values(head: _Head, reading: Reading) -> Array:
    """Return the array of a file; a large one stays there, or is unpacked into a file of its own."""
    is_large = head.size >= archive.MAPPED_BYTES
    if is_large and not head.packed:
        with reading_file(head.path) as file:
            return np.asarray(np.memmap(file, head.dtype, "r", head.begin, head.shape))
    if is_large:

        def write(files: Mapping[str, BinaryIO]) -> None:
            told = {"descr": head.dtype.str, "fortran_order": False, "shape": head.shape}
            np.lib.format.write_array_header_1_0(files["values"], told)
            begin = files["values"].tell()
            with inflating(head.path) as stream:
                stream.read(head.begin)
                shutil.copyfileobj(stream, files["values"], 1 << 20)
            if files["values"].tell() - begin != head.size:
                raise _truncated(head, files["values"].tell() - begin)

        return Unpacked(reading.cache, (head.path,)).arrays(["values"], head.size, write)["values"]
    if head.size > (free := psutil.virtual_memory().available):
        raise DataError(f"'{head.path}' takes {head.size} bytes, {free} bytes of memory are free")
    with inflating(head.path) as stream:
        stream.read(head.begin)
        values = stream.read(head.size + 1)
    if len(values) != head.size:
        raise _truncated(head, len(values))
    return np.frombuffer(values, head.dtype).reshape(head.shape)


def _truncated(head: _Head, there: int) -> DataError:
    wanted = f"values of shape {list(head.shape)} take {head.size} bytes"
    if there > head.size:
        return DataError(f"'{head.path}' is damaged: {wanted}, there are more; copy it again")
    return DataError(f"'{head.path}' is truncated: {wanted}, {there} are there; copy it again")
