"""Data that do not fit: exit 5 with a line that names the array or the sample, and no folder of a run left behind."""

from __future__ import annotations

import numpy as np
import pytest


def bad_label(label: int) -> np.ndarray:
    y = np.arange(96) % 3
    y[17] = label
    return y


def bad_pixel() -> np.ndarray:
    x = np.zeros((96, 8, 8), np.float32)
    x[5, 1, 1] = np.nan
    return x


CASES = {
    "a label too large": ({"y_train": bad_label(3)}, "y_train[17] is 3: labels are 0 to 2"),
    "a negative label": ({"y_train": bad_label(-1)}, "y_train[17] is -1"),
    "not a number": (
        {"x_train": bad_pixel(), "x_test": np.zeros((48, 8, 8), np.float32)},
        "x_train[5] holds nan",
    ),
    "another size": (
        {"x_train": np.zeros((96, 9, 9), np.uint8), "x_test": np.zeros((48, 9, 9), np.uint8)},
        "samples have shape [9, 9], the model reads [1, 8, 8]",
    ),
    "fractions as labels": (
        {"y_train": np.zeros(96), "y_test": np.zeros(48)},
        "class labels are integers 0 to 2",
    ),
    "text": ({"x_train": np.full((96, 8), "a")}, "x_train has dtype <U1"),
    "no samples": (
        {"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.zeros(0, np.int64)},
        "the first axis counts the samples, at least one",
    ),
    "fewer labels": ({"y_train": np.zeros(95, np.int64)}, "y_train has 95: they must agree"),
    "a missing array": ({"y_test": None}, "'y_test' is missing"),
    "weights below 0": ({"w_train": np.full(96, -1.0)}, "w_train[0] is -1: it has to be at least 0"),
    "weights of 0": ({"w_train": np.zeros(96)}, "w_train: every sample counts for nothing"),
    "fewer weights": ({"w_train": np.ones(95)}, "w_train has 95: they must agree"),
    "weights of test samples": ({"w_test": np.ones(48)}, "unknown array 'w_test'"),
    "another name": ({"pictures": np.zeros(3)}, "unknown array 'pictures'"),
    "an input that the model has not": (
        {
            "x_train": None, "x_test": None,
            "x_train__photo": np.zeros((96, 8, 8), np.uint8), "x_test__photo": np.zeros((48, 8, 8), np.uint8),
        },
        "'x_train__image' is missing: the model reads image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_data_that_do_not_fit(case, refused, model, data_arrays, tmp_path):
    changes, message = CASES[case]
    np.savez(tmp_path / "data.npz", **data_arrays(**changes))
    line = refused(5, "train", model, "--data", tmp_path / "data.npz", "--run", tmp_path / "run", "--json")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_npz(refused_alone, model, tmp_path):
    (tmp_path / "data.npz").write_bytes(b"")
    line = refused_alone(5, "train", model, "--data", tmp_path / "data.npz", "--run", tmp_path / "run")
    assert "is no npz file, or a truncated one" in line


def test_no_such_data(refused_alone, model, tmp_path):
    line = refused_alone(8, "train", model, "--data", tmp_path / "no.npz", "--run", tmp_path / "run")
    assert "no.npz" in line


def test_inputs_of_verify(refused, model, tmp_path):
    np.savez(tmp_path / "inputs.npz", picture=np.ones((5, 1, 8, 8), np.float32))
    assert "lacks input 'image'" in refused(5, "verify", model, model, "--inputs", tmp_path / "inputs.npz")
    np.savez(tmp_path / "inputs.npz", image=np.ones((5, 1, 7), np.float32))
    assert "image" in refused(5, "verify", model, model, "--inputs", tmp_path / "inputs.npz")
    (tmp_path / "inputs.npz").write_bytes(b"PK nonsense")
    assert "inputs.npz" in refused(5, "verify", model, model, "--inputs", tmp_path / "inputs.npz")
