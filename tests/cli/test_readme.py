"""README.md names every command, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import click

from onnx_oto.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
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
