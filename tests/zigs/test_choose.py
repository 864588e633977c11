"""The choice of lanes: exact counts, and every constraint of the model."""

from __future__ import annotations

import numpy as np
import pytest
from contract.random_check import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.errors import UsageError
from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, analyse, choose, score, zero_dropped
from onnx_oto.zigs.choose import Scope, choose_all, choose_zeros
from onnx_oto.zigs.groups import zero_lanes

from .models import GROUPED, HALVES, analysis_of, chained


def counts(analysis: Analysis, drop: np.ndarray) -> list[int]:
    """Return how many lanes of every prunable dimension are dropped."""
    return [int(drop[d.lanes].sum()) for d in analysis.prunable]


def ramp(analysis: Analysis) -> np.ndarray:
    """Return scores that grow with the lane number."""
    return np.arange(analysis.lanes.count, dtype=float)


@pytest.mark.parametrize(
    ("widths", "sparsity", "expected"),
    [
        ((6, 10), 0.5, [3, 5]),
        ((4, 8), 0.0, [0, 0]),
        ((5, 5, 5), 0.5, [3, 3, 2]),  # 7.5 rounds to 8: the first two get the odd lanes
        ((3, 9), 0.25, [1, 2]),  # quotas 0.75 and 2.25
        ((10, 10), 0.05, [1, 0]),
        ((4, 4), 0.99, [3, 3]),  # one lane of every dimension stays
        ((2, 16), 0.9, [1, 15]),  # what one dimension cannot give, the other does
    ],
)
def test_the_same_share_everywhere_and_the_exact_total(
    widths: tuple[int, ...], sparsity: float, expected: list[int]
) -> None:
    analysis = chained(*widths)
    choice = choose(analysis, ramp(analysis), sparsity)
    assert counts(analysis, choice.drop) == expected
    assert choice.dropped == sum(expected)
    assert choice.prunable == sum(widths)
    assert choice.share == sum(expected) / sum(widths)


def test_the_lowest_scores_go_and_ties_go_by_number() -> None:
    analysis = chained(6)
    lanes = analysis.prunable[0].lanes
    scores = np.ones(analysis.lanes.count)
    scores[lanes] = [5, 1, 2, 1, 1, 0]
    drop = choose(analysis, scores, 0.5).drop
    assert sorted(lanes.tolist().index(i) for i in np.flatnonzero(drop)) == [1, 3, 5]


@pytest.mark.parametrize(
    ("width", "sparsity", "multiple", "kept"),
    [(10, 0.3, 4, 8), (12, 0.5, 4, 8), (16, 0.5, 8, 8), (10, 0.1, 4, 10), (7, 0.5, 8, 7)],
)
def test_round_to_keeps_a_multiple_or_everything(
    width: int, sparsity: float, multiple: int, kept: int
) -> None:
    analysis = chained(width)
    choice = choose(analysis, ramp(analysis), sparsity, round_to=multiple)
    assert width - choice.dropped == kept


def test_global_ranks_by_the_share_of_what_is_left_in_the_dimension() -> None:
    analysis = chained(6, 6)
    scores = np.zeros(analysis.lanes.count)
    first, second = (d.lanes for d in analysis.prunable)
    scores[first], scores[second] = np.arange(6), 10 + np.arange(6)
    # s[k]^2 / sum over j >= k: 0, 1/55, 4/54, 9/50, ... against 100/955, 121/855, 144/734, ...
    for scale in (1.0, 1000.0):
        scores[second] *= scale
        assert counts(analysis, choose(analysis, scores, 0.5, scope="global").drop) == [4, 2]


def test_global_leaves_the_last_lane_of_a_dimension() -> None:
    analysis = chained(6, 6)
    scores = np.zeros(analysis.lanes.count)
    first, second = (d.lanes for d in analysis.prunable)
    scores[first], scores[second] = 10.0 ** np.arange(6), 1.0
    assert counts(analysis, choose(analysis, scores, 0.5, scope="global").drop) == [5, 1]


def test_global_keeps_a_share_of_every_dimension() -> None:
    analysis = chained(10, 10)
    scores = np.zeros(analysis.lanes.count)
    first, second = (d.lanes for d in analysis.prunable)
    scores[first], scores[second] = 10.0 ** np.arange(10), 1.0
    choice = choose(analysis, scores, 0.5, scope="global", min_keep=0.4)
    assert counts(analysis, choice.drop) == [6, 4]


def test_grouped_convolutions_lose_equally_many_of_every_group() -> None:
    analysis = analysis_of(GROUPED)
    scores = ramp(analysis)
    for sparsity in (0.25, 0.5, 0.7):
        drop = choose(analysis, scores, sparsity).drop
        assert drop.any()
        for rows, _ in analysis.lanes.balanced:
            gone = drop[rows].sum(1)
            assert (gone == gone[0]).all()
            assert gone[0] < rows.shape[1]


@pytest.mark.parametrize("zeros", [(3, 1), (2, 2), (0, 3), (4, 4)])
def test_of_the_zeros_in_groups_those_go_that_can(zeros: tuple[int, int]) -> None:
    """Equally many of every group, and never all: whoever asks for the zeros gets a set that can be cut."""
    analysis = analysis_of(GROUPED)
    rows = next(rows for rows, _ in analysis.lanes.balanced if rows.shape == (2, 4))
    drop = np.zeros(analysis.lanes.count, bool)
    for row, count in zip(rows, zeros, strict=True):
        drop[row[:count]] = True
    again = analyse(zero_dropped(analysis, drop))
    choice = choose_zeros(again)
    assert zero_lanes(again).sum() == sum(zeros)
    assert choice.drop[rows].sum(1).tolist() == [min(*zeros, 3)] * 2
    assert choice.dropped == choice.drop.sum() == 2 * min(*zeros, 3)


def test_the_zeros_of_a_choice_are_the_choice() -> None:
    analysis = analysis_of(GROUPED)
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    np.testing.assert_array_equal(choose_zeros(analyse(zero_dropped(analysis, drop))).drop, drop)


def test_a_part_of_a_split_axis_is_never_emptied() -> None:
    analysis = analysis_of(HALVES)
    assert analysis.nonempty
    (dimension_lanes,) = {tuple(sorted(np.concatenate([d.lanes for d in analysis.prunable]).tolist()))}
    first = min(analysis.nonempty, key=lambda lanes: int(lanes.min()))
    scores = np.ones(analysis.lanes.count)
    scores[first] = -1.0 - np.arange(first.size)
    drop = choose(analysis, scores, 0.5).drop
    assert len(dimension_lanes) == 8
    assert not drop[first].all()
    assert drop[first].sum() == first.size - 1


def test_nothing_prunable_drops_nothing() -> None:
    analysis = analysis_of("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { y = MatMul(x, w) }")
    choice = choose(analysis, ramp(analysis), 0.5)
    assert (choice.dropped, choice.prunable, choice.share) == (0, 0, 0.0)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 2.0, float("nan")])
def test_a_sparsity_that_is_no_share_is_refused(sparsity: float) -> None:
    analysis = chained(4)
    with pytest.raises(UsageError, match=r"sparsity .* is not a share: give a number from 0"):
        choose(analysis, ramp(analysis), sparsity)


def test_round_to_zero_is_refused() -> None:
    analysis = chained(4)
    with pytest.raises(UsageError, match="--round-to 0 is not a count: give 1 or more"):
        choose(analysis, ramp(analysis), 0.5, round_to=0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=4),
    st.floats(0, 0.99),
    st.sampled_from(["dimension", "global"]),
    st.integers(0, 9),
)
def test_the_total_is_exact_where_nothing_stands_against_it(
    widths: list[int], sparsity: float, scope: str, seed: int
) -> None:
    analysis = chained(*widths)
    scores = np.random.default_rng(seed).random(analysis.lanes.count)
    choice = choose(analysis, scores, sparsity, scope=scope)  # type: ignore[arg-type]
    target = int(np.floor(sparsity * sum(widths) + 0.5))
    assert choice.dropped == min(target, sum(widths) - len(widths))
    for dimension in analysis.prunable:
        kept, gone = (
            dimension.lanes[~choice.drop[dimension.lanes]],
            dimension.lanes[choice.drop[dimension.lanes]],
        )
        assert kept.size >= 1
        if gone.size:
            assert scores[gone].max() <= scores[kept].min()


@pytest.mark.parametrize("seed", range(25))
def test_every_choice_in_a_random_model_satisfies_every_constraint(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    analysis = analyse(normalise(random_model(lambda n: int(rng.integers(n)), 6, seed=seed)))
    prunable = np.zeros(analysis.lanes.count, bool)
    for dimension in analysis.prunable:
        prunable[dimension.lanes] = True
    for sparsity in (0.2, 0.6, 0.95):
        for scope in ("dimension", "global"):
            scores = rng.random(analysis.lanes.count)
            choice = choose(analysis, scores, sparsity, scope=scope)  # type: ignore[arg-type]
            assert not (choice.drop & ~prunable).any()
            assert not (choice.drop & analysis.lanes.frozen).any()
            assert choice.dropped == choice.drop.sum()
            for lanes in (*analysis.nonempty, *(d.lanes for d in analysis.prunable)):
                assert not choice.drop[lanes].all()
            for rows, _ in analysis.lanes.balanced:
                assert len(set(choice.drop[rows].sum(1).tolist())) == 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["dimension", "global"]),
    st.sampled_from([1, 2, 4]),
)
def test_what_is_gone_stays_gone_and_counts(
    widths: list[int], seed: int, scope: Scope, multiple: int
) -> None:
    """Asked five times for more, with new scores each time: never a lane comes back, never one too many goes."""
    analysis = chained(*widths)
    rng = np.random.default_rng(seed)
    gone = np.zeros(analysis.lanes.count, bool)
    for share in (0.1, 0.2, 0.3, 0.4, 0.5):
        choice = choose(
            analysis, rng.random(gone.size), share, scope=scope, round_to=multiple, min_keep=0.1, gone=gone
        )
        assert (choice.drop >= gone).all()
        if multiple == 1:
            assert choice.dropped <= int(share * sum(widths) + 0.5)
            free = choose(analysis, rng.random(gone.size), share, scope=scope, min_keep=0.1)
            assert choice.dropped == free.dropped
        gone = choice.drop


def test_what_is_gone_in_groups_keeps_them_balanced() -> None:
    analysis = analysis_of(GROUPED)
    first = choose(analysis, ramp(analysis), 0.3).drop
    second = choose(analysis, -ramp(analysis), 0.6, gone=first).drop
    assert (second >= first).all()
    for rows, _ in analysis.lanes.balanced:
        assert len(set(second[rows].sum(1))) == 1


def test_a_scope_can_be_held_to_what_is_gone_alone() -> None:
    """The other dimension gives up its share: three of twelve are to go, and three of the first are gone."""
    analysis = chained(6, 6)
    gone = np.zeros(analysis.lanes.count, bool)
    gone[analysis.prunable[0].lanes[3:]] = True
    choice = choose(analysis, ramp(analysis), 0.25, gone=gone)
    assert (choice.drop == gone).all()


@pytest.mark.parametrize("seed", range(40))
def test_all_that_may_go_is_the_nearest_to_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    analysis = analyse(normalise(random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)))
    found = choose_all(analysis)
    assert (found.drop == choose(analysis, np.zeros(analysis.lanes.count), 1 - 1e-9).drop).all()
    assert found.dropped == found.drop.sum()
