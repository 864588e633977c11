"""What a run was begun with, so that it is not gone on with by something else: model, data and files, by digest.

Files up to `WHOLE_BYTES` are read whole. Of larger data sizes, times and sampled contents are compared, and in any case
what training sees: how many samples there are and what some of them are, not augmented.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from onnx_oto import data
from onnx_oto.errors import StorageError
from onnx_oto.model.files.loading import stored_files
from onnx_oto.model.files.replace import target_of
from onnx_oto.pipeline.folder import FILES, LOCK, MANIFEST, UNPACKED

WHOLE_BYTES = 1 << 26
WRITTEN = "they were written since"
SPLITS = frozenset(("train", "test", "val"))
"""Under these names facts tell of samples."""
_SAMPLES = 16
_BLOCK = 1 << 20
_OF_RUNS = frozenset((*FILES, MANIFEST, LOCK))

Facts = dict[str, Any]


def of_model(path: str | os.PathLike[str]) -> Facts:
    """Return the digest of a model's file and of its external data. Raises StorageError."""
    return {"sha256": _digest(stored_files(path))}


def of_path(path: str | os.PathLike[str]) -> Facts:
    """Return what is known of a file or a folder: sizes and times, and the contents where they are small.

    Empty for what is no path of this system, such as the name of a function. Raises StorageError.
    """
    place = os.fspath(path)
    if not os.path.exists(place):
        return {}
    hashed, count, total = hashlib.sha256(), 0, 0
    small: list[str] = []  # the files, as long as they are to be read whole: there may be a million
    for file in [place] if os.path.isfile(place) else _files_below(place):
        try:
            facts = os.stat(file)
        except OSError as error:
            raise StorageError(f"cannot read '{file}': {error.strerror or error}") from None
        count, total = count + 1, total + facts.st_size
        name = file[len(place) :].strip(os.sep).replace(os.sep, "/") or "."
        hashed.update(os.fsencode(name) + f"\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        if total <= WHOLE_BYTES:
            small.append(file)
        else:
            small.clear()
    known: Facts = {"files": count, "bytes": total, "times": hashed.hexdigest()}
    if total <= WHOLE_BYTES:
        known["sha256"] = _digest(small)
    return known


def of_dataset(dataset: data.Dataset) -> Facts:
    """Return how many samples every split has, and the digest of some of them as the model reads them."""
    splits = {"train": dataset.train, "test": dataset.test, "val": dataset.val}
    return {
        name: {"samples": len(source), "sampled": _sampled(source)}
        for name, source in splits.items()
        if source is not None
    }


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs between two facts of a path or a data set, in words; None when nothing does.

    Times count only where the contents were not read.
    """
    for name in ("train", "test", "val"):
        one, other = before.get(name), now.get(name)
        if one == other:
            continue
        if one is None or other is None or one["samples"] != other["samples"]:
            counts = " and now ".join(str(each["samples"]) if each else "none" for each in (one, other))
            return f"there were {counts} {name} samples"
        return f"sampled contents of the {name} split differ"
    if "sha256" in before and "sha256" in now:
        return None if before["sha256"] == now["sha256"] else "the contents differ"
    if before.keys() != now.keys() and before.get("bytes") is not None and not now:
        return "they are gone"
    for key, what in (("files", "files"), ("bytes", "bytes")):
        if before.get(key) != now.get(key):
            return f"there were {before.get(key)} and now {now.get(key)} {what}"
    return WRITTEN if before.get("times") != now.get("times") else None


def _files_below(folder: str) -> Iterator[str]:
    """Yield all files of a folder and those in it, in the order of their names; those of runs are no data."""
    for root, folders, names in os.walk(folder):
        if MANIFEST in names or LOCK in names:
            names = [name for name in names if (target_of(name) or name) not in _OF_RUNS]
            folders[:] = [name for name in folders if name != UNPACKED]
        folders.sort()
        places = (os.path.join(root, name) for name in sorted(names))
        yield from (place for place in places if os.path.isfile(place))


def _digest(files: Iterable[str | os.PathLike[str]]) -> str:
    """Return the digest of the contents of files, one behind the other, with their lengths."""
    hashed = hashlib.sha256()
    for file in files:
        try:
            with open(file, "rb") as stream:
                while block := stream.read(_BLOCK):
                    hashed.update(block)
                hashed.update(f"\0{stream.tell()}\0".encode())
        except OSError as error:
            raise StorageError(f"cannot read '{file}': {error.strerror or error}") from None
    return hashed.hexdigest()


def _sampled(source: data.Source) -> str:
    count = len(source)
    rows = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).astype(np.int64))
    batch = source.batch(rows, None)
    hashed = hashlib.sha256()
    for kind in (batch.inputs, batch.targets):
        for name in sorted(kind):
            array = np.ascontiguousarray(kind[name])
            hashed.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            hashed.update(array.view(np.uint8).data if array.size else b"")
    return hashed.hexdigest()
