"""Data that somebody's function makes, and what is said when it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data import Input, Reading, in_order, open_data
from onnx_oto.errors import DataError, StorageError, UsageError

FLOAT = np.dtype(np.float32)
SOURCE = '''
import numpy as np
from onnx_oto import data
from onnx_oto.errors import UsageError

def arrays():
    return {"x_train": [[float(i)] for i in range(20)], "y_train": np.arange(20)}

class Lazy:
    """Samples that are made when they are asked for."""
    shape, dtype = (20, 1), np.dtype(np.float32)
    def __len__(self):
        return 20
    def __getitem__(self, rows):
        if 13 in rows:
            raise RuntimeError("sample 13\\nis bad")
        return np.asarray(rows, np.float32)[:, None]

def lazy():
    return {"x_train": Lazy()}

class Own:
    """The protocol, without validation samples."""
    def __init__(self, columns):
        self.tables = data.Tables(data.Table("train", {"": columns}), data.Table("test", {"": np.ones((4, 1))}))
        self.train, self.test, self.fit = self.tables.train, self.tables.test, self.tables.fit

def own():
    return Own(np.arange(20.0)[:, None])

def leave():
    raise SystemExit(3)

def fail():
    raise ValueError("two\\nlines")

def ours():
    raise UsageError("name a year")

def nothing():
    pass

def wrong():
    return {"x": np.ones(3)}

def text():
    return {"x_train": ["a", "b"]}

number = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module in the current directory, a new one every time: modules are imported once."""
    name = f"somebodys_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return name


def values(name: str, reading: Reading | None = None) -> list[list[float]]:
    data = open_data(name, reading).fit({"x": Input((1,), FLOAT)}, {})
    parts = (data.train, data.val, data.test)
    return [
        sorted(v for b in in_order(p, 7) for v in b.inputs["x"].ravel().tolist())
        for p in parts
        if p is not None
    ]


def test_arrays_by_their_keys(module: str) -> None:
    train, test = values(f"{module}:arrays")
    assert sorted(train + test) == list(range(20))
    assert open_data(Path(f"{module}:arrays")).train.targets["y"].shape == ()


def test_an_object_with_the_protocol(module: str) -> None:
    train, test = values(f"{module}:own")
    assert (train, test) == (list(range(20)), [1.0] * 4)
    train, val, test = values(f"{module}:own", Reading(val_share=0.25))
    assert sorted(train + val) == list(range(20))
    assert len(val) == 5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fail", "failed with ValueError: two lines"),
        ("leave", "failed with SystemExit: 3"),
        ("nothing", "returned NoneType: return a dict of arrays"),
        ("wrong", "'x_train' is missing, the file holds x"),
        ("text", "x_train has dtype <U1: store numbers"),
        ("number", "has no function 'number'"),
        ("missing", "has no function 'missing'"),
        ("lazy", "failed with RuntimeError: sample 13 is bad"),
    ],
)
def test_what_fails_is_one_line_that_names_it(module: str, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        values(f"{module}:{function}")
    assert str(caught.value).startswith(f"'{module}:{function}'")
    assert "\n" not in str(caught.value)


def test_errors_of_ours_keep_their_kind(module: str) -> None:
    with pytest.raises(UsageError, match=f"'{module}:ours': name a year"):
        open_data(f"{module}:ours")


def test_modules_that_are_not_there_or_do_not_load(module: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="'no_such_module:f' failed with ModuleNotFoundError: No module named"
    ):
        open_data("no_such_module:f")
    (tmp_path / f"broken_{module}.py").write_text("def f(:\n")
    with pytest.raises(DataError, match=r"failed with SyntaxError: invalid syntax"):
        open_data(f"broken_{module}:f")


def test_a_file_of_that_name_comes_first(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}:arrays").write_text("hello")
    with pytest.raises(DataError, match="is no data that can be read"):
        open_data(f"{module}:arrays")
    with pytest.raises(StorageError, match="No such file"):
        open_data(f"{module}/data:arrays")


def test_what_is_imported_finds_the_current_directory_and_leaves_the_path(module: str) -> None:
    import sys

    before = list(sys.path)
    values(f"{module}:arrays")
    assert sys.path == before
