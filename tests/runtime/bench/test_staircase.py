"""What follows from the times of chains: decided on times that are made up, so that no machine matters."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.runtime.bench.staircase import CHANNELS, chain, staircase, work

ORT = {
    28: 301,
    30: 524,
    32: 303,
    33: 609,
    36: 550,
    40: 550,
    47: 935,
    48: 550,
    56: 873,
    63: 1446,
    64: 873,
    65: 1556,
}
"""ONNX Runtime 1.32 with AVX-512, microseconds; 80 channels were not measured."""
OPENVINO = {28: 366, 30: 381, 32: 381, 33: 511, 36: 536, 47: 637, 48: 617, 63: 978, 64: 949, 65: 1192}


def made(alignment: int, block: int, cliff: float = 1.5, start: float = 0.02) -> dict[int, float]:
    """Return the times of a runtime that rounds up to blocks, and is slow on what is no multiple of `alignment`."""
    return {
        c: (start + 2e-5 * work(-(-c // block) * block)) * (cliff if c % alignment else 1.0) for c in CHANNELS
    }


@pytest.mark.parametrize(
    ("alignment", "block"),
    [(4, 16), (4, 8), (1, 1), (1, 16), (1, 8), (8, 8), (2, 2), (16, 16), (32, 32), (4, 4)],
)
def test_alignment_and_block_are_found(alignment: int, block: int) -> None:
    found = staircase(made(alignment, block))
    assert (found.alignment, found.block) == (alignment, block)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("alignment", "block"), [(4, 16), (4, 8), (1, 1), (1, 16)])
def test_noise_of_three_percent_and_one_bad_moment_change_nothing(
    alignment: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = {c: t * (1 + 0.03 * rng.random()) for c, t in made(alignment, block, cliff=1.4).items()}
    times[int(rng.choice([24, 44, 48, 60]))] *= 1.3
    found = staircase(times)
    assert (found.alignment, found.block) == (alignment, block)


@pytest.mark.parametrize(("measured", "expected"), [(ORT, (4, 16)), (OPENVINO, (1, 16))])
def test_few_sizes_that_were_measured_once_are_enough(
    measured: dict[int, int], expected: tuple[int, int]
) -> None:
    times = {c: float(t) for c, t in measured.items()}
    if measured is OPENVINO:
        times |= {24: 330.0, 40: 560.0, 56: 930.0}
    else:
        times |= {62: 1440.0}
    found = staircase(times)
    assert (found.alignment, found.block) == expected
    assert found.times == times


def test_a_chain_has_the_channels_in_its_middle() -> None:
    model = chain(36)
    onnx.checker.check_model(model, full_check=True)
    assert [list(w.dims[:2]) for w in model.graph.initializer] == [[36, 32], [36, 36], [36, 36], [32, 36]]
