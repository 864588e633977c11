"""Kinds of data on the command line: exit codes and the one line that says what is wrong, and no folder left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def write(folder: Path) -> None:
    np.save(folder / "x.npy", np.zeros((20, 8, 8), np.uint8))
    np.savez(folder / "d.npz", x_train=np.zeros((20, 8, 8), np.uint8), y_train=np.zeros(20, int))
    (folder / "d.csv").write_text("a,b,kind\n1,2,x\n3,oops,y\n")
    (folder / "r.txt").write_text("good film\nbad film\n")
    (folder / "idx").mkdir()
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0\0\x05")
    (folder / "made.py").write_text("def load():\n    return open('/no/such/file')\n")
    (folder / "empty").mkdir()


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (5, ["x.npy", "--teacher", "none"], "'y_train' is missing: the loss needs a target"),
        (
            5,
            ["d.csv", "--label", "kind"],
            "d.csv', column 'b' holds text: if it is the label, --label b, or else name",
        ),
        (2, ["d.csv", "--label", "kind", "--column", "c"], "column is 'c': '"),
        (2, ["r.txt"], "r.txt' is text: name the file that makes numbers of it, --tokenizer tokenizer.json"),
        (
            8,
            ["r.txt", "--tokenizer", "nowhere.json"],
            "cannot read 'nowhere.json': No such file or directory",
        ),
        (5, ["idx"], "train-images-idx3-ubyte' is truncated: it ends within its head; copy it again"),
        (5, ["made:load"], "'made:load' failed with FileNotFoundError: [Errno 2] No such file or directory"),
        (5, ["empty"], "empty' is no data that can be read: give npz file with"),
        (8, ["nowhere"], "cannot read 'nowhere': No such file or directory"),
        (2, ["d.npz", "--resize", "8x6"], "resize is 8x6: it has no meaning for '"),
        (2, ["d.npz", "--val-share", "1"], "val-share is 1.0: give a number from 0 to below 1"),
        (2, ["d.npz", "--test-share", "0"], "test-share is 0.0: give a share above 0 and below 1"),
        (
            5,
            ["d.npz", "--test-share", "0.99"],
            "test-share is 0.99, and there are 20 samples: none would be left",
        ),
    ],
)
def test_what_is_refused(refused, model, tmp_path, monkeypatch, code, arguments, message):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in refused(code, "train", model, "--data", *arguments, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("package", "source", "extra"), [("pyarrow", "d.csv", "tables"), ("scipy", "a.mat", "mat")]
)
def test_a_library_that_is_not_there(refused_alone, model, tmp_path, monkeypatch, package, source, extra):
    write(tmp_path)
    (tmp_path / "a.mat").write_bytes(b"hello")
    stub = tmp_path / "stub"
    (stub / package).mkdir(parents=True)
    (stub / package / "__init__.py").write_text(f"raise ModuleNotFoundError('No module', name={package!r})\n")
    monkeypatch.chdir(tmp_path)
    line = refused_alone(7, "train", model, "--data", source, "--run", tmp_path / "run", path=stub)
    assert (
        f"{package} is needed to read '{source}', and is not installed: run `pip install 'onnx-oto[{extra}]'`"
        in line
    )
