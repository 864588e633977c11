"""CIFAR-10 and CIFAR-100 in the binary version of their authors (https://www.cs.toronto.edu/~kriz/cifar.html).

CIFAR-10 is data_batch_1.bin to data_batch_5.bin and test_batch.bin, a sample is a byte for the label and 3072 for an
image [3, 32, 32]; the names of the classes are in batches.meta.txt. CIFAR-100 is train.bin and test.bin, with two
bytes for the coarse and the fine label, and names in coarse_label_names.txt and fine_label_names.txt.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.dataset import Tables
from onnx_oto.data.files import reading_file
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.errors import DataError, UsageError

Array = npt.NDArray[Any]

TEXT = "folder of CIFAR-10 or CIFAR-100, binary version (data_batch_1.bin or train.bin)"
_BATCH = re.compile(r"data_batch_(\d+)(\.bin)?")
_IMAGE = ("image", "u1", (3, 32, 32))
_CIFAR10 = np.dtype([("label", "u1"), _IMAGE])
_CIFAR100 = np.dtype([("coarse", "u1"), ("fine", "u1"), _IMAGE])
_NAMES = {"label": "batches.meta.txt", "coarse": "coarse_label_names.txt", "fine": "fine_label_names.txt"}
_CLASSES = {"label": 10, "coarse": 20, "fine": 100}


def takes(path: Path) -> bool:
    """Say whether there are files of CIFAR in a folder."""
    return path.is_dir() and (bool(_batches(path)) or (path / "train.bin").exists())


def _batches(path: Path) -> dict[int, Path]:
    """Return the files of CIFAR-10's training samples by number."""
    found = ((_BATCH.fullmatch(file.name), file) for file in sorted(path.iterdir()))
    return {int(match[1]): file for match, file in found if match is not None}


def open_cifar(path: Path, reading: Reading) -> Tables:
    """Return the images and labels of a folder. Raises StorageError, DataError; UsageError for an unknown label."""
    batches = _batches(path)
    if not batches:
        return _cifar100(path, reading)
    if reading.label is not None:
        raise UsageError(
            f"label is '{reading.label}': '{path}' is CIFAR-10, which has one label; leave it out"
        )
    for number, file in batches.items():
        if not file.suffix:
            raise DataError(
                f"'{file}' is a pickle, which is never loaded: take the binary version of the data"
            )
        if number > 1 and number - 1 not in batches:
            raise DataError(f"'{path}' lacks data_batch_{number - 1}.bin: data_batch_{number}.bin is there")
    train = np.concatenate([_samples(batches[number], _CIFAR10, ("label",)) for number in sorted(batches)])
    test = path / "test_batch.bin"
    return _tables(
        path, train, _samples(test, _CIFAR10, ("label",)) if test.exists() else None, "label", reading
    )


def _cifar100(path: Path, reading: Reading) -> Tables:
    label = reading.label or "fine"
    if label not in ("fine", "coarse"):
        raise UsageError(f"label is '{label}': CIFAR-100 has 'fine' and 'coarse' ones")
    kinds = ("coarse", "fine")
    train, test = _samples(path / "train.bin", _CIFAR100, kinds), path / "test.bin"
    return _tables(path, train, _samples(test, _CIFAR100, kinds) if test.exists() else None, label, reading)


def _samples(path: Path, dtype: np.dtype[Any], labels: tuple[str, ...]) -> Array:
    """Return the samples of a file as a structured array. Raises DataError where it is no such file."""
    with reading_file(path) as file:
        content = file.read()
    if not content or len(content) % dtype.itemsize:
        raise DataError(
            f"'{path}' has {len(content)} bytes, a sample takes {dtype.itemsize}: it is empty, truncated or no CIFAR"
        )
    found = np.frombuffer(content, dtype)
    for label in labels:
        wrong = np.flatnonzero(found[label] >= _CLASSES[label])
        if wrong.size:
            raise DataError(
                f"'{path}': sample {wrong[0]} has the label {found[label][wrong[0]]}, CIFAR has {_CLASSES[label]} "
                f"of them: it is damaged or something else"
            )
    return found


def _tables(path: Path, train: Array, test: Array | None, label: str, reading: Reading) -> Tables:
    def table(split: str, samples: Array) -> Table:
        return Table(split, {"": samples["image"]}, {TARGET: samples[label]})

    return Tables(
        table("train", train),
        None if test is None else table("test", test),
        reading=reading,
        classes=_names(path / _NAMES[label], _CLASSES[label]),
        notes=(f"'{path}': CIFAR-100, {label} labels",) if label != "label" else (),
    )


def _names(path: Path, count: int) -> tuple[str, ...]:
    """Return the names of the classes, one a line; none where there is no such file."""
    if not path.exists():
        return ()
    with reading_file(path) as file:
        names = [line.strip() for line in file.read(1 << 16).decode("utf-8", "replace").splitlines()]
    names = [name for name in names if name]
    if len(names) != count:
        raise DataError(
            f"'{path}' names {len(names)} classes, there are {count}: copy it again, or remove it"
        )
    return tuple(names)
