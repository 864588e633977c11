"""--quiet and --dry-run, as a user calls them; and what completion asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from onnx_oto.cli.commands import run
from onnx_oto.cli.ending import Trouble


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet_leaves_results_and_nothing_else(cli, model, tmp_path, flag):
    done = cli("prune", model, "-o", tmp_path / "c.onnx", flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("plan: ")
    assert "compact model: " in done.stdout


def test_quiet_training_says_nothing_but_the_result(cli, model, data, tmp_path):
    train = ["train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16]
    done = cli(*train, "--quiet", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["schema"] == 1


def test_errors_are_told_all_the_same(refused, model, tmp_path):
    assert "--sparsity" in refused(2, "prune", model, "-o", tmp_path / "c.onnx", "--quiet", "--sparsty", 1)
    assert "cannot read" in refused(8, "inspect", tmp_path / "none.onnx", "--quiet", "--json")


def test_a_dry_run_prints_a_plan_and_an_estimate(cli, model, data, tmp_path):
    train = ["train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16]
    done = cli(*train, "--dry-run", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("plan: ")
    assert "estimated time: about " in done.stdout
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_a_cut_is_an_object_too(cli, model, tmp_path):
    done = cli("prune", model, "-o", tmp_path / "c.onnx", "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["dry_run"], told["schema"]) == (0, True, 1)
    assert set(told["widths"]) == {"w2", "w3"}
    assert not (tmp_path / "c.onnx").exists()
    lines = cli("prune", model, "-o", tmp_path / "c.onnx", "--dry-run").stdout.splitlines()
    assert lines[0].startswith("plan: ")
    assert any(line.split()[:1] == ["w3"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--learning-rate", "1"], "Did you mean '--lr'?"),
        (["train", "--batch-size", "8"], "Did you mean '--batch'?"),
        (["prune", "--ratio", "0.5"], "Did you mean '--sparsity'?"),
        (["verify", "--ratio", "0.5"], "No such option '--ratio'. Usage"),
        (["prune", "--sparsity", "50"], "give a number from 0 to below 1 (50% is 0.5)"),
        (["prune", "--macs", "50%"], "(50% is 0.5)"),
        (["--json", "inspect", "m.onnx"], "'--json' stands in front of the command: write it behind"),
        (["--jason"], "No such option '--jason'"),
        (["quantise"], "there are bench, compact, demo, doctor, "),
    ],
)
def test_what_was_meant_is_told(arguments, said):
    found = run(arguments)
    assert isinstance(found, Trouble)
    assert found.code == 2
    assert said in found.message


def test_a_file_that_was_meant_is_told(refused, model, data, tmp_path):
    wrong = model.with_name("tyny.onnx")
    assert f"did you mean '{model}'?" in refused(8, "inspect", wrong)
    assert "did you mean" not in refused(8, "inspect", model.with_name("quite-another"))
    line = refused(8, "train", model, "--data", data.with_name("spot.npz"), "--run", tmp_path / "run")
    assert f"did you mean '{data}'?" in line


def test_a_file_is_no_folder_of_a_run(refused, model, data):
    line = refused(8, "train", model, "--data", data, "--run", model)
    assert f"'{model}' is a file: give another folder" in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell):
    env = {**os.environ, "_ONNX_OTO_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-m", "onnx_oto"], env=env, capture_output=True, text=True, check=True
    )
    assert "onnx_oto_complet" in done.stdout
