"""Which kind of data a path is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data import OPENERS, Opener, Table, Tables, open_data
from onnx_oto.data.deferred import Deferred
from onnx_oto.errors import DataError, StorageError

GOOD = {f"{letter}_{split}": np.ones(3) for letter in "xy" for split in ("train", "test")}


@pytest.mark.parametrize("name", ["data.npz", "data.NPZ"])
def test_an_npz_file_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    with open(tmp_path / name, "wb") as file:
        np.savez(file, **GOOD)
    assert isinstance(open_data(tmp_path / name), Deferred)


def test_or_by_what_is_in_it(tmp_path: Path) -> None:
    with open(tmp_path / "data", "wb") as file:
        np.savez(file, **GOOD)
    assert open_data(str(tmp_path / "data")).train.samples == 3


def test_what_is_open_is_returned_as_it_is() -> None:
    tables = Tables(Table("train", {"": np.ones((3, 2))}), Table("test", {"": np.ones((1, 2))}))
    assert open_data(tables) is tables


def test_what_is_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing\.npz.*: No such file"):
        open_data(tmp_path / "nothing.npz")
    (tmp_path / "data.xyz").write_text("1,2,3")
    with pytest.raises(
        DataError, match=r"data\.xyz' is no data that can be read: give npz file with x_train, y_"
    ):
        open_data(tmp_path / "data.xyz")
    with pytest.raises(DataError, match="is no data that can be read"):
        open_data(tmp_path)
    (tmp_path / "bad.npz").write_text("1,2,3")
    with pytest.raises(DataError, match="no npz file, or a truncated one"):
        open_data(tmp_path / "bad.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no data that can be read"):
        open_data(tmp_path / "pipe")


def test_another_kind_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(Table("train", {"": np.ones((3, 2))}), Table("test", {"": np.ones((1, 2))}))
    monkeypatch.setitem(OPENERS, "folder", Opener("a folder", Path.is_dir, lambda path, reading: tables))
    assert open_data(tmp_path) is tables
    with pytest.raises(DataError, match=r"give npz file with .*; a folder"):
        open_data(__file__)
