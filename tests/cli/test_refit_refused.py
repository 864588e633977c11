"""`prune --data` on the command line: what is refused, with exit code and one line; and what a user sees else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path: Path, data_arrays, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with data sets, good and bad, to work in."""
    monkeypatch.chdir(tmp_path)
    np.savez("good.npz", **data_arrays())
    np.savez("wrong.npz", **data_arrays(x_train=np.zeros((9, 8, 7), np.uint8), y_train=np.zeros(9, int)))
    np.savez("none.npz", **data_arrays(x_train=np.zeros((0, 8, 8), np.uint8), y_train=np.zeros(0, int)))
    nans = np.ones((9, 8, 8), np.float32)
    nans[4, 3, 3] = np.nan
    np.savez(
        "nan.npz",
        **data_arrays(x_train=nans, y_train=np.zeros(9, int), x_test=nans[:3], y_test=np.zeros(3, int)),
    )
    Path("text.npz").write_text("hello")
    return tmp_path


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["--by", "activations"], "by activations needs data to see any: give --data too"),
        (2, ["--skip-refit"], "skip-refit is for data: give --data too"),
        (2, ["--data", "good.npz", "--refit-samples", "1"], "refit-samples is 1: give at least 2"),
        (2, ["--data", "good.npz", "--samples", "0"], "samples is 0: give at least 1"),
        (2, ["--data", "good.npz", "--loss", "distill"], "the loss distill needs a teacher"),
        (2, ["--data", "good.npz", "--model-output", "nowhere"], "nowhere"),
        (2, ["--data", "good.npz", "--by", "taylor"], "'taylor'"),
        (8, ["--data", "nowhere.npz"], "cannot read 'nowhere.npz': No such file or directory"),
        (5, ["--data", "wrong.npz"], "x_train"),
        (5, ["--data", "none.npz"], "x_train"),
        (5, ["--data", "nan.npz"], "x_train[4] holds nan: every number must be finite"),
        (5, ["--data", "text.npz"], "text.npz"),
        (2, ["--data", "good.npz", "--save-zeroed", "good.npz"], "good.npz"),
        (2, ["--data", "good.npz", "--kept", "good.npz"], "good.npz"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_what_is_refused(refused, model, folder, code, arguments, message):
    before = sorted(path.name for path in folder.iterdir())
    assert message in refused(code, "prune", model, "-o", "out.onnx", *arguments)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_result_never_takes_the_place_of_the_data(refused, model, folder):
    assert "good.npz" in refused(2, "prune", model, "-o", "good.npz", "--data", "good.npz")


def test_the_curve_has_no_activations(refused, model, folder):
    line = refused(2, "inspect", model, "--curve", "--data", "good.npz", "--by", "activations")
    assert "by activations is for `prune --data`" in line


def test_original_cut_and_refitted_stand_in_one_table(cli, model, folder):
    done = cli("prune", model, "-o", "out.onnx", "--data", "good.npz", "--sparsity", "0.4", "--skip-latency")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("on 48 test samples"))
    assert lines[begin].split()[-2:] == ["loss", "accuracy"]
    assert [line.split()[0] for line in lines[begin + 1 : begin + 4]] == ["original", "cut", "refitted"]
    assert "layers were fitted anew" in lines[begin + 4]


def test_the_same_in_json(cli, model, folder):
    done = cli(
        "prune",
        model,
        "-o",
        "out.onnx",
        "--data",
        "good.npz",
        "--sparsity",
        "0.4",
        "--skip-latency",
        "--json",
    )
    found = json.loads(done.stdout)["judged"]
    assert set(found) == {"original", "cut", "refitted", "layers", "error_left"}
    for name in ("original", "cut", "refitted"):
        assert found[name]["samples"] == 48
        assert found[name]["metric"]["name"] == "accuracy"
    assert 0 <= found["error_left"] <= 1


def test_the_same_bytes_for_the_same_seed(cli, model, folder):
    for name in ("one.onnx", "two.onnx"):
        arguments = ["-o", name, "--data", "good.npz", "--sparsity", "0.4", "--skip-latency", "--seed", "3"]
        assert cli("prune", model, *arguments).returncode == 0
    assert (folder / "one.onnx").read_bytes() == (folder / "two.onnx").read_bytes()
