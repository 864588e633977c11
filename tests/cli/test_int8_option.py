"""`--int8` on the command line: what is printed, and what ends with one line and the float model kept."""

from __future__ import annotations

import json

import numpy as np

FLAGS = ("--sparsity", "0.3", "--int8", "--int8-samples", "16", "--skip-latency")


def test_figures_are_printed_and_the_file_is_one_for_verify_and_bench(cli, model, data, tmp_path):
    small = tmp_path / "small.onnx"
    done = cli("prune", model, "-o", small, "--data", data, *FLAGS, "--int8-drop", "100")
    assert done.returncode == 0, done.stderr
    assert "float and int8: " in done.stdout
    assert f"int8 model: {tmp_path / 'small.int8.onnx'}" in done.stdout.replace("\n", "")
    assert "int8, all layers quantized: " in done.stderr
    seen = cli("bench", tmp_path / "small.int8.onnx", "--seconds", "0.2", "--json")
    assert json.loads(seen.stdout)["latency_ms"]["median"] > 0
    again = tmp_path / "again.onnx"
    cut = cli(
        "prune",
        tmp_path / "small.int8.onnx",
        "-o",
        again,
        "--save-zeroed",
        tmp_path / "zeroed.onnx",
        "--json",
    )
    assert json.loads(cut.stdout)["verify"]["max_abs"] == 0
    same = cli("verify", tmp_path / "zeroed.onnx", again, "--json")
    assert json.loads(same.stdout)["passed"] is True


def test_an_int8_model_that_loses_too_much_leaves_the_float_one(refused, cli, model, data_arrays, tmp_path):
    arrays = {name: value for name, value in data_arrays().items() if name.startswith("x")}
    arrays["x_test"] = (200.0 * np.asarray(arrays["x_test"], np.float32)).astype(np.float32)
    arrays["x_train"] = np.asarray(arrays["x_train"], np.float32)
    np.savez(tmp_path / "wild.npz", **arrays)
    line = refused(
        4,
        "prune",
        model,
        "-o",
        tmp_path / "small.onnx",
        "--data",
        tmp_path / "wild.npz",
        *FLAGS,
        "--int8-drop",
        "3",
    )
    assert "3 are allowed" in line
    assert "the float model is kept" in line
    assert (tmp_path / "small.onnx").exists()
    assert not (tmp_path / "small.int8.onnx").exists()
