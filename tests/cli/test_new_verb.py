"""A verb is one file and one entry: its settings are options, its help stands in the list, its errors are lines."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onnx_oto.cli.commands import run
from onnx_oto.cli.ending import Trouble
from onnx_oto.cli.objects import print_json
from onnx_oto.cli.streams import RESULTS
from onnx_oto.cli.verb import Place, verb
from onnx_oto.cli.verbs import VERBS, VerbEntry
from onnx_oto.errors import DataError
from onnx_oto.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class WeighOptions(Settings):
    """What `weigh` is asked for."""

    unit: str = setting("g", "Unit of the result.", choices=lambda: ("g", "kg"))


@verb("weigh", WeighOptions, Place("model"))
def weigh_command(options: WeighOptions, *, as_json: bool, model: Path) -> None:
    """Say how heavy a file is."""
    if not model.exists():
        raise DataError(f"'{model}' is not there: give a file")
    print_json({"weight": len(model.read_bytes()), "unit": options.unit})


@pytest.fixture
def weigh(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Enter the verb, and return what results print."""
    module: Any = types.ModuleType("a_new_verb")
    module.weigh_command = weigh_command
    monkeypatch.setitem(sys.modules, "a_new_verb", module)
    monkeypatch.setitem(VERBS, "weigh", VerbEntry("a_new_verb", "weigh_command", runs=False))
    written: list[str] = []
    monkeypatch.setattr(RESULTS, "write", lambda text: written.append(text) or len(text))
    return written


def test_it_runs_with_its_settings(weigh: list[str], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"12345")
    assert run(["weigh", str(tmp_path / "m.onnx"), "--unit", "kg", "--json"]) == 0
    assert '"weight": 5' in "".join(weigh)
    assert '"unit": "kg"' in "".join(weigh)


def test_its_errors_are_lines_with_codes(weigh: list[str], tmp_path: Path) -> None:
    missing = run(["weigh", str(tmp_path / "none.onnx")])
    assert isinstance(missing, Trouble)
    assert (missing.code, missing.kind) == (DataError.exit_code, "DataError")
    wrong = run(["weigh", "m", "--unit", "lb"])
    assert isinstance(wrong, Trouble)
    assert "unit is 'lb': choose one of g, kg" in wrong.message
    assert run(["weight"]) != 0
