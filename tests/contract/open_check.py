"""The contract on random models with open sizes, at several sizes of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_oto.model import normalise
from onnx_oto.runtime.runner import runner
from onnx_oto.surgery import compact
from onnx_oto.zigs import analyse, choose, score, zero_dropped

from .exactness import assert_equal
from .random_check import compare_in_double
from .random_open import feed, open_model

FIXED = {"B": 2, "H": 6, "W": 4, "L": 6}
SIZES = (
    FIXED,
    {"B": 1, "H": 7, "W": 5, "L": 9},
    {"B": 3, "H": 1, "W": 3, "L": 1},
    {"B": 5, "H": 4, "W": 9, "L": 7},
)


@dataclass
class OpenOutcome:
    """Lanes removed from one model, and from the same one with fixed sizes; sizes at which the full model ran."""

    removed: int
    removed_fixed: int
    ran: int
    in_double: int = 0


def examine_open(seed: int, sparsity: float = 0.5) -> OpenOutcome:
    """Return what happened to the model of `seed` after asserting the contract at every size that it runs at."""
    model = open_model(seed)
    analysis = analyse(normalise(model))
    choice = choose(analysis, score(analysis, "random", seed), sparsity)
    fixed = analyse(normalise(open_model(seed, FIXED)))
    outcome = OpenOutcome(choice.dropped, choose(fixed, score(fixed, "random", seed), sparsity).dropped, 0)
    full, small = zero_dropped(analysis, choice.drop), compact(analysis, choice.drop)
    run, run_small = runner(full, threads=1), runner(small, threads=1)
    for i, sizes in enumerate(SIZES):
        given = feed(model, sizes, np.random.default_rng(i))
        try:
            expected = run(given)
        except Exception:  # the runtime raises many types for sizes that do not fit
            continue
        outcome.ran += 1
        try:
            assert_equal(expected, run_small(given), f"seed {seed} at {sizes}")
        except AssertionError as difference:
            compare_in_double(full, small, given, difference)
            outcome.in_double += 1
    return outcome
