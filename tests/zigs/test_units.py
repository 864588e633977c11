"""What can go, in which order, and what it is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contract.random_check import random_model

from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, analyse, choose
from onnx_oto.zigs.units import Family, _loss, dropped, families
from onnx_oto.zigs.widths import told_apart

from .models import GROUPED, HALVES, analysis_of, chained
from .oracle import Oracle

NESTED = """g (float[N,5] x) => (float[N,3] y)
<float[5,6] w0, float[6,3] w1, float[4,3] w2, float[2,3] w3, int64[1] two = {2}, int64[1] four = {4},
 int64[1] six = {6}, int64[1] on = {1}>
{ h = MatMul(x, w0) a = MatMul(h, w1) i = Slice(h, two, six, on) b = MatMul(i, w2) j = Slice(i, two, four, on)
  c = MatMul(j, w3) y = Sum(a, b, c) }"""
"""Lanes 0 to 5 are read, 2 to 5, and 4 and 5."""


def ramp(analysis: Analysis) -> np.ndarray:
    return np.arange(analysis.lanes.count, dtype=float)


def test_a_dimension_is_a_family_in_the_order_of_scores() -> None:
    analysis = chained(4, 3)
    first, second = families(analysis, -ramp(analysis))
    assert (first.name, second.name) == ("w0", "w1")
    assert first.units[:, 0].tolist() == analysis.prunable[0].lanes[::-1].tolist()
    assert (first.size, first.step, first.gone, first.limit) == (4, 1, 0, 3)
    assert first.steps.tolist() == [0, 1, 2, 3]
    assert second.limit == 2


def test_equal_scores_go_by_number() -> None:
    analysis = chained(4)
    (family,) = families(analysis, np.zeros(analysis.lanes.count))
    lanes = analysis.prunable[0].lanes.tolist()
    assert family.units[:, 0].tolist() == [*lanes[1:], lanes[0]]  # the first of equals stays


def test_a_unit_in_groups_is_one_of_every_group() -> None:
    analysis = analysis_of(GROUPED)
    for family in families(analysis, ramp(analysis)):
        assert (family.step, family.size, family.limit) == (2, 8, 3)
        rows = next(rows for rows, _ in analysis.lanes.balanced if np.isin(family.units[0], rows).all())
        for unit in family.units:
            assert [np.isin(unit, row).sum() for row in rows] == [1, 1]


def test_what_is_gone_comes_first_and_cannot_stay() -> None:
    analysis = chained(5)
    lanes = analysis.prunable[0].lanes
    gone = np.zeros(analysis.lanes.count, bool)
    gone[lanes[3:]] = True
    (family,) = families(analysis, ramp(analysis), gone)
    assert set(family.units[:2, 0].tolist()) == set(lanes[3:].tolist())
    assert (family.gone, family.steps.tolist()) == (2, [2, 3, 4])
    assert family.loss[:3].tolist() == [0, 0, 0]
    assert family.loss[3] > 0


@pytest.mark.parametrize(("share", "limit"), [(0.0, 9), (0.1, 9), (0.25, 7), (0.5, 5), (1.0, 0)])
def test_a_share_of_the_lanes_stays(share: float, limit: int) -> None:
    analysis = chained(10)
    (family,) = families(analysis, ramp(analysis), min_keep=share)
    assert family.limit == family.steps[-1] == limit


def test_parts_of_an_axis_are_families_where_they_are_told_apart() -> None:
    analysis = analysis_of(HALVES)
    (whole,) = families(analysis, ramp(analysis))
    assert (whole.size, whole.limit) == (8, 6)
    parts = families(analysis, ramp(analysis), apart=told_apart(analysis))
    assert [(part.size, part.limit) for part in parts] == [(4, 3), (4, 3)]


def test_of_sets_inside_each_other_one_lane_stays() -> None:
    """Lane 4 is in all three: whoever keeps the best lane of each keeps two more than need be."""
    analysis = analysis_of(NESTED)
    assert [lanes.size for lanes in analysis.nonempty] == [4, 2]
    (dimension,) = analysis.prunable
    scores = -ramp(analysis)
    (family,) = families(analysis, scores)
    assert family.limit == 5
    choice = choose(analysis, scores, 0.8)
    assert choice.dropped == 5
    assert not choice.drop[dimension.lanes[4]]


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_units_of_any_family_satisfies_every_constraint(seed: int) -> None:
    rng = np.random.default_rng(700 + seed)
    analysis = analyse(normalise(random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)))
    oracle = Oracle(analysis, {})
    for apart in (None, told_apart(analysis)):
        made = families(analysis, rng.random(analysis.lanes.count), apart=apart)
        every = [lane for family in made for lane in family.lanes.tolist()]
        assert sorted(every) == sorted(lane for d in analysis.prunable for lane in d.lanes.tolist())
        for _ in range(5):
            drop = np.zeros(analysis.lanes.count, bool)
            for family in made:
                drop[family.units[: rng.choice(family.steps)].reshape(-1)] = True
            assert oracle.allows_drop(drop)


# --- loss -----------------------------------------------------------------------------------------------------


def of_scores(*scores: float) -> Family:
    analysis = chained(len(scores))
    values = np.zeros(analysis.lanes.count)
    values[analysis.prunable[0].lanes] = scores
    return families(analysis, values)[0]


def test_the_loss_is_the_energy_by_what_stays_of_it() -> None:
    loss = of_scores(1, 2, 3, 4).loss
    np.testing.assert_allclose(loss[:4], [0, *(4 * (30 / left - 1) for left in (29, 25, 16))])
    assert np.isfinite(loss[4])
    assert loss[4] > 1000


def test_the_loss_knows_no_scale() -> None:
    np.testing.assert_allclose(of_scores(1, 2, 3).loss, of_scores(1e3, 2e3, 3e3).loss)


@pytest.mark.parametrize(
    "scores", [(0, 0, 0), (0, 0, 5), (-3, -2, 1), (1, 1, 1), (1e-30, 1, 1e30), (9, 1, 4)]
)
def test_the_loss_is_convex_finite_and_grows(scores: tuple[float, ...]) -> None:
    loss = of_scores(*scores).loss
    assert np.isfinite(loss).all()
    slopes = np.diff(loss)
    assert (slopes >= 0).all()
    assert (np.diff(slopes) >= -1e-9 * np.abs(slopes[1:])).all()


def test_the_loss_is_convex_where_a_lane_of_low_score_stays_to_the_last() -> None:
    analysis = analysis_of(NESTED)
    (family,) = families(analysis, 1.0 + ramp(analysis)[::-1])
    scores = 1.0 + ramp(analysis)[::-1]
    assert (np.diff(scores[family.units[:, 0]]) < 0).any()
    assert (np.diff(np.diff(family.loss)) >= 0).all()


def test_zeros_and_equals() -> None:
    assert of_scores(0, 0, 5, 6).loss[:3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(of_scores(0, 0, 0, 0).loss[:3], of_scores(7, 7, 7, 7).loss[:3])


def test_allowing_keeps_what_is_inside() -> None:
    family = of_scores(1, 2, 3, 4, 5)
    assert family.allowing(np.array([0, 2, 4, 9])).steps.tolist() == [0, 2, 4]
    gone = replace(family, gone=2)
    assert gone.allowing(np.array([0, 1, 3])).steps.tolist() == [3]
    assert gone.allowing(np.array([0, 1])).steps.tolist() == [2]


def test_what_is_gone_counts_as_worth_what_is_left() -> None:
    """Of units that are alike it is the same from there on, however many are gone."""
    alike = np.ones((8, 2))
    whole = _loss(alike, 0, 16)
    for gone in (1, 3, 5):
        found = _loss(np.vstack([np.full((gone, 2), -np.inf), alike[gone:]]), gone, 16)
        assert found[: gone + 1].tolist() == [0.0] * (gone + 1)
        np.testing.assert_allclose(found[gone:-1], whole[gone:-1] - whole[gone])


def test_a_unit_of_which_a_part_is_gone_goes_first() -> None:
    analysis = analysis_of(GROUPED)
    rows, _ = analysis.lanes.balanced[0]
    gone = np.zeros(analysis.lanes.count, bool)
    gone[rows[0][:2]] = gone[rows[1][0]] = True
    (family,) = [f for f in families(analysis, ramp(analysis), gone) if np.isin(rows[0], f.lanes).any()]
    assert family.gone == family.steps[0] == 2
    assert (dropped(analysis, [family], [2]) >= gone).all()


SHIFTED = """g (float[N,3,6,6] x) => ({outputs})
<float[6,3,1,1] w0, float[8,3,1,1] w1, float[2,8,1,1] w2, {constants}>
{{ a = Conv(x, w0) e = Conv<group=2>(a, w1) y = Conv(e, w2) {nodes} }}"""


def partly_shifted(*parts: list[int]) -> Analysis:
    """A convolution of two groups that reads six channels; each part of them is shifted and read besides.

    Channels that are in the same parts are a dimension.
    """
    return analysis_of(
        SHIFTED.format(
            outputs=", ".join(
                f"float[N,2,6,6] {name}" for name in ("y", *(f"z{i}" for i in range(len(parts))))
            ),
            constants=", ".join(
                f"int64[{len(part)}] i{i} = {{{', '.join(map(str, part))}}}, float[{len(part)},1,1] b{i}, "
                f"float[2,{len(part)},1,1] u{i}"
                for i, part in enumerate(parts)
            ),
            nodes=" ".join(
                f"g{i} = Gather<axis=1>(a, i{i}) s{i} = Add(g{i}, b{i}) z{i} = Conv(s{i}, u{i})"
                for i in range(len(parts))
            ),
        )
    )


@pytest.mark.parametrize(
    ("parts", "most"), [([[0, 1, 2, 4, 5]], 2), ([[0, 1, 2, 4, 5], [0, 1, 2, 5], [0, 1, 2, 4]], 0)]
)
def test_a_channel_that_must_stay_does_not_untie_the_groups(parts: list[list[int]], most: int) -> None:
    """It is all of its dimension; the others of its group may go, as many as of the other one."""
    analysis = partly_shifted(*parts)
    (rows,) = [rows for rows, _ in analysis.lanes.balanced if rows.shape == (2, 3)]
    seen = set()
    for sparsity in np.linspace(0.05, 0.95, 19):
        for scope in ("dimension", "global"):
            drop = choose(analysis, ramp(analysis), float(sparsity), scope=scope).drop
            assert len(set(drop[rows].sum(1).tolist())) == 1
            seen.add(int(drop[rows].sum()))
    assert max(seen) == most
