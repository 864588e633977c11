"""What has to be unpacked before samples can be had in any order: npy files, made once and mapped into memory.

They lie in a folder (see `Reading.cache`) under a name that says of what they were made: the place of the source, its
size, when it was changed, and what was asked for. Where a file of that name is there it is used again; those made of
earlier states of the same source are removed. A file is there whole or not at all. Without a folder they are temporary.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from onnx_oto.data.npyhead import DAMAGE
from onnx_oto.errors import DataError, StorageError
from onnx_oto.model.files.replace import together
from onnx_oto.model.files.saving import storing

Array = npt.NDArray[Any]
Write = Callable[[Mapping[str, BinaryIO]], None]
"""Writes an npy file into each of the open files, by name."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Unpacked:
    """Where the arrays that are made of some files lie. variant: whatever else they depend on, as text."""

    folder: Path | None
    sources: tuple[Path, ...]
    variant: str = ""

    def arrays(self, names: Sequence[str], need: int, write: Write) -> dict[str, Array]:
        """Return arrays by name, read-only and mapped from their files; `write` makes them where they are not there.

        need: bytes that they will take, at least. Raises StorageError where there is no room for them.
        """
        if self.folder is None:
            return self._temporary(names, need, write)
        places = {
            name: self.folder / f"{_safe(name)}-{self._own(name)}-{self._state()}.npy" for name in names
        }
        found = {name: _found(place) for name, place in places.items()}
        if any(array is None for array in found.values()):
            with storing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._require_room(self.folder, need, "--cache")
            with storing(self.folder), together() as files, ExitStack() as opened:
                write(
                    {
                        name: opened.enter_context(files.writing(files.claim(place)))
                        for name, place in places.items()
                    }
                )
                opened.close()
            found = {name: _found(place) for name, place in places.items()}
        self._remove_others(places.values())
        return {name: _there(array, places[name]) for name, array in found.items()}

    def _temporary(self, names: Sequence[str], need: int, write: Write) -> dict[str, Array]:
        """Return arrays in files that have no name, and are gone with the process."""
        self._require_room(Path(tempfile.gettempdir()), need, "TMPDIR")
        with storing(tempfile.gettempdir()), ExitStack() as opened:
            files: dict[str, BinaryIO] = {}
            for name in names:
                files[name] = opened.enter_context(tempfile.TemporaryFile(prefix="onnx-oto-"))
            write(files)
            for file in files.values():
                file.flush()
            return {name: mapped(file) for name, file in files.items()}

    def _require_room(self, folder: Path, need: int, remedy: str) -> None:
        with storing(folder):
            free = shutil.disk_usage(folder).free
        if need > free:
            raise StorageError(
                f"'{self.sources[0]}' takes {need} bytes unpacked, {free} are free in '{folder}': name a folder with "
                f"room by {remedy}"
            )

    def _own(self, name: str) -> str:
        return _digest(name, *(os.path.realpath(source) for source in self.sources))

    def _state(self) -> str:
        states = []
        for source in self.sources:
            try:
                info = os.stat(source)
            except OSError as error:
                raise StorageError(f"cannot read '{source}': {error.strerror or error}") from None
            states.append(f"{info.st_size} {info.st_mtime_ns}")
        return _digest(self.variant, *states)

    def _remove_others(self, places: Collection[Path]) -> None:
        """Remove what was made of earlier states of the sources. Whoever has it mapped keeps it."""
        for place in places:
            prefix = place.name.rpartition("-")[0]
            written = place.parent.glob(f"{prefix}-*.npy")
            for other in (*written, *place.parent.glob(f".{prefix}-*.tmp")):
                if other not in places and not other.name.startswith(f".{place.name}."):
                    with suppress(OSError):
                        other.unlink()


class NpyWriter:
    """Writes samples [n, *shape] to an npy file of which nobody knows yet how many samples it will hold."""

    def __init__(self, file: BinaryIO, dtype: npt.DTypeLike, shape: Sequence[int]) -> None:
        self._file, self._dtype, self._shape, self._count = file, np.dtype(dtype), tuple(shape), 0
        self._begin = self._head()

    def add(self, samples: Array) -> None:
        """Write some samples behind those before. Raises DataError for samples of another shape."""
        if samples.shape[1:] != self._shape:
            raise DataError(f"samples have shape {list(samples.shape[1:])}, those before {list(self._shape)}")
        self._file.write(np.ascontiguousarray(samples, self._dtype).data.cast("B") if samples.size else b"")
        self._count += len(samples)

    def close(self) -> None:
        """Write down how many samples there are."""
        self._file.seek(0)
        assert self._head() == self._begin, "numpy leaves room for the count to grow"
        self._file.seek(0, os.SEEK_END)

    def _head(self) -> int:
        told = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, told)
        return self._file.tell()


def mapped(file: BinaryIO) -> Array:
    """Return the array of an open npy file, read-only; its values are read when they are used. Raises ValueError."""
    file.seek(0)
    shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    begin = file.tell()
    if begin + math.prod(shape) * dtype.itemsize != file.seek(0, os.SEEK_END) or dtype.hasobject:
        raise ValueError("it was not written to its end")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(file, dtype, "r", begin, shape, order))


def _found(place: Path) -> Array | None:
    """Return the array of a file, None where it is not there or damaged."""
    try:
        with open(place, "rb") as file:
            return mapped(file)
    except (OSError, *DAMAGE):
        return None


def _there(array: Array | None, place: Path) -> Array:
    if array is None:
        raise StorageError(
            f"cannot read '{place}', which was just written: is somebody else writing to its folder?"
        )
    return array


def _safe(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name)[:40] or "x"


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
