"""Run with `pytest tools/paper_six`: runs are done once, what was left goes on, and the table shows them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crops import write_labelled, write_pairs
from PIL import Image

from paper_six.form import Form
from paper_six.recipes import DENSE, SPARSE, arm
from paper_six.runs import LINES, Run, bicubic, do, rows
from paper_six.table import table

TOOLS = Path(__file__).resolve().parents[1]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call tools/paper."""
    paths = os.pathsep.join((str(TOOLS), str(TOOLS.parent), os.environ.get("PYTHONPATH", "")))
    return subprocess.run(
        [sys.executable, "-m", "paper_six", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )


def packed(path: Path, size: int, samples: int, **more: Any) -> Path:
    """A packed file of smooth images."""
    rng, blobs = np.random.default_rng(0), []
    for _ in range(samples):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(path, blob=np.concatenate(blobs), off=offsets, y=np.arange(samples) % 3, **more)
    return path


@pytest.mark.parametrize(
    ("how", "data", "shown"),
    [
        (["--small"], "", "| resnet20 | Fashion-MNIST | 0.5 | 2 |"),
        (["--recipe", "resnet20-fashion_mnist"], "fashion_mnist.npz", "fashion_mnist.npz | 1 | 2 |"),
    ],
)
def test_one_command_trains_both_ways_once_and_shows_them(
    how: list[str], data: str, shown: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (192, 28, 28), dtype=np.uint8), rng.integers(0, 10, 192)
    parts = {"train": slice(0, 128), "test": slice(128, 192)}
    arrays = {
        f"{name}_{split}": a[part]
        for split, part in parts.items()
        for name, a in (("x", images), ("y", labels))
    }
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    place = str(tmp_path / "runs")
    asked = ["resnet20", *how, "--data", str(tmp_path / data), "--folder", place, "--epochs", "2"]
    left = command(*asked, "--minutes", "0.0001")
    assert left.returncode == 0
    assert left.stderr.splitlines()[-1].endswith("left after 0.0001 minutes, the same command goes on")
    assert rows(tmp_path / "runs" / LINES) == []
    first = command(*asked, "--", "--shards", "1", "--skip-latency", "--batch", "32")
    assert first.returncode == 0, first.stderr
    found = rows(tmp_path / "runs" / LINES)
    assert [row["optimizer"] for row in found] == [DENSE, SPARSE]
    share = found[1]["sparsity"]
    assert share["achieved"] == pytest.approx(share["target"], abs=0.05)  # widths that kernels like
    assert found[1]["agree"]
    assert shown in first.stdout
    again = command(*asked)
    assert again.stdout == first.stdout
    assert "==" not in again.stderr  # nothing was started
    assert command("--folder", place).stdout == first.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_script_finds_its_package(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(TOOLS.parent)}
    done = subprocess.run(
        [str(TOOLS / "paper"), "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (0, f"no run is done in '{tmp_path}'\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["resnet18"], 2, "--data is missing"),
        (["resnet18", "--data", "x", "--recipe", "carn-div2k"], 2, "resnet18-cifar10, resnet18-cifar100"),
        (["resnet19", "--data", "x"], 2, "resnet19"),
        (["resnet18", "--data", "nowhere", "--small"], 8, "cifar10_jpegbytes.npz"),
        (["resnet18", "vgg16", "--model", "x.onnx"], 2, "name one network"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = command(*arguments, "--folder", str(tmp_path))
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr.splitlines()[-1]


def test_the_code_of_a_run_that_failed_is_handed_on(tmp_path: Path) -> None:
    done = command("resnet20", "--data", str(tmp_path / "none"), "--folder", str(tmp_path))
    assert done.returncode == 8
    assert "No such file" in done.stderr.splitlines()[-1]


def test_the_model_alone(tmp_path: Path) -> None:
    done = command("resnet20", "--small", "--model", str(tmp_path / "m.onnx"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.onnx").stat().st_size > 200_000


RESULT: dict[str, Any] = {
    "metric": {"name": "accuracy", "full": 0.81, "compact": 0.8},
    "sparsity": {"target": 0.5, "achieved": 0.498},
    "lanes": {"prunable": 100, "removed": 50},
    "params": {"before": 1000, "after": 250},
    "macs": {"before": 100, "after": 30},
    "seconds": 12.4,
}


def line_of(optimizer: str, **more: Any) -> dict[str, Any]:
    """A line of results.jsonl."""
    own = {"network": "n", "data": "d", "width": 0.25, "optimizer": optimizer, "seed": 0, "epochs": 2}
    return {**own, "known": 0.9, "largest_difference": 1e-6, "agree": True, **RESULT, **more}


def test_the_table_puts_both_side_by_side() -> None:
    line = table([line_of(SPARSE), line_of(DENSE)]).splitlines()[-1]
    assert line == (
        "| n | d | 0.25 | 2 | 0.8100 | 90% of 0.900 | 0.8100 | 0.8000 | 50 of 100, 49.8% (50.0%) | 1,000 | 25.0% "
        "| 30.0% | 1.0e-06 | 12 / 12 |"
    )
    assert "DIFFERS" in table([line_of(SPARSE, agree=False)])
    psnr = {"name": "psnr", "full": 30.0, "compact": 30.0}
    assert "+0.50 dB of bicubic 29.50" in table([line_of(DENSE, metric=psnr, bicubic=29.5)])


def test_a_line_that_a_kill_cut_off_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run("resnet20", "resnet20-cifar10", Form(3, 32, 10), tmp_path / "d.npz", {"epochs": 1}, DENSE)
    place = tmp_path / run.name
    place.mkdir()
    content = {**RESULT, "round_to": 8, "verify": {"max_abs": 0.0, "passed": True}}
    (place / "result.json").write_text(json.dumps(content))
    (tmp_path / LINES).write_text(json.dumps({"run": run.name})[:-3] + "\n")
    row = do(run, tmp_path)
    assert row["metric"]["full"] == 0.81
    assert "not whole" in capsys.readouterr().err
    assert [r["run"] for r in rows(tmp_path / LINES)] == [run.name]


def test_dense_runs_have_no_share_and_no_plan() -> None:
    content = {"sparsity": 0.5, "plan-observe": 0.1, "plan-shrink": 0.1, "lr": 0.1}
    assert arm(content, DENSE) == {"lr": 0.1, "optimizer": DENSE}
    assert arm(content, SPARSE) == {**content, "optimizer": SPARSE}


def test_labelled_images_are_unpacked_as_the_file_says(tmp_path: Path) -> None:
    file = packed(tmp_path / "p.npz", 8, 10, is_test=np.arange(10) >= 7)
    assert write_labelled(file, tmp_path / "out.npz") == (7, 3)
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["x_train"].shape == (7, 8, 8, 3)
        assert arrays["y_test"].tolist() == [1, 2, 0]


def test_pairs_are_unpacked_and_bicubic_scaling_is_measured_on_them(tmp_path: Path) -> None:
    file = packed(tmp_path / "p.npz", 64, 10)
    assert write_pairs(file, tmp_path / "pairs", patch=12) == (9, 1)
    for split, large in (("train", 64), ("test", 24)):
        for kind, size in (("HR", large), ("LR", large // 2)):
            found = list((tmp_path / "pairs" / split / kind).glob("*.png"))
            assert {Image.open(path).size for path in found} == {(size, size)}
    places = [tmp_path / "pairs" / "test" / kind for kind in ("LR", "HR")]
    assert 30 < bicubic(*places) < 60  # smooth images
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in places[0].glob("*.png"):
        Image.new("RGB", (12, 12)).save(flat / path.name)
    assert bicubic(flat, places[1]) < 20
