"""The generated pages are up to date, and every command is documented."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

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
