"""Libraries that only some kinds of data need: without one a line says what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kinds import csv, svhn, table, text

from onnx_oto.data import open_data
from onnx_oto.data.extras import EXTRAS, extra
from onnx_oto.errors import RuntimeMissingError


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what hides a package, as if it were not installed."""

    class Hidden:
        def __init__(self, package: str) -> None:
            self.package = package

        def find_spec(
            self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
        ) -> None:
            if name.partition(".")[0] == self.package:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    def hidden(package: str) -> None:
        for name in [each for each in sys.modules if each.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Hidden(package), *sys.meta_path])

    return hidden


@pytest.mark.parametrize(
    ("make", "package", "message"),
    [
        (
            svhn,
            "scipy",
            r"scipy is needed to read '.*train_32x32\.mat', and is not installed: run `pip install 'onnx-oto\[mat\]'`",
        ),
        (
            table,
            "pyarrow",
            r"pyarrow is needed to read '.*parquet', .*: run `pip install 'onnx-oto\[tables\]'`",
        ),
        (
            csv,
            "pyarrow",
            r"pyarrow is needed to read '.*d\.csv', and is not installed: run `pip install 'onnx-oto\[tables\]'`",
        ),
        (
            table,
            "PIL",
            r"Pillow is needed to decode '.*parquet', column 'image', row 0.*'onnx-oto\[images\]'`",
        ),
        (text, "tokenizers", r"tokenizers is needed to read '.*tokenizer\.json', .*'onnx-oto\[tokens\]'`"),
    ],
)
def test_without_a_library(
    tmp_path: Path, hide: Callable[[str], None], make: Any, package: str, message: str
) -> None:
    written = make(tmp_path)
    hide(package)
    with pytest.raises(RuntimeMissingError, match=message) as caught:
        open_data(written.path, written.reading)
    assert caught.value.exit_code == 7


def test_every_extra_is_declared() -> None:
    import re

    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for distribution, ours in EXTRAS.values():
        assert re.search(rf'^{ours} = \["{distribution.lower()}>=', declared, re.MULTILINE)
        assert re.search(rf'^data = \["onnx-oto\[.*\b{ours}\b', declared, re.MULTILINE)


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tokenizers.py").write_text("import no_such_part_of_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [each for each in sys.modules if each.partition(".")[0] == "tokenizers"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        RuntimeMissingError, match=r"tokenizers does not load \(No module named 'no_such_part_of_it'\)"
    ):
        extra("tokenizers", "to read 'a'")
