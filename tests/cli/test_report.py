"""`report` as a user runs it: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_oto.model.files.lock import hold
from onnx_oto.pipeline.folder import LOCK


@pytest.fixture(scope="module")
def run(cli, model, data, tmp_path_factory) -> Path:
    """Return the folder of a short run."""
    folder = tmp_path_factory.mktemp("report") / "run"
    done = cli(
        "train",
        model,
        "--data",
        data,
        "--run",
        folder,
        "--epochs",
        2,
        "--batch",
        16,
        "--sparsity",
        0.4,
        "--skip-latency",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    return folder


def test_it_says_what_was_gained_and_where_it_is(cli, run, tmp_path):
    done = cli("report", run, "-o", tmp_path / "r.md")
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert "of the parameters" in first
    assert last == f"report: {tmp_path / 'r.md'}"
    assert (tmp_path / "r.md").read_text().startswith("# tiny.onnx")
    found = json.loads(cli("report", run, "--json", "-o", tmp_path / "r.html").stdout)
    assert found["kind"] == "run"
    assert found["written"] == str(tmp_path / "r.html")
    assert found["latency_ms"] is None


def test_half_a_run_names_the_way_on(cli, run, tmp_path):
    shutil.copytree(run, tmp_path / "half")
    for name in ("result.json", "compact.onnx", "trained.onnx"):
        (tmp_path / "half" / name).unlink()
    done = cli("report", tmp_path / "half", "-o", "-", "--format", "md")
    assert done.returncode == 0
    assert f"To go on: `onnx-oto resume {tmp_path / 'half'}`" in done.stdout


def test_a_run_that_somebody_writes_to_is_reported_elsewhere(cli, refused_alone, run, tmp_path):
    shutil.copytree(run, tmp_path / "busy")
    with hold(tmp_path / "busy" / LOCK):
        assert "another run is writing" in refused_alone(2, "report", tmp_path / "busy")
        assert cli("report", tmp_path / "busy", "-o", tmp_path / "r.html").returncode == 0
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_what_is_wrong_is_a_line_and_a_code(refused_alone, run, model, tmp_path):
    assert "holds no run" in refused_alone(2, "report", tmp_path)
    assert "is a folder" in refused_alone(2, "report", model, run)
    assert "choose one of html, md, json" in refused_alone(2, "report", run, "--format", "pdf")
    assert "reports are html, md, json" in refused_alone(2, "report", run, "-o", tmp_path / "r.pdf")
    refused_alone(8, "report", run, "-o", run / "metrics.jsonl" / "r.html")
    refused_alone(8, "inspect", model, "--graph", tmp_path / "nowhere" / "g.html", "--json")
    refused_alone(8, "report", model, tmp_path / "nothing.onnx")
    (tmp_path / "c.report.html").write_text("mine")
    shutil.copy(model, tmp_path / "c.onnx")
    assert "is no report" in refused_alone(
        2, "report", model, tmp_path / "c.onnx", "--skip-latency", "--skip-verify"
    )


def test_a_reader_that_leaves_is_no_error(run):
    command = [sys.executable, "-m", "onnx_oto", "report", str(run), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert (process.wait(), said) == (0, b"")


def test_inspect_draws_after_it_has_printed(cli, model, tmp_path):
    done = cli("inspect", model, "--graph", tmp_path / "g.svg")
    assert done.returncode == 0
    assert "prunable" in done.stdout
    assert done.stderr == f"graph: {tmp_path / 'g.svg'} (10 operators in 5 boxes)\n"
    without = {
        **os.environ,
        "PATH": "",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    (tmp_path / "pygraphviz.py").write_text("raise ImportError('none')")
    command = [sys.executable, "-m", "onnx_oto", "inspect", str(model), "--graph", str(tmp_path / "h.svg")]
    done = subprocess.run(command, capture_output=True, text=True, env=without, check=False)
    assert "prunable" in done.stdout
    assert done.returncode in (4, 7)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
