"""SVHN, cropped digits, as published (http://ufldl.stanford.edu/housenumbers): train_32x32.mat and test_32x32.mat.

A file of MATLAB 5 holds X uint8 [32, 32, 3, N], samples last, and y [N, 1], where the digit 0 has the label 10.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from onnx_oto.data import archive
from onnx_oto.data.dataset import Tables
from onnx_oto.data.deferred import Deferred, Unread
from onnx_oto.data.extras import extra
from onnx_oto.data.files import reading_file
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.errors import DataError, one_line

Array = npt.NDArray[Any]

TEXT = "folder of SVHN with train_32x32.mat and test_32x32.mat, or one such file"
_SPLITS = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
_CLASSES = tuple("0123456789")


def takes(path: Path) -> bool:
    """Say whether this is a .mat file, or a folder with one of SVHN's."""
    if path.is_dir():
        return any((path / name).exists() for name in _SPLITS.values())
    return path.suffix.lower() == ".mat"


def open_svhn(path: Path, reading: Reading) -> Deferred:
    """Return what the heads of the files say. Raises StorageError, DataError, RuntimeMissingError without scipy."""
    files = {"train": path}
    if path.is_dir():
        files = {split: path / name for split, name in _SPLITS.items() if (path / name).exists()}
        if "train" not in files:
            raise DataError(f"'{path}' holds no {_SPLITS['train']}: it is needed beside {_SPLITS['test']}")
    blanks = {split: _blank(file) for split, file in files.items()}
    return Deferred(
        _tables(blanks, reading, path),
        lambda: _tables({s: _read(f) for s, f in files.items()}, reading, path),
    )


def _tables(parts: dict[str, tuple[Any, Any]], reading: Reading, path: Path) -> Tables:
    found = {split: Table(split, {"": x}, {TARGET: y}) for split, (x, y) in parts.items()}
    unread = path / "extra_32x32.mat"
    notes = (f"'{unread}' is not read",) if unread.exists() else ()
    return Tables(found["train"], found.get("test"), reading=reading, classes=_CLASSES, notes=notes)


def _blank(path: Path) -> tuple[Unread, Unread]:
    """Return what a file says of images and labels. Raises DataError."""
    io = extra("scipy.io", f"to read '{path}'")
    with reading_file(path) as file:
        try:
            told = {name: (tuple(shape), kind) for name, shape, kind in io.whosmat(file)}
        except OSError:
            raise
        except Exception as error:  # scipy raises whatever the damage makes it stumble over
            raise _damaged(path, error) from None
    for name in ("X", "y"):
        if name not in told:
            raise DataError(
                f"'{path}' holds {', '.join(told) or 'nothing'}, and no {name}: it is no file of SVHN"
            )
    (x, kind), (y, _) = told["X"], told["y"]
    count = x[3] if len(x) == 4 else 0
    if kind != "uint8" or len(x) != 4 or x[2] != 3 or y not in ((count, 1), (1, count)):
        raise DataError(
            f"'{path}': X is {kind} {list(x)} and y {list(y)}, SVHN has uint8 [32, 32, 3, N] and [N, 1]"
        )
    size, there = math.prod(x), path.stat().st_size
    if size > archive.most_inflated(there):
        raise DataError(
            f"'{path}' claims {size} bytes, {size // max(there, 1)} times its size: it is no file of SVHN"
        )
    if size > (free := psutil.virtual_memory().available):
        raise DataError(f"'{path}' takes {size} bytes, {free} bytes of memory are free")
    return Unread((count, *x[:3]), np.dtype(np.uint8)), Unread((count,), np.dtype(np.int64))


def _read(path: Path) -> tuple[Array, Array]:
    """Return images [N, 32, 32, 3] and digits [N] of a file."""
    io = extra("scipy.io", f"to read '{path}'")
    with reading_file(path) as file:
        try:
            found = io.loadmat(file, variable_names=("X", "y"))
            x, y = np.asarray(found["X"]), np.asarray(found["y"]).reshape(-1)
        except OSError:
            raise
        except Exception as error:
            raise _damaged(path, error) from None
    wrong = np.flatnonzero(~np.isin(y, np.arange(1, 11)))
    if wrong.size:
        raise DataError(f"'{path}': sample {wrong[0]} has the label {y[wrong[0]]}, SVHN has 1 to 10")
    return np.moveaxis(x, 3, 0), y.astype(np.int64) % 10


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"'{path}' is no MATLAB 5 file, or a truncated one ({one_line(error)}): copy it again")
