"""Functions are compiled, kept where there is a place for it, and see the machine's memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import carray

from onnx_oto.runtime import compiled


def test_words_and_memory() -> None:
    @compiled.native()
    def work(address: int) -> int:
        compiled.store(address + 8, 7)
        place = compiled.allocate(64)
        carray(compiled.pointer(place), (8,), np.int64)[3] = 5
        found = carray(compiled.pointer(place), (8,), np.int64)[3]
        compiled.call(compiled.address_of_free(), place)
        compiled.give_way()
        return compiled.load(address) + found

    words = np.array([30, 0], np.int64)
    assert work(words.ctypes.data) == 35
    assert words.tolist() == [30, 7]


@pytest.mark.parametrize("callback", [True, False])
def test_without_a_place_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch, callback: bool) -> None:
    asked = []

    def refusing(real: Any) -> Any:
        def make(*arguments: Any, **options: Any) -> Any:
            asked.append(options.get("cache", False))
            if options.get("cache"):
                raise RuntimeError("cannot cache function: no locator available")
            return real(*arguments, **options)

        return make

    for name in ("njit", "cfunc"):
        monkeypatch.setattr(compiled, name, refusing(getattr(compiled, name)))

    @compiled.native("int64(int64)", callback=callback)
    def twice(number: int) -> int:
        return 2 * number

    assert (twice.ctypes if callback else twice)(4) == 8
    assert asked == [True, False]


def test_what_is_kept_belongs_to_all_sources_it_may_be_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba looks at the file of a function alone; one that is compiled into it may lie in another."""
    for name in ("compiled.py", "tiles.py"):
        (tmp_path / name).write_text("before = 1\n")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    monkeypatch.setattr(compiled.config, "CACHE_DIR", "")

    def place() -> str:
        compiled._digest.cache_clear()
        with compiled._kept_by_source(tmp_path / "compiled.py"):
            return str(compiled.config.CACHE_DIR)

    before = place()
    assert Path(before).parent == tmp_path / "__pycache__"
    assert place() == before
    (tmp_path / "tiles.py").write_text("after = 1\n")
    assert place() != before
    assert compiled.config.CACHE_DIR == ""
    compiled._digest.cache_clear()
