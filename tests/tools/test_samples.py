"""Every sample is in the table, its README can be followed, and those without a framework are run as they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_samples", ROOT / "tools" / "run_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLES = _load()
ALONE = [
    name for name in SAMPLES.names() if all(block.place != "framework" for block in SAMPLES.blocks(name))
]

needs_bash = pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="needs bash")


def test_the_table_lists_every_sample() -> None:
    table = (ROOT / "samples" / "README.md").read_text(encoding="utf-8").partition("## Files")[0]
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1/README.md\)", table, re.MULTILINE)) == SAMPLES.names()


@pytest.mark.parametrize("name", SAMPLES.names())
def test_a_sample_ends_in_a_stock_runtime_and_links_lead_somewhere(name: str) -> None:
    blocks = list(SAMPLES.blocks(name))
    assert blocks[-1].place == "stock"
    for block in blocks:
        for script in re.findall(r"python (\S+\.py)", block.script):
            assert (ROOT / "samples" / name / script).is_file()
    text = (ROOT / "samples" / name / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "samples" / name / link).exists(), link


def test_a_block_that_names_no_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "README.md").write_text("```sh\ntrue\n```\n")
    monkeypatch.setattr(SAMPLES, "SAMPLES", tmp_path)
    with pytest.raises(SAMPLES.SampleError, match="none of framework, onnx-oto, stock"):
        list(SAMPLES.blocks("odd"))


@needs_bash
def test_a_command_that_fails_ends_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "README.md").write_text("```sh stock\nfalse\ntouch later\n```\n")
    monkeypatch.setattr(SAMPLES, "SAMPLES", tmp_path)
    with pytest.raises(SAMPLES.SampleError, match="exit code 1 in the block for stock"):
        SAMPLES.run("bad", tmp_path / "work", {"stock": dict(os.environ)})
    assert not (tmp_path / "work" / "later").exists()


@needs_bash
@pytest.mark.parametrize("name", ALONE)
def test_a_sample_without_a_framework_runs(name: str, tmp_path: Path) -> None:
    """In this environment, whose ONNX Runtime stands for the stock one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program, words in (("python", ""), ("onnx-oto", "-m onnx_oto")):
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / program).chmod(0o755)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    here = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")]),
        "PYTHONPATH": path,
    }
    SAMPLES.run(name, tmp_path / "work", dict.fromkeys(SAMPLES.PLACES, here), installs=False)
