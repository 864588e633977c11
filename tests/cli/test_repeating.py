"""run.toml in the folder of a run: the same command does the same again with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.demo import demo
from onnx_oto.pipeline.folder import SETTINGS
from onnx_oto.pipeline.options import DemoOptions
from tests.cli.warm import cold


@pytest.fixture
def project(model: Path, data: Path, tmp_path: Path) -> Path:
    """Return a folder with a model and data."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(model, folder / "tiny.onnx")
    shutil.copy(data, folder / "spots.npz")
    return folder


def test_a_run_is_repeated_from_its_settings_wherever_it_was_moved(cli, refused, project, tmp_path):
    options = [
        "--epochs",
        2,
        "--batch",
        16,
        "--direction",
        "adam",
        "--flip",
        "--sparsity",
        0.4,
        "--keep",
        "w4",
    ]
    first = project / "runs" / "first"
    done = cold("train", project / "tiny.onnx", "--data", project / "spots.npz", "--run", first, *options)
    assert done.returncode == 0, done.stderr
    text = (first / SETTINGS).read_text()
    for line in (
        "[train]", 'model = "../../tiny.onnx"', 'data = "../../spots.npz"', "lr = 0.001", "flip = true", 'keep = [',
    ):  # fmt: skip
        assert line in text
    assert "shards = 0" not in text
    assert "overwrite" not in text
    assert str(tmp_path) not in text
    moved = tmp_path / "moved"
    os.rename(project, moved)
    done = cli("train", "--config", moved / "runs" / "first" / SETTINGS, "--run", moved / "again")
    assert done.returncode == 0, done.stderr
    for name in ("compact.onnx", "trained.onnx"):
        assert (moved / "again" / name).read_bytes() == (moved / "runs" / "first" / name).read_bytes()
    again = (moved / "again" / SETTINGS).read_text()
    assert again.replace("../tiny", "../../tiny").replace("../spots", "../../spots") == text
    config = moved / "runs" / "first" / SETTINGS
    assert "give another folder, or --overwrite" in refused(
        2, "train", "--config", config, "--run", config.parent
    )
    assert "Missing option '--run'" in refused(2, "train", "--config", config)


def test_the_demo_writes_its_own(tmp_path, monkeypatch):
    """Whatever becomes of it: the settings lie there from the first step on."""
    monkeypatch.setattr("onnx_oto.pipeline.train.run_loop", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo(tmp_path, DemoOptions(epochs=3, seed=4, shards=2))
    assert "[demo]\nepochs = 3\nseed = 4\nshards = 2\n" in (tmp_path / SETTINGS).read_text()


def test_a_foreign_file_of_that_name_is_not_replaced(cli, refused, project):
    (project / "run").mkdir()
    (project / "run" / SETTINGS).write_text("[train]\nmodel = '../tiny.onnx'\ndata = '../spots.npz'\n")
    line = refused(2, "train", "--config", project / "run" / SETTINGS, "--run", project / "run")
    assert "run.toml' would be replaced, but no earlier run wrote it" in line


def test_nothing_is_left_of_a_run_that_did_not_begin(tmp_path, monkeypatch):
    def claimed(*_: object, **__: object) -> None:
        raise UsageError("stop here")

    monkeypatch.setattr("onnx_oto.pipeline.train.make_ready", claimed)
    with pytest.raises(UsageError, match="stop here"):
        demo(tmp_path / "run", DemoOptions(epochs=1))
    assert not (tmp_path / "run").exists(), "nothing is left of a run that did not begin"


def test_budgets_and_widths_are_repeated(cli, project):
    """With what `auto` found, byte for byte."""
    for number, options in enumerate(
        (["--macs", 0.5], ["--params", "0.9k", "--bytes", 0.9, "--round-to", 2])
    ):
        first, again = (project / f"{name}{number}" for name in ("first", "again"))
        command = [
            "train",
            project / "tiny.onnx",
            "--data",
            project / "spots.npz",
            "--epochs",
            1,
            "--batch",
            16,
        ]
        done = cli(*command, "--run", first, *options)
        assert done.returncode == 0, done.stderr
        done = cli("train", "--config", first / SETTINGS, "--run", again)
        assert done.returncode == 0, done.stderr
        for name in ("compact.onnx", "trained.onnx", SETTINGS):
            assert (first / name).read_bytes() == (again / name).read_bytes()
