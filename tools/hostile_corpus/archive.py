"""Npz files by hand: members with headers, flags and sizes that numpy would not write."""

from __future__ import annotations

import functools
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 2**24


@dataclass(frozen=True)
class Member:
    """A member as it is written.

    stored: its bytes in the file. size, crc, method, flags: what the headers claim (None: the truth of stored bytes).
    """

    name: str
    stored: bytes
    size: int | None = None
    crc: int | None = None
    method: int = zipfile.ZIP_STORED
    flags: int = 0


def write(path: Path, members: list[Member]) -> None:
    """Write an archive that claims whatever its members claim."""
    body, directory = bytearray(), bytearray()
    for member in members:
        name = member.name.encode()
        size = len(member.stored) if member.size is None else member.size
        crc = zlib.crc32(member.stored) if member.crc is None else member.crc
        facts = struct.pack(
            "<HHHHHIIIHH", 20, member.flags, member.method, 0, 33, crc, len(member.stored), size, len(name), 0
        )
        directory += (
            b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name
        )
        body += b"PK\3\4" + facts + name + member.stored
    ending = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(bytes(body) + bytes(directory) + b"PK\5\6" + ending)


def npy(
    array: Any = None, *, header: str | None = None, version: tuple[int, int] = (1, 0), data: bytes = b""
) -> bytes:
    """Return the bytes of an npy file: of an array, or with this header and data."""
    if array is not None:
        array = np.asarray(array)
        header = str({"descr": array.dtype.str, "fortran_order": False, "shape": array.shape})
        data = array.tobytes()
    text = f"{header}\n".encode("latin-1")
    length = struct.pack(
        "<H" if version[0] == 1 else "<I", min(len(text), 2**16 - 1 if version[0] == 1 else 2**32 - 1)
    )
    return b"\x93NUMPY" + bytes(version) + length + text + data


def head(descr: str = "|u1", shape: str = "(96, 8, 8)", order: str = "False") -> str:
    """Return the text of an npy header.

    >>> head(shape="(-1,)")
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }"
    """
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"


@functools.lru_cache
def zeros(start: bytes, size: int) -> bytes:
    """Return `start` and `size` zero bytes, deflated, without making them: one deflated chunk is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    chunk = packer.compress(bytes(CHUNK)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size % CHUNK)) + packer.flush()
    return first + chunk * (size // CHUNK) + rest


def bomb(name: str, header: str, size: int) -> Member:
    """Return a member of a few MB that unpacks to an npy file of `size` zero bytes."""
    start = npy(header=header)
    return Member(name, zeros(start, size), len(start) + size, 0, zipfile.ZIP_DEFLATED)
