"""Usage, divergence, runtimes that are missing or doubled, disks, and signals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from onnx_oto.training import load_checkpoint

TINY_RUN = ["--epochs", 2, "--batch", 16]


# --- usage: exit 2 --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "1.5"], "give a number from 0"),
        (["--sparsity", "nan"], "give a number from 0"),
        (["--keep", "w9*"], "--keep 'w9*' matches no parameter"),
        (["--round-to", "0"], "round-to is 0: give at least 1"),
        (["--save-zeroed", "OUTPUT"], "would overwrite"),
    ],
)
def test_usage_of_prune(refused_alone, model, tmp_path, options, message):
    output = tmp_path / "out.onnx"
    options = [str(output) if option == "OUTPUT" else option for option in options]
    assert message in refused_alone(2, "prune", model, "-o", output, *options)
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs is 0"),
        (["--sparsity", "-0.1"], "sparsity is -0.1: give a number from 0"),
        (["--lr", "0"], "lr is 0.0: give a positive number"),
        (["--warm-up", "2"], "warm-up is 2.0"),
        (
            ["--direction", "adam", "--momentum", "0.5"],
            "--momentum is an option of sgd, not of dhspg or adam",
        ),
        (["--optimizer", "dense", "--plan-shrink", "0.5"], "--plan-shrink is an option of dhspg"),
        (["--no-nesterov", "--beta1", "0.5"], "--beta1 is an option of adam, adamw"),
        (["--plan-observe", "0.9"], "are shares of the run"),
        (["--saliency", "luck"], "saliency is 'luck': choose one of"),
        (["--freeze", "layer9"], "--freeze 'layer9' matches no parameter that trains"),
        (["--clip-norm", "0"], "clip-norm is 0.0: give a positive number"),
        (["--accumulate", "0"], "accumulate is 0: give at least 1"),
        (["--skip-bad-steps", "-1"], "skip-bad-steps is -1: it cannot be negative"),
        (["--model-output", "loggits"], "the model has no output 'loggits': choose one of logits"),
        (["--min-keep", "0.9", "--sparsity", "0.5"], "sparsity 0.5 asks for 10 of 20 groups, min-keep 0.9"),
    ],
)
def test_usage_of_train(refused_alone, model, data, tmp_path, options, message):
    line = refused_alone(2, "train", model, "--data", data, "--run", tmp_path / "run", *options)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_the_input_is_never_overwritten(refused_alone, model):
    before = model.read_bytes()
    assert "would overwrite the input model" in refused_alone(2, "prune", model, "-o", model)
    assert model.read_bytes() == before


def test_unknown_options_and_commands(cli, model):
    for arguments in (["prune", model], ["prune", model, "-o", "x", "--by", "taste"], ["polish", model]):
        done = cli(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert re.search(r"[^.][.?] Usage:", done.stderr)


# --- divergence: exit 6 ---------------------------------------------------------------------------------------------
def test_divergence_is_noticed_within_one_step(refused_alone, model, data, tmp_path):
    line = refused_alone(
        6, "train", model, "--data", data, "--run", tmp_path, *TINY_RUN, "--lr", "1e30", "--warm-up", "0"
    )
    assert "training diverged: in step 2 " in line
    assert "Lower the learning rate (it is " in line
    kept = load_checkpoint(tmp_path / "last-good.npz")
    assert np.isfinite(kept.params).all()
    assert np.abs(kept.params).max() < 100
    assert "last-good.npz" in line
    assert not (tmp_path / "compact.onnx").exists()


# --- environment: exit 7 --------------------------------------------------------------------------------------------
def fake_distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    (folder / "onnxruntime").mkdir()
    (folder / "onnxruntime/__init__.py").write_text("raise ImportError('nobody should ask')\n")


def test_two_runtimes(refused_alone, cli, model, data, tmp_path):
    own = {(each.metadata["Name"] or "").lower() for each in metadata.distributions()}
    fake_distribution(tmp_path, "onnxruntime-gpu" if "onnxruntime" in own else "onnxruntime", "1.30.0")
    line = refused_alone(7, "train", model, "--data", data, "--run", tmp_path / "run", path=tmp_path)
    assert "2 distributions own the package 'onnxruntime'" in line
    assert "pip uninstall -y" in line
    assert re.search(r"pip install 'onnx-oto\[(cpu|runtime)\]'", line)
    assert "2 distributions" in refused_alone(7, "demo", "--run", tmp_path / "run", path=tmp_path)
    assert not (tmp_path / "run").exists()
    assert cli("inspect", model, path=tmp_path).returncode == 0


HIDE = """
import importlib.metadata as metadata, sys

def without_runtime(every=metadata.distributions):
    return [d for d in every() if not (d.metadata["Name"] or "").lower().startswith("onnxruntime")]

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

metadata.distributions = without_runtime
sys.meta_path.insert(0, Missing())
"""


def test_no_runtime(refused_alone, cli, model, data, tmp_path):
    """Training names the command; what needs no training still works."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    line = refused_alone(7, "train", model, "--data", data, "--run", tmp_path / "run", path=tmp_path)
    assert re.search(r"no ONNX Runtime is installed: run `pip install 'onnx-oto\[(cpu|runtime)\]'`", line)
    done = cli("prune", model, "-o", tmp_path / "out.onnx", "--json", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verify"]["passed"] is True


# --- files: exit 8 --------------------------------------------------------------------------------------------------
def test_output_that_cannot_be_written(refused_alone, model, data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    inside = tmp_path / "file" / "out"
    assert "cannot write" in refused_alone(8, "prune", model, "-o", inside)
    assert "cannot write to the folder" in refused_alone(
        8, "train", model, "--data", data, "--run", inside, *TINY_RUN
    )
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_as_output(refused_alone, model, tmp_path):
    assert "is not a regular file" in refused_alone(8, "prune", model, "-o", tmp_path)


# --- signals: exit 129, 130 and 143 ---------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_between_two_steps(model, data, tmp_path, number):
    command = [
        sys.executable, "-m", "onnx_oto", "train", str(model), "--data", str(data), "--run", str(tmp_path),
        "--epochs", "100000", "--batch", "16", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_steps(tmp_path / "metrics.jsonl", process)
        process.send_signal(number)
        out, err = process.communicate(timeout=900)
    assert process.returncode == 128 + number
    assert json.loads(out)["error"]["code"] == 128 + number
    assert "Traceback" not in err
    assert "interrupted: everything up to here is in" in err
    kept = load_checkpoint(tmp_path / "checkpoint.npz")
    assert kept.progress.step > 0
    assert kept.run["settings"]["epochs"] == 100000
    assert not (tmp_path / "trained.onnx").exists()


def wait_for_steps(metrics: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 900
    while not (metrics.exists() and metrics.stat().st_size > 500):
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < end, "no step was taken"
        time.sleep(0.05)
