"""The generated pages are up to date, and what pages link to and name is there."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["operators.md", "losses.md", "cli.md"])
def test_generated_page_is_fresh(page: str) -> None:
    made = _maker().PAGES[page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "run tools/make_docs.py"


def test_every_rule_has_a_docstring() -> None:
    from onnx_oto.ops import RULES

    assert [op for op, entries in RULES.items() for e in entries if not (e.rule.__doc__ or "").strip()] == []


PAGES = sorted(["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
"""What links to other files, by path below the root."""


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading.

    >>> _anchor("The terminal and `signals`")
    'the-terminal-and-signals'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists():
            missing.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            missing += [] if anchor in map(_anchor, headings) else [link]
    assert missing == []


def test_every_page_is_linked() -> None:
    links = {
        (ROOT / page).parent.joinpath(link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        if not link.startswith("https://")
    }
    unread = [page for page in PAGES if page != "README.md" and (ROOT / page).resolve() not in links]
    assert unread == []


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_named_are_there(page: str) -> None:
    """Modules by their path below the package, other files by theirs below the root; of a test its function too."""
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = []
    for path, function in re.findall(r"`([a-z_]+(?:/\w+)*/\w+\.py)(?:::(\w+))?`", text):
        place = next((base / path for base in (ROOT / "onnx_oto", ROOT) if (base / path).is_file()), None)
        if place is None:
            missing.append(path)
        elif function and f"def {function}(" not in place.read_text(encoding="utf-8"):
            missing.append(f"{path}::{function}")
    assert missing == []


def test_folders_that_design_names_are_there() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+(?:/[a-z_]*)+)`", text)
    assert "gradients/" in named
    assert [
        path for path in named if not any((base / path).exists() for base in (ROOT / "onnx_oto", ROOT))
    ] == []


def _strings() -> str:
    """Return every string of the package, a line each, with … in the place of what is filled in."""
    found = []
    for path in sorted((ROOT / "onnx_oto").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                found.append("".join(map(str, parts)))
    return "\n".join(" ".join(text.split()) for text in found)


def test_troubleshooting_tells_of_lines_that_the_program_has() -> None:
    """What stands between two … of a line is in the program, as one piece."""
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    lines = [line for _, line in re.findall(r"^- (`+)(.+?)\1(?=:|$)", page, re.MULTILINE)]
    assert len(lines) > 40
    source = _strings()
    assert [line for line in lines if any(part.strip() not in source for part in line.split("…"))] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """Or `tools/docs`, to which a page that nothing leads to is an error, does not build."""
    listed = re.findall(
        r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(listed) == len(set(listed))
    outside = {"samples/README.md", "CHANGELOG.md"}
    assert {page.removeprefix("docs/") for page in PAGES} - {"README.md"} == set(listed) - outside


def _commands(page: str) -> list[str]:
    """Return the lines of a page's blocks that are commands of a shell."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.partition(" #")[0] for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_shown_have_their_verbs_options_and_files(page: str) -> None:
    """Those that tests/cli/test_readme.py does not run too: they take long, or need another environment."""
    from onnx_oto.cli.verbs import VERBS

    wrong = []
    for line in _commands(page):
        words = line.split()
        if words[:1] == ["onnx-oto"] and page != "docs/cli.md":
            if words[1] not in VERBS and not words[1].startswith("-"):
                wrong.append(line)
                continue
            entry = VERBS.get(words[1])
            command = entry.load() if entry else None
            params = command.get_params(click.Context(command)) if command else []
            known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
            given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
            wrong += [line] if entry and not given <= known else []
        for word in words[:3]:
            named = re.fullmatch(r"(?:\./)?(tools/[\w/.]+)", word)
            wrong += [line] if named and not (ROOT / named[1]).exists() else []
    assert wrong == []
