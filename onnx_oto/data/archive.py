"""Reading npz files that nobody vouches for: what they say of themselves is believed only as far as it is proved.

An npz file is a zip archive of npy files: a header with type and shape, and the values. Headers are read first, alone;
what they promise must be what the archive promises, and that must be in proportion to the file.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import psutil

from onnx_oto.data.npyhead import DAMAGE, HEADER_BYTES, read_head, require_size
from onnx_oto.data.unpacking import Unpacked
from onnx_oto.errors import DataError, StorageError, one_line
from onnx_oto.model.files.loading import open_regular

Array = npt.NDArray[Any]
Judge = Callable[[Mapping[str, Array]], Iterable[str]]

MOST_INFLATED = 1 << 30
"""What the arrays of any file may take, in bytes."""
MOST_RATIO = 100
"""How many times the size of their file larger arrays may take. Deflate shrinks zeros by 1030."""
MAPPED_BYTES = 1 << 28
"""From how many bytes on an array is left in its file, where that can be asked for: smaller ones are safe from whoever
writes the file again while it is used."""
_LOCAL = struct.Struct("<4s5H3I2H")
"""What stands before the name of a member, where its bytes begin; last, the lengths of name and extra field."""
_BLOCKS = {zipfile.ZIP_STORED: 1 << 20, zipfile.ZIP_DEFLATED: 1 << 20, zipfile.ZIP_LZMA: 1 << 12}
"""How many bytes to ask for at once. zipfile inflates as many bytes of LZMA at once, to as much as 7000 times that; of
bzip2, where it may be a million times, no block is small enough."""


@dataclass(frozen=True)
class _Member:
    """An array as its header describes it. begin: where its values begin, in bytes of the inflated member."""

    info: zipfile.ZipInfo
    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool

    @property
    def size(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return arrays of the types and shapes that an npz file holds, by key: they have no values and take no memory.

    Raises StorageError and DataError as `read_arrays` does.
    """
    with _opened(path) as (_, archive):
        return {key: _blank(member) for key, member in _members(archive).items()}


def read_arrays(
    path: str | os.PathLike[str],
    judge: Judge | None = None,
    *,
    map_large: bool = False,
    unpack: Unpacked | None = None,
) -> dict[str, Array]:
    """Return the arrays of any npz file by key; nothing is unpickled.

    judge: gets arrays of the right type and shape that hold nothing and take no memory, before any values are read,
    and returns the keys that are wanted; without it all are. It may raise DataError. map_large: arrays of MAPPED_BYTES
    and more that are stored as they are stay in the file, read-only, and are read when they are used; their checksums
    are compared now. unpack: where compressed arrays of that size are unpacked, once, and mapped. Raises StorageError
    when the file cannot be read, and DataError for damaged or foreign files and for those that claim more than can be
    in them.
    """
    with _opened(path) as (file, archive):
        members = _members(archive)
        blanks = {key: _blank(member) for key, member in members.items()}
        wanted = {key: members[key] for key in (members if judge is None else judge(blanks))}
        large = {key: member for key, member in wanted.items() if member.size >= MAPPED_BYTES}
        mapped = {key for key, member in large.items() if map_large and _is_stored(member)}
        packed = {key: member for key, member in large.items() if unpack and key not in mapped}
        inflated = {key: member for key, member in wanted.items() if key not in mapped}
        _check_proportion(inflated, os.fstat(file.fileno()).st_size)
        _check_memory({key: member for key, member in inflated.items() if key not in packed})
        unpacked = _unpacked(archive, packed, unpack) if unpack and packed else {}

        def read(key: str, member: _Member) -> Array:
            return _mapped(file, archive, key, member) if key in mapped else _values(archive, key, member)

        return {key: unpacked[key] if key in packed else read(key, wanted[key]) for key in wanted}


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, zipfile.ZipFile]]:
    """Open a file as an archive; what goes wrong while it is open is told with its name."""
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                raise DataError("it is no npz file, or a truncated one: write it with numpy.savez")
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                yield file, archive
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a damaged directory of the archive points outside the file
            raise DataError(f"{str(path)!r}: it is damaged: write it again with numpy.savez") from None
        raise StorageError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except DAMAGE as error:
        raise DataError(f"{str(path)!r}: it is damaged ({one_line(error)})") from None


def _members(archive: zipfile.ZipFile) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    for info in archive.infolist():
        key = info.filename.removesuffix(".npy")
        if key in members:
            raise DataError(f"array {key!r} is there twice: keep one of them")
        if info.compress_type not in _BLOCKS:
            raise DataError(
                f"array {key!r} is compressed in a way that is not read: store it with numpy.savez_compressed"
            )
        members[key] = _member(archive, info, key)
    return members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> _Member:
    """Return what the header of one member says, if it can be true."""
    try:
        with archive.open(info) as stream:
            head = _head(stream, _BLOCKS[info.compress_type])
    except DAMAGE as error:
        raise DataError(f"array {key!r} cannot be read: it is damaged ({one_line(error)})") from None
    begin, dtype, shape, is_fortran = read_head(head, key)
    member = _Member(info, begin, dtype, shape, is_fortran)
    require_size(key, member.size, info.file_size - begin, dtype, shape)
    return member


def _blank(member: _Member) -> Array:
    return np.broadcast_to(np.zeros((), member.dtype), member.shape)


def most_inflated(file_bytes: int) -> int:
    """Return how many bytes a file of this size may hold when it is unpacked."""
    return max(MOST_INFLATED, MOST_RATIO * file_bytes)


def _check_proportion(members: Mapping[str, _Member], file_bytes: int) -> None:
    """Raise DataError when the arrays are out of proportion to their file."""
    size = sum(member.size for member in members.values())
    if size > most_inflated(file_bytes):
        largest = max(members, key=lambda key: members[key].size)
        raise DataError(
            f"its arrays take {size} bytes, {size // max(file_bytes, 1)} times the size of the file, array "
            f"{largest!r} most of them: if that is right, store them with numpy.savez, which does not compress"
        )


def _check_memory(members: Mapping[str, _Member]) -> None:
    """Raise DataError when the arrays are larger than the memory that is free."""
    size = sum(member.size for member in members.values())
    free = psutil.virtual_memory().available
    if size > free:
        raise DataError(f"its arrays take {size} bytes, {free} bytes of memory are free: store fewer samples")


def _values(archive: zipfile.ZipFile, key: str, member: _Member) -> Array:
    try:
        values = np.empty(math.prod(member.shape), member.dtype)
        with archive.open(member.info) as stream:
            stream.read(member.begin)
            if member.size:
                _fill(values.view(np.uint8).data, stream, _BLOCKS[member.info.compress_type])
    except DAMAGE as error:
        raise DataError(f"array {key!r} cannot be read: it is damaged ({one_line(error)})") from None
    if member.is_fortran:
        return values.reshape(member.shape[::-1]).transpose()
    return values.reshape(member.shape)


def _unpacked(archive: zipfile.ZipFile, members: Mapping[str, _Member], unpack: Unpacked) -> dict[str, Array]:
    """Return arrays that lie in files of their own, which are made of the members where they are not there yet."""

    def write(files: Mapping[str, BinaryIO]) -> None:
        for key, file in files.items():
            try:
                with archive.open(members[key].info) as stream:  # a member is an npy file
                    shutil.copyfileobj(stream, file, _BLOCKS[members[key].info.compress_type])
            except DAMAGE as error:
                raise DataError(f"array {key!r} cannot be read: it is damaged ({one_line(error)})") from None

    return unpack.arrays(tuple(members), sum(member.size for member in members.values()), write)


def _is_stored(member: _Member) -> bool:
    info = member.info
    return info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size


def _mapped(file: BinaryIO, archive: zipfile.ZipFile, key: str, member: _Member) -> Array:
    """Return an array that stays in its file, after its checksum was compared."""
    try:
        with archive.open(member.info) as stream:  # it compares the local header, and the checksum at the end
            while stream.read(_BLOCKS[zipfile.ZIP_STORED]):
                pass
        file.seek(member.info.header_offset)
        local = file.read(_LOCAL.size)
        *_, name_bytes, extra_bytes = _LOCAL.unpack(local)
        begin = member.info.header_offset + _LOCAL.size + name_bytes + extra_bytes + member.begin
        order: Literal["F", "C"] = "F" if member.is_fortran else "C"
        return np.asarray(np.memmap(file, member.dtype, "r", begin, member.shape, order))
    except (*DAMAGE, struct.error) as error:
        raise DataError(f"array {key!r} cannot be read: it is damaged ({one_line(error)})") from None


def _head(stream: Any, block: int) -> bytes:
    """Return the first bytes of a member, more than any header has."""
    head = b""
    while len(head) < HEADER_BYTES and (more := stream.read(min(block, HEADER_BYTES - len(head)))):
        head += more
    return head


def _fill(buffer: memoryview, stream: Any, block: int) -> None:
    """Read as many bytes as fit, in blocks; with the last one the archive compares its checksum."""
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done : done + block])
        if not count:
            raise EOFError("it ends too early")
        done += count
