"""Run with `pytest tools/zoo_factory`: the feeds of open sizes, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_factory.open_case import VOCABULARY, Case, Input, draw, feeds


def no_module() -> Any:
    """Build nothing: feeds need no module."""
    raise AssertionError("not built")


def test_feeds_have_the_sizes_of_the_case_in_turn() -> None:
    inputs = (Input("x", ("batch", 3, "length")), Input("ids", ("length", "batch"), "ids"))
    case = Case(no_module, inputs, {"batch": (1, 3, 2), "length": (9, 5, 13)})
    arrays = feeds(case, np.random.default_rng(0))
    assert [arrays[f"{i}|x"].shape for i in range(3)] == [(1, 3, 9), (3, 3, 5), (2, 3, 13)]
    assert [arrays[f"{i}|ids"].shape for i in range(3)] == [(9, 1), (5, 3), (13, 2)]
    assert len(arrays) == 6


def test_every_kind_of_input_is_drawn_in_its_range() -> None:
    rng, sizes = np.random.default_rng(0), {"n": 40}
    ids = draw(Input("ids", ("n", "n"), "ids"), sizes, rng)
    assert (ids.dtype, ids.min(), ids.max()) == (np.int64, 0, VOCABULARY - 1)
    padding = draw(Input("padding", ("n", "n"), "padding"), sizes, rng)
    assert padding.dtype == bool
    assert not padding[:, :2].any()
    assert padding[:, 2:].any()
    mask = draw(Input("mask", ("n", "n"), "added"), sizes, rng)
    assert mask.dtype == np.float32
    assert 0.1 < (mask == -1.5).mean() < 0.5
    assert draw(Input("x", (4, "n")), sizes, rng).dtype == np.float32
