"""Moments are those of all rows, however they come; what is chance in them is known."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.refit import Moments, Reader
from onnx_oto.refit.moments import MOST_PLACES, WIDE, parts, places, wanted_rows
from tests.refit.made import correlated, reader, seen


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def streamed(x: np.ndarray, sizes: list[int], of: Reader) -> Moments:
    """Return the moments of samples [N, R, G, F] that come in batches of these sizes."""
    found, begin = Moments(of), 0
    for size in sizes:
        found.add(x[begin : begin + size])
        begin += size
    assert begin == len(x)
    return found


@pytest.mark.parametrize("sizes", [[64], [1] * 64, [16] * 4, [7, 50, 7], [63, 1]])
def test_any_split_into_batches_gives_the_same(rng: np.random.Generator, sizes: list[int]) -> None:
    x = (2 + correlated(rng, 64 * 5 * 2, 6)).astype(np.float32).reshape(64, 5, 2, 6)
    found = streamed(x, sizes, reader([range(6), range(6, 12)]))
    assert (found.count, found.samples) == (320, 64)
    for group in range(2):
        flat = x[:, :, group].reshape(-1, 6).astype(np.float64)
        np.testing.assert_allclose(found.mean(group), flat.mean(0), rtol=1e-5)
        np.testing.assert_allclose(
            found.products(group, centred=True), np.cov(flat.T, bias=True), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(found.products(group, centred=False), flat.T @ flat / 320, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[200], [16] * 12 + [8]])
def test_no_digits_are_lost_to_a_large_mean(rng: np.random.Generator, sizes: list[int]) -> None:
    """1e4 beside a spread of 1: in sums of squares in float32 nothing would be left of it."""
    x = (1e4 + correlated(rng, 200, 5)).astype(np.float32).reshape(200, 1, 1, 5)
    found, exact = streamed(x, sizes, reader(range(5))), x.reshape(200, 5).astype(np.float64)
    np.testing.assert_allclose(
        found.products(0, centred=True), np.cov(exact.T, bias=True), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(found.mean(0), exact.mean(0), rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers_are_left_out(rng: np.random.Generator, bad: float) -> None:
    x = correlated(rng, 40, 4).astype(np.float32).reshape(20, 2, 1, 4)
    spoilt = x.copy()
    spoilt[[3, 7], 1, 0, 2] = bad
    found, expected = (
        seen(spoilt.reshape(40, 4), rows=2),
        seen(np.delete(x, [3, 7], 0).reshape(36, 4), rows=2),
    )
    assert (found.count, found.samples) == (36, 18)
    np.testing.assert_array_equal(found.believed(0, centred=True), expected.believed(0, centred=True))


def test_nothing_is_seen_where_no_sample_is_a_number() -> None:
    found = seen(np.full((4, 3), np.nan))
    assert (found.count, found.samples) == (0, 0)


def test_chance_is_small_for_many_samples_that_share_causes(rng: np.random.Generator) -> None:
    assert seen(correlated(rng, 4000, 8)).chance(0) < 0.01


def test_chance_is_all_there_is_in_few_samples_of_independent_features(rng: np.random.Generator) -> None:
    found = [seen(rng.standard_normal((20, 30))).chance(0) for _ in range(5)]
    assert np.mean(found) > 0.9
    assert seen(rng.standard_normal((1, 30)), rows=1).chance(0) == 1.0


def test_the_rows_of_one_sample_are_no_samples(rng: np.random.Generator) -> None:
    """Of one sample nothing is believed, however many rows it has; of many rows of few samples, little."""
    x = np.repeat(rng.standard_normal((8, 1, 6)), 100, 1).reshape(-1, 6) + 0.01 * rng.standard_normal(
        (800, 6)
    )
    assert seen(x[:100], rows=100).chance(0) == 1.0
    assert seen(x, rows=100).chance(0) > 10 * seen(x, rows=1).chance(0)


def test_chance_is_the_variance_of_what_was_averaged(rng: np.random.Generator) -> None:
    """Against the formula written out: of products between features, about the shift."""
    x = correlated(rng, 24 * 3, 5).astype(np.float32)
    found = seen(x, rows=3)
    apart = (x - found.shift[0].astype(np.float32)).astype(np.float64).reshape(24, 3, 5)
    each = np.einsum("nrf,nrg->nfg", apart, apart) / 3
    off = ~np.eye(5, dtype=bool)
    expected = each[:, off].var(0, ddof=1).sum() / 24 / np.square(each.mean(0)[off]).sum()
    assert found.chance(0) == pytest.approx(expected, rel=1e-4)


def test_what_is_believed_is_what_was_seen_where_there_are_many_samples(rng: np.random.Generator) -> None:
    found = seen(3 + correlated(rng, 20000, 5))
    for centred in (True, False):
        np.testing.assert_allclose(
            found.believed(0, centred=centred), found.products(0, centred=centred), rtol=2e-3, atol=2e-3
        )


def test_the_mean_is_believed_whatever_is_chance(rng: np.random.Generator) -> None:
    """Two samples say nothing of what features share, but that both are about five."""
    found = seen(5 + 0.1 * rng.standard_normal((2, 3)))
    off = found.believed(0, centred=False)[~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(off, 25, rtol=0.1)


def test_what_is_believed_can_be_inverted(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 6))
    x[:, 1], x[:, 3], x[:, 4] = x[:, 0], 0.0, 2 * x[:, 0] - x[:, 2]
    for centred in (True, False):
        assert np.linalg.eigvalsh(seen(x).believed(0, centred=centred)).min() > 0
    assert np.linalg.eigvalsh(seen(np.zeros((9, 3))).believed(0, centred=True)).min() > 0


def test_exact_copies_are_believed_whatever_is_chance(rng: np.random.Generator) -> None:
    """Thirty samples leave much to chance, but not that two features are the same in all of them."""
    x = rng.standard_normal((60, 8))
    x[:, 5] = -2 * x[:, 1]
    found = seen(x)
    assert found.chance(0) > 0.1
    never = np.zeros(8)
    never[[1, 5]] = 2, 1
    products = found.believed(0, centred=True)
    assert never @ products @ never < 1e-5 * products.trace()
    few = seen(x[:12])  # fewer than twice the features: any would seem to follow from the others
    assert never @ few.believed(0, centred=True) @ never > 1e-2 * products.trace()


def test_wide_readers_keep_rows(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x = 7 + correlated(rng, 30, 9)
    monkeypatch.setattr("onnx_oto.refit.moments.WIDE", 8)
    found = seen(x)
    assert found.wide
    rows = found.kept_rows(0, centred=True)
    np.testing.assert_allclose(rows, (x - x.mean(0)).astype(np.float32), atol=1e-5)
    np.testing.assert_allclose(found.kept_rows(0, centred=False), x, atol=1e-5)


def test_passes_have_room() -> None:
    found = [reader(range(n)) for n in (6000, 6000, 6000, 6000, 6000, 9000, 16, 16)]
    passes = list(parts(found))
    assert [each for part in passes for each in part] == found
    for part in passes:
        assert len(part) == 1 or sum(8 * r.features * min(r.features, WIDE) for r in part) <= 1.2e9
    assert len(passes) > 1
    assert wanted_rows(found[0]) == 60000


def test_few_samples_are_not_looked_at_everywhere() -> None:
    """Rows of one sample say much the same, and what a run gives has to be held."""
    found = [reader(range(4608))] * 8
    for samples in (1, 10, 464, 10**6):
        counts = places(found, samples=samples, batch=16)
        assert all(1 <= count <= MOST_PLACES for count in counts)
        assert sum(4 * 16 * count * 4608 for count in counts) <= 1.6e8
    assert places([reader(range(64))], samples=464, batch=16) == [18]
