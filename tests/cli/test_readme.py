"""README.md names every command, what it links to is there, and what it shows runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from onnx_oto.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/settings.md")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_complete():
    section = TEXT.partition("## Commands")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `onnx-oto (\w+)", section, re.MULTILINE)) == sorted(VERBS)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert "docs/design.md" in links
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]
    assert missing == []


def parameters(command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command))


def test_options_in_examples_exist():
    known = {option for entry in VERBS.values() for p in parameters(entry.load()) for option in p.opts}
    for line in re.findall(r"^onnx-oto .*", TEXT, re.MULTILINE):
        used = set(re.findall(r"(?<=\s)--?[a-z-]+", line.partition("#")[0]))
        assert used <= known


def snippets(text: str) -> Iterator[list[str]]:
    """Yield what a page tells to run, as commands: lines of ours in a block without a language, blocks of Python."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "python":
            yield ["-c", block]
        elif not language:
            lines = [line for line in block.splitlines() if line.startswith("onnx-oto ")]
            yield from (["-m", "onnx_oto", *shlex.split(line, comments=True)[1:]] for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shown_runs(page: str, model: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "model.onnx")
    shutil.copy(data, tmp_path / "data.npz")
    found = list(snippets((ROOT / page).read_text(encoding="utf-8")))
    assert {command[0] for command in found} == {"-m", "-c"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    for command in found:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_file_that_is_shown_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "my.toml").write_text(block)
    for verb in ("train", "prune"):
        context = click.Context(VERBS[verb].load())
        (config,) = (each for each in parameters(context.command) if each.name == "config")
        config.process_value(context, str(tmp_path / "my.toml"))
        assert context.default_map is not None
        assert context.default_map["model"] == tmp_path / "model.onnx"
