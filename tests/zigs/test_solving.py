"""Choices under budgets against enumeration: at or under, nothing more would fit, and the least loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from contract.random_check import random_model

from onnx_oto.errors import UsageError
from onnx_oto.model import normalise
from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, analyse, choose
from onnx_oto.zigs.budgets import Budget, OutOfReach, budget
from onnx_oto.zigs.choose import NEAR, Scope, weighed
from onnx_oto.zigs.cost import count_macs, symbol_sizes
from onnx_oto.zigs.counting import Costs
from onnx_oto.zigs.solving import everything, filled, fits, moved, nearest_step, total_loss, under_budgets
from onnx_oto.zigs.terms import mac_terms, parameter_terms, terms
from onnx_oto.zigs.units import Family, families
from onnx_oto.zigs.widths import Rounding, fixed, rounded, told_apart

from .models import GROUPED, HALVES, analysis_of, chained
from .oracle import Counts, Oracle

TIED = """g (float[N,3,6,6] x) => (float[N,2,6,6] y)
<float[4,3,1,1] w0, float[4,2,3,3] w1, float[5,4,1,1] w2, float[2,5,1,1] w3>
{ a = Conv(x, w0) b = Relu(a) c = Conv<group=2,pads=[1,1,1,1]>(b, w1) d = Conv(c, w2) e = Relu(d) y = Conv(e, w3) }"""
"""4 channels, 4 in two groups, 5: an odd number of lanes can go though four of them go by twos."""

MOST = 30_000
"""How many combinations are enumerated."""


def oracles() -> list[Oracle]:
    """Return models whose weights are multiplied as often as is said, then random ones, of which parameters count."""
    dense = dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), 1)
    image = dict.fromkeys(dense, 36)
    made = [Oracle(analysis_of(text), image) for text in (GROUPED, TIED)]
    made += [Oracle(analysis_of(HALVES), dense)]
    made += [
        Oracle(chained(*w), dense)
        for w in ((6,), (4, 7), (5, 5, 5), (3, 9, 4), (8, 2, 6), (12, 9, 11), (7, 7, 7, 7), (16, 24))
    ]
    for seed in range(80):
        rng = np.random.default_rng(5000 + seed)
        analysis = analyse(normalise(random_model(lambda n: int(rng.integers(n)), 3 + seed % 8, seed=seed)))  # noqa: B023
        oracle = Oracle(analysis, {})
        # Which lanes of a dimension go is said by their scores: what is enumerated are numbers, of equal lanes.
        if analysis.prunable and oracle.number <= MOST and oracle.is_plain:
            made.append(oracle)
    return made


ORACLES = oracles()


def budgets_for(oracle: Oracle, asked: dict[str, float]) -> list[Budget]:
    analysis = oracle.analysis
    full = oracle.cost((0,) * len(oracle.classes))
    of_name = {
        "params": parameter_terms(analysis),
        "macs": mac_terms(analysis, symbol_sizes(analysis, count_macs(analysis).at)),
    }
    return [budget(name, share, full[name], of_name[name]) for name, share in asked.items()]


def keeps(oracle: Oracle, counts: Counts, budgets: list[Budget]) -> bool:
    costs = oracle.cost(counts)
    return all(costs[each.name] <= each.most * (1 + 1e-9) for each in budgets)


def offered(
    analysis: Analysis, scores: np.ndarray, min_keep: float, round_to: int | Rounding
) -> tuple[Family, ...]:
    if round_to == 1:
        return families(analysis, scores, min_keep=min_keep)
    apart = told_apart(analysis)
    rounding = fixed(round_to) if isinstance(round_to, int) else round_to
    return rounded(analysis, families(analysis, scores, min_keep=min_keep, apart=apart), rounding)


def dropped(
    analysis: Analysis, made: tuple[Family, ...], counts: Iterator[int] | tuple[int, ...]
) -> np.ndarray:
    drop = np.zeros(analysis.lanes.count, bool)
    for family, count in zip(made, counts, strict=True):
        drop[family.units[:count].reshape(-1)] = True
    return drop


def asked_for(rng: np.random.Generator, oracle: Oracle) -> dict[str, float]:
    names = (
        [("params",), ("macs",), ("params", "macs")][int(rng.integers(3))] if oracle.places else ("params",)
    )
    return {
        name: float(rng.choice([0.01, 0.3, 0.95])) if rng.random() < 0.2 else float(rng.random())
        for name in names
    }


@pytest.mark.parametrize("seed", range(300))
def test_budgets_are_kept_and_no_unit_more_would_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    oracle = ORACLES[seed % len(ORACLES)]
    analysis, scores = oracle.analysis, rng.random(oracle.analysis.lanes.count)
    budgets = budgets_for(oracle, asked_for(rng, oracle))
    scope: Scope = "global" if rng.random() < 0.5 else "dimension"
    try:
        choice = choose(analysis, scores, budgets=budgets, scope=scope)
    except OutOfReach:
        assert not any(keeps(oracle, counts, budgets) for counts in oracle.every)
        return
    counts = oracle.of_drop(choice.drop)
    assert oracle.allows(counts)
    assert keeps(oracle, counts, budgets)
    for fewer in oracle.less(counts):
        assert not keeps(oracle, fewer, budgets), (counts, fewer)
    if seed % 5 == 0:  # the oracle itself counts what surgery leaves
        small = analyse(compact(analysis, choice.drop))
        left = {name: tensor.dims for name, tensor in small.graph.initializers.items()}
        kept = [name for name in analysis.counted_parameters if name in left]
        if len(kept) == len(left) == len(analysis.graph.initializers):
            assert oracle.cost(counts)["params"] == sum(math.prod(left[name]) for name in kept)


@pytest.mark.parametrize("seed", range(300))
def test_the_number_of_lanes_is_the_nearest_that_constraints_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    oracle = ORACLES[seed % len(ORACLES)]
    sparsity = float(rng.random())
    scope: Scope = "global" if rng.random() < 0.5 else "dimension"
    choice = choose(oracle.analysis, rng.random(oracle.analysis.lanes.count), sparsity, scope=scope)
    wanted = math.floor(sparsity * choice.prunable + 0.5)
    assert choice.wanted == wanted
    assert oracle.allows_drop(choice.drop)
    assert abs(choice.dropped - wanted) == min(abs(sum(counts) - wanted) for counts in oracle.every)


def test_lanes_in_pairs_and_single_ones_make_an_odd_number_together() -> None:
    analysis = analysis_of(TIED)
    scores = np.random.default_rng(0).random(analysis.lanes.count)
    for scope in ("dimension", "global"):
        choice = choose(analysis, scores, 7 / 13, scope=scope)  # type: ignore[arg-type]
        assert (choice.prunable, choice.dropped, choice.wanted) == (13, 7, 7)


def every_loss(
    oracle: Oracle, made: tuple[Family, ...], budgets: list[Budget]
) -> Iterator[tuple[int, float]]:
    """Yield (lanes dropped, loss) of every combination of numbers of units that keeps the budgets."""
    known: dict[Counts, bool] = {}
    for counts in itertools.product(*(family.steps.tolist() for family in made)):
        drop = dropped(oracle.analysis, made, counts)
        of_class = oracle.of_drop(drop)
        if of_class not in known:
            known[of_class] = keeps(oracle, of_class, budgets)
        if known[of_class]:
            yield int(drop.sum()), total_loss(made, np.array(counts))


@pytest.mark.parametrize("seed", range(120))
def test_least_is_lost_within_one_percent(seed: int) -> None:
    rng = np.random.default_rng(9000 + seed)
    oracle = ORACLES[seed % len(ORACLES)]
    analysis = oracle.analysis
    scores = np.exp(2 * rng.standard_normal(analysis.lanes.count))
    min_keep = float(rng.choice([0.0, 0.1, 0.4]))
    round_to: int | Rounding = (1, 1, 2, 4, Rounding(8, 4))[seed % 5]
    made = offered(analysis, scores, min_keep, round_to)
    if math.prod(len(family.steps) for family in made) > MOST // 5:
        pytest.skip("too many combinations")
    budgets = budgets_for(oracle, asked_for(rng, oracle))
    made = weighed(Costs(made, [each.counted() for each in budgets]), lanes=False).families
    best = min((loss for _, loss in every_loss(oracle, made, budgets)), default=None)
    try:
        choice = choose(
            analysis, scores, budgets=budgets, scope="global", min_keep=min_keep, round_to=round_to
        )
    except OutOfReach:
        assert best is None
        return
    assert best is not None
    counts = [int(choice.drop[family.units[:, 0]].sum()) for family in made]
    assert (dropped(analysis, made, tuple(counts)) == choice.drop).all()
    assert all(count in family.steps for count, family in zip(counts, made, strict=True))
    assert total_loss(made, np.array(counts)) <= best * 1.01 + 1e-9
    assert keeps(oracle, oracle.of_drop(choice.drop), budgets)


@pytest.mark.parametrize("scope", ["dimension", "global"])
@pytest.mark.parametrize("round_to", [2, 4, Rounding(8, 2)])
@pytest.mark.parametrize("seed", range(12))
def test_with_widths_no_step_back_would_fit(seed: int, scope: Scope, round_to: int | Rounding) -> None:
    rng = np.random.default_rng(seed)
    oracle = ORACLES[seed % 11]
    analysis, scores = oracle.analysis, rng.random(oracle.analysis.lanes.count)
    budgets = budgets_for(oracle, {"macs": 0.2 + 0.7 * float(rng.random())})
    made = offered(analysis, scores, 0.0, round_to)
    try:
        choice = choose(analysis, scores, budgets=budgets, scope=scope, round_to=round_to)
    except OutOfReach:
        assert not list(every_loss(oracle, made, budgets))
        return
    counts = np.array([choice.drop[family.units[:, 0]].sum() for family in made])
    for number, back in enumerate(moved(made, counts, back=True)):
        if back < counts[number]:
            fewer = [*counts[:number].tolist(), int(back), *counts[number + 1 :].tolist()]
            assert not keeps(oracle, oracle.of_drop(dropped(analysis, made, tuple(fewer))), budgets)


@pytest.mark.parametrize("seed", range(110))
def test_lanes_and_budgets_together(seed: int) -> None:
    """Where the number of lanes can be met under the budgets, it is; else no more go than budgets ask for.

    Where budgets alone let fewer go, as little is lost as can be.
    """
    rng = np.random.default_rng(400 + seed)
    oracle = ORACLES[seed % 11]
    analysis, scores = oracle.analysis, rng.random(oracle.analysis.lanes.count)
    sparsity = float(rng.random())
    asked = min(1.0, max(0.02, 1 - sparsity * float(rng.uniform(0.3, 2))))
    budgets = budgets_for(oracle, {"macs": asked})
    made = offered(analysis, scores, 0.0, 1)
    if math.prod(len(family.steps) for family in made) > MOST // 5:
        pytest.skip("too many combinations")
    made = weighed(Costs(made, [each.counted() for each in budgets]), lanes=True).families
    found: dict[int, float] = {}
    for lanes, loss in every_loss(oracle, made, budgets):
        found[lanes] = min(loss, found.get(lanes, np.inf))
    try:
        choice = choose(analysis, scores, sparsity, budgets=budgets, scope="global")
    except OutOfReach:
        assert not found
        return
    except UsageError:
        prunable = sum(dimension.size for dimension in analysis.prunable)
        assert min(found) > round(sparsity * prunable) + max(NEAR * prunable, 2)
        return
    assert keeps(oracle, oracle.of_drop(choice.drop), budgets)
    nearest = choose(analysis, scores, sparsity).dropped
    assert choice.dropped == (nearest if nearest in found else min(n for n in found if n > nearest))
    if nearest in found and min(found, key=lambda lanes: found[lanes]) <= nearest:
        counts = np.array([choice.drop[family.units[:, 0]].sum() for family in made])
        assert total_loss(made, counts) <= found[nearest] * 1.01 + 1e-9


def test_the_same_share_and_a_budget_that_asks_for_more_contradict() -> None:
    oracle = ORACLES[4]
    scores = np.ones(oracle.analysis.lanes.count)
    budgets = budgets_for(oracle, {"macs": 0.3})
    with pytest.raises(
        UsageError,
        match=r"--sparsity 0.1 and --macs 0.3 contradict: .* stay when 1 of 11 groups go, the same share of every "
        "dimension: try --scope global, or leave one of the two out",
    ):
        choose(oracle.analysis, scores, 0.1, budgets=budgets)


# --- weights --------------------------------------------------------------------------------------------------


def test_where_dimensions_look_alike_the_same_share_goes_of_each() -> None:
    """Whatever their widths and what a lane of each costs: none is emptied for the sake of its neighbour."""
    analysis = chained(12, 48, 24)
    scores = np.random.default_rng(0).uniform(0.9, 1.1, analysis.lanes.count)
    of_all = parameter_terms(analysis)
    for share in (0.5, 0.25):
        made = families(analysis, scores)
        most = share * float(Costs(made, [(of_all, 1.0)]).at(np.zeros(len(made), np.int64))[0])
        costs = weighed(Costs(made, [(of_all, most)]), lanes=False)
        left = 1 - under_budgets(costs) / np.array([f.size for f in made])
        assert np.ptp(left) < 0.1
        assert np.ptp(under_budgets(Costs(made, [(of_all, most)])) / [f.size for f in made]) > np.ptp(left)


def test_a_family_that_saves_nothing_keeps_all() -> None:
    analysis = chained(6, 4)
    made = families(analysis, np.ones(analysis.lanes.count))
    first = terms([(1.0, [made[0].lanes])])
    costs = weighed(Costs(made, [(first, 3.0)]), lanes=False)
    assert all((np.diff(family.loss) > 0).all() for family in costs.families)
    assert under_budgets(costs).tolist() == [3, 0]


# --- parts ----------------------------------------------------------------------------------------------------


def test_what_costs_nothing_stays() -> None:
    analysis = chained(6, 4)
    made = families(analysis, np.ones(analysis.lanes.count))
    assert under_budgets(Costs(made, [(parameter_terms(analysis), 66.0)])).tolist() == [0, 0]
    assert under_budgets(Costs(made, ())).tolist() == [0, 0]
    assert under_budgets(Costs((), [(parameter_terms(analysis), 1.0)])).size == 0


def test_what_cannot_be_kept_takes_all_that_may_go() -> None:
    analysis = chained(6, 4)
    made = families(analysis, np.ones(analysis.lanes.count))
    costs = Costs(made, [(parameter_terms(analysis), 8.0)])
    assert not fits(costs, everything(made))
    assert under_budgets(costs).tolist() == everything(made).tolist() == [5, 3]
    assert filled(costs, everything(made)).tolist() == [5, 3]


def test_steps() -> None:
    analysis = chained(9)
    (family,) = families(analysis, np.ones(analysis.lanes.count))
    family = family.allowing(np.array([0, 3, 7]))
    assert [nearest_step(family, level) for level in (-1, 1.5, 1.6, 5, 5.1, 9)] == [0, 0, 3, 3, 7, 7]
    for at, on, back in ((0, 3, 0), (3, 7, 0), (7, 7, 3)):
        assert moved([family], np.array([at])).tolist() == [on]
        assert moved([family], np.array([at]), back=True).tolist() == [back]
