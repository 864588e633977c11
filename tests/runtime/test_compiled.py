"""Functions are compiled, kept where there is a place for it, and see the machine's memory."""

from __future__ import annotations

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
