"""Lists of image files: found without opening them, and small in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnx_oto.data.images.decoding import SUFFIXES, check
from onnx_oto.errors import DataError, StorageError

Rows = npt.NDArray[np.int64]

HIDDEN = ("__MACOSX", "@eaDir")
"""Folders that other systems leave behind, beside those whose names begin with a dot."""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_DEEPEST = 32
_LOT = 4096


@dataclass(frozen=True, eq=False)
class Files:
    """Paths of files, as folders and names: a million of 20 letters takes 32 MB.

    names: of all files, one behind the other; ends int64 [N]: where each ends; folder int32 [N]: which of `folders`.
    """

    folders: tuple[str, ...]
    names: bytes
    ends: Rows
    folder: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, row: int) -> str:
        """Return the name of a file."""
        return os.fsdecode(self._encoded(row))

    def _encoded(self, row: int) -> bytes:
        begin = int(self.ends[row - 1]) if row else 0
        return self.names[begin : int(self.ends[row])]

    def path(self, row: int) -> str:
        """Return where a file is."""
        return os.path.join(self.folders[int(self.folder[row])], self.name(row))

    def paths(self) -> Iterator[str]:
        """Yield all paths in their order."""
        return map(self.path, range(len(self)))

    def chosen(self, rows: Rows) -> Files:
        """Return these files alone."""
        encoded = [self._encoded(row) for row in rows.tolist()]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return Files(self.folders, b"".join(encoded), np.cumsum(lengths), self.folder[rows])


@dataclass
class Left:
    """What was left out of a list, counted; the first of it is named."""

    count: int = 0
    first: str = ""

    def add(self, path: str) -> None:
        """Count a file."""
        self.first = self.first or path
        self.count += 1


@dataclass(frozen=True, eq=False)
class Found:
    """Images below a folder. loose: those that lie in it; below: those of each folder in it, by its name, sorted."""

    path: str
    loose: Files
    below: dict[str, Files]
    left: Left = field(default_factory=Left)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the folders, sorted: numbers by what they count, anything else by letters."""
        if all(name.isascii() and name.isdigit() for name in self.below):
            return tuple(sorted(self.below, key=lambda name: (int(name), name)))
        return tuple(sorted(self.below))


def listed(parts: Iterable[tuple[str, Sequence[str]]]) -> Files:
    """Return files by folder and names, in this order."""
    folders: dict[str, int] = {}
    names = bytearray()
    ends: list[npt.NDArray[np.int64]] = []
    owners: list[npt.NDArray[np.int32]] = []
    for folder, some in parts:
        encoded = [os.fsencode(name) for name in some]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ends.append(len(names) + np.cumsum(lengths))
        owners.append(np.full(len(encoded), folders.setdefault(folder, len(folders)), np.int32))
        names += b"".join(encoded)
    empty = np.zeros(0, np.int64)
    return Files(
        tuple(folders),
        bytes(names),
        np.concatenate([empty, *ends]),
        np.concatenate([empty.astype(np.int32), *owners]),
    )


def joined(parts: Sequence[Files]) -> Files:
    """Return the files of several lists, one behind the other."""
    folders = [folder for part in parts for folder in part.folders]
    starts = np.cumsum([0, *(len(part.folders) for part in parts)])
    sizes = np.cumsum([0, *(len(part.names) for part in parts)])
    empty = np.zeros(0, np.int64)
    return Files(
        tuple(folders),
        b"".join(part.names for part in parts),
        np.concatenate([empty, *(part.ends + size for part, size in zip(parts, sizes, strict=False))]),
        np.concatenate(
            [empty, *(part.folder + start for part, start in zip(parts, starts, strict=False))]
        ).astype(np.int32),
    )


def find(folder: str) -> Found:
    """Return the images in a folder and below it; no file with the name of an image is opened.

    Hidden files and folders are passed over, links are followed, what is no image is counted. Raises StorageError.
    """
    left = Left()
    names, folders = _entries(folder, left)
    below = {
        name: listed(_walk(os.path.join(folder, name), left, (os.path.realpath(folder),))) for name in folders
    }
    return Found(folder, listed([(folder, names)]), below, left)


def has_images(folder: str, depth: int = 4) -> bool:
    """Say whether an image lies in a folder or not far below it. Looks no further than the first."""
    names, folders = _entries(folder, Left(), most=1)
    return bool(names) or (
        depth > 0 and any(has_images(os.path.join(folder, name), depth - 1) for name in folders)
    )


def folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones. Raises StorageError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name for each in entries if not _is_hidden(each.name) and each.is_dir())
    except OSError as error:
        raise StorageError(f"cannot read '{folder}': {error.strerror}") from None


def without_bad(files: Files) -> tuple[Rows, list[str]]:
    """Return which files can be decoded, and what is wrong with the others. Every file is read."""
    faults: list[str | None] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(files), _LOT):  # every call that waits for its turn takes memory
            some = range(start, min(start + _LOT, len(files)))
            faults.extend(pool.map(lambda row: check(files.path(row)), some))
    good = np.array([row for row, fault in enumerate(faults) if fault is None], np.int64)
    return good, [fault for fault in faults if fault is not None]


def _walk(folder: str, left: Left, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield folders with the images in them, from the top down; a link back up is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    if len(above) > _DEEPEST:
        raise DataError(f"'{folder}' lies {_DEEPEST} folders deep: images are looked for in fewer")
    names, folders = _entries(folder, left)
    yield folder, names
    for name in folders:
        yield from _walk(os.path.join(folder, name), left, (*above, real))


def _entries(folder: str, left: Left, most: int | None = None) -> tuple[list[str], list[str]]:
    """Return the names of images and of folders in a folder, sorted. most: stop after so many images."""
    names, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if _is_hidden(name):
                    continue
                if name[name.rfind(".") :].lower() in SUFFIXES and _may_be_file(entry):
                    names.append(name)
                elif entry.is_dir():
                    folders.append(name)
                elif "." not in name and _looks_like_image(entry):
                    names.append(name)
                else:
                    left.add(entry.path)
                if most is not None and len(names) >= most:
                    break
    except OSError as error:
        raise StorageError(f"cannot read '{folder}': {error.strerror}") from None
    return sorted(names), sorted(folders)


def _is_hidden(name: str) -> bool:
    return name[0] == "." or name in HIDDEN


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Say whether this is a file, or a link that leads to no folder: one to nothing is told when it is read."""
    return entry.is_file() or (entry.is_symlink() and not entry.is_dir())


def _looks_like_image(entry: os.DirEntry[str]) -> bool:
    """Say whether a file without a suffix begins like an image."""
    if not entry.is_file():
        return False
    try:
        with open(entry.path, "rb") as file:
            return file.read(8).startswith(_SIGNATURES)
    except OSError:
        return False
