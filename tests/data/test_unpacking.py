"""Arrays that are unpacked once: made whole or not at all, used again, and made anew when their source changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest

from onnx_oto.data import Reading, Tables
from onnx_oto.data.npz import open_npz
from onnx_oto.data.unpacking import NpyWriter, Unpacked
from onnx_oto.errors import DataError, StorageError

X = np.random.default_rng(0).integers(0, 256, (60, 5, 7), np.uint8)


@pytest.fixture(autouse=True)
def mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let arrays of a hundred bytes count as large."""
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)


def written(path: Path, x: np.ndarray = X) -> Path:
    np.savez_compressed(path, x_train=x, x_test=x[:20])
    return path


def read(path: Path, cache: Path | None) -> Tables:
    return open_npz(path, Reading(cache=cache)).read()


def values(tables: Tables) -> np.ndarray:
    return tables.train_table.inputs[""][np.arange(60)]


@pytest.mark.parametrize("order", ["C", "F"])
def test_values_come_back(tmp_path: Path, order: Any) -> None:
    path = written(tmp_path / "d.npz", np.asarray(X, order=order))
    for cache in (None, tmp_path / "cache"):
        tables = read(path, cache)
        np.testing.assert_array_equal(values(tables), X)
        assert not tables.train_table.inputs[""].flags.writeable
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_second_run_unpacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = written(tmp_path / "d.npz"), tmp_path / "cache"
    read(path, cache)
    before = {file: file.stat().st_ino for file in cache.iterdir()}
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: pytest.fail("it is there already"))
    np.testing.assert_array_equal(values(read(path, cache)), X)
    assert {file: file.stat().st_ino for file in cache.iterdir()} == before


def test_another_source_takes_the_place_and_who_has_the_former_keeps_it(tmp_path: Path) -> None:
    path, cache = written(tmp_path / "d.npz"), tmp_path / "cache"
    former = read(path, cache)
    names = {file.name for file in cache.iterdir()}
    written(path, 255 - X)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(values(read(path, cache)), 255 - X)
    np.testing.assert_array_equal(values(former), X)
    now = {file.name for file in cache.iterdir()}
    assert len(now) == 2
    assert not now & names


def test_two_sources_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for place, x in (("a", X), ("b", 255 - X)):
        (tmp_path / place).mkdir()
        written(tmp_path / place / "d.npz", x)
    for place in "ab":
        read(tmp_path / place / "d.npz", tmp_path / "cache")
    np.testing.assert_array_equal(values(read(tmp_path / "a/d.npz", tmp_path / "cache")), X)


@pytest.mark.parametrize(
    "damage", [lambda told: told[:-1], lambda told: told.replace(b"'shape'", b"'\x0eshape")]
)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path, cache = written(tmp_path / "d.npz"), tmp_path / "cache"
    read(path, cache)
    for file in cache.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(values(read(path, cache)), X)


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    path, cache = tmp_path / "d.npz", tmp_path / "cache"
    x = np.random.default_rng(0).integers(0, 256, (60, 30, 30), np.uint8)
    np.savez_compressed(path, x_train=x, x_test=x[:20])
    content = bytearray(path.read_bytes())
    content[content.index(b"x_train.npy") + 40_000] ^= 0xFF  # behind what is read for the header
    path.write_bytes(content)
    with pytest.raises(DataError, match="it is damaged"):
        read(path, cache)
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "d.npz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        StorageError, match=r"d\.npz' takes 2800 bytes unpacked, 1000 are free in .*by --cache"
    ):
        read(path, tmp_path / "cache")
    with pytest.raises(StorageError, match="name a folder with room by TMPDIR"):
        read(path, None)


def test_what_was_asked_for_counts(tmp_path: Path) -> None:
    (tmp_path / "source").touch()

    def made(variant: str, number: int) -> int:
        def write(files: Mapping[str, BinaryIO]) -> None:
            np.save(files["a"], np.array([number]))

        unpacked = Unpacked(tmp_path / "cache", (tmp_path / "source",), variant)
        return int(unpacked.arrays(["a"], 8, write)["a"][0])

    assert [made("x", 1), made("x", 2), made("y", 3)] == [1, 1, 3]


def test_samples_that_come_one_by_one(tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        writer = NpyWriter(file, np.float32, (2,))
        for count in (3, 0, 1000):
            writer.add(np.full((count, 2), count, np.float64))
        with pytest.raises(DataError, match=r"samples have shape \[3\], those before \[2\]"):
            writer.add(np.zeros((1, 3)))
        writer.close()
    array = np.load(tmp_path / "a.npy")
    assert (array.shape, array.dtype, array.sum()) == ((1003, 2), np.float32, 18 + 2_000_000)
