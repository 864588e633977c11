"""What a budget is, and how it is told."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from contract.random_check import random_model

from onnx_oto.errors import UsageError
from onnx_oto.model import normalise
from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, analyse, choose
from onnx_oto.zigs.budgets import Budget, OutOfReach, budget, shown
from onnx_oto.zigs.choose import Scope, choose_zeros
from onnx_oto.zigs.groups import zero_dropped
from onnx_oto.zigs.terms import parameter_terms, terms
from onnx_oto.zigs.widths import fixed

from .models import GROUPED, HALVES, analysis_of, chained

TERMS = terms([(2.0, [np.arange(10)])])


def test_a_bare_number_is_a_share_and_a_quantity_is_itself() -> None:
    assert budget("params", 0.5, 20, TERMS).most == 10
    assert budget("params", 0.58, 200, TERMS).most == 116  # 0.58 * 200 is less
    assert budget("params", "1.5k", 20, TERMS).most == 1500
    assert budget("bytes", "2KiB", 20, TERMS).most == 2048


def test_what_no_lane_changes_counts_too() -> None:
    drop = np.zeros(10, bool)
    drop[:4] = True
    each = budget("bytes", 0.5, 30, TERMS, 10)
    assert each.cost(drop) == 2 * 6 + 10
    assert each.counted()[1] == 5
    assert each.tightened(25, 22).cost(drop) == 25
    assert each.tightened(25, 22).counted()[1] == 2


def test_what_may_be_counted_is_above_zero() -> None:
    assert budget("params", 0.4, 20, TERMS).counted()[1] == 8
    assert budget("params", "1k", 20, TERMS).counted()[1] == 1000
    assert 0 < budget("bytes", 0.1, 30, TERMS, 10).counted()[1] < 1e-6  # used up by what no lane changes


@pytest.mark.parametrize(
    ("name", "cost", "text"),
    [
        ("params", 0, "0"), ("params", 999, "999"), ("params", 1000, "1.00k"), ("macs", 999_499, "999k"),
        ("macs", 999_500, "1.00M"), ("macs", 2.5e13, "25.0T"), ("bytes", 12, "12 B"),
        ("bytes", 1_234_567, "1.23 MB"), ("latency", 0.5, "0.500 ms"), ("latency", 123.4, "123 ms"),
    ],
)  # fmt: skip
def test_costs_are_told_to_three_digits(name: str, cost: float, text: str) -> None:
    assert shown(name, cost) == text


def test_a_cost_is_told_as_a_share() -> None:
    assert budget("params", 0.5, 20, TERMS).told(10) == "50.0% of the parameters (10)"
    assert budget("macs", 0.5, 0, TERMS).told(0) == "100.0% of the MACs (0)"


# --- what cannot be -------------------------------------------------------------------------------------------


def of_params(analysis: Analysis, asked: float | str) -> list[Budget]:
    return [budget("params", asked, analysis.params, parameter_terms(analysis))]


def refused(analysis: Analysis, asked: float | str, **options: object) -> OutOfReach:
    scores = np.zeros(analysis.lanes.count)
    with pytest.raises(OutOfReach) as error:
        choose(analysis, scores, budgets=of_params(analysis, asked), **options)  # type: ignore[arg-type]
    assert isinstance(error.value, UsageError)
    share = float(str(error.value).rsplit(" ", 3)[1])
    choice = choose(analysis, scores, budgets=of_params(analysis, share), **options)  # type: ignore[arg-type]
    assert (choice.drop == error.value.drop).all()
    return error.value


def test_min_keep_is_named() -> None:
    told = str(refused(chained(10, 10), 0.3, scope="global", min_keep=0.5))
    assert told.startswith(
        "--params 0.3 cannot be reached: 36.1% of the parameters (65) stay when all goes that may go"
    )
    assert told.endswith("--min-keep 0.5 keeps them: lower it, or give --params 0.362 or more")


def test_widths_are_named() -> None:
    told = str(refused(chained(12, 12), 0.1, round_to=4))
    assert "widths that are multiples of 4 keep them: give --round-to 1, or give --params 0.2 or more" in told


def test_the_frozen_dimension_that_keeps_most_is_named() -> None:
    text = """g (float[N,5] x) => (float[N,9] y, float[N,3] z) <float[5,9] w0, float[5,8] w1, float[8,3] w2>
    { y = MatMul(x, w0) a = MatMul(x, w1) z = MatMul(a, w2) }"""
    told = str(refused(analysis_of(text), "0.02k"))
    assert told.startswith("--params 0.02k cannot be reached: 48.6% of the parameters (53) stay")
    assert "most of it is kept by 'w0' (9 channels): it is part of the model's output 'y'" in told


def test_what_is_larger_than_the_full_model_is_no_remedy() -> None:
    analysis = chained(4)
    each = budget("params", 0.9, analysis.params, parameter_terms(analysis), fixed=100)
    with pytest.raises(OutOfReach, match=r"; leave --params out$"):
        choose(analysis, np.zeros(analysis.lanes.count), budgets=[each])


LAYER_NORM = """g (float[N,5] x) => (float[N,3] y)
<float[5,12] w0, float[12] s, float[12] b, float[12,8] w1, float[8,3] w2>
{ a = MatMul(x, w0) n = LayerNormalization<axis=-1>(a, s, b) h = MatMul(n, w1) r = Relu(h) y = MatMul(r, w2) }"""
"""A norm over what may go: its scale and shift are padded, and stay as long as they are."""


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65, 0.8])
def test_what_is_padded_again_saves_nothing(share: float) -> None:
    analysis = analysis_of(LAYER_NORM)
    (each,) = of_params(analysis, share)
    drop = choose(analysis, np.arange(analysis.lanes.count, dtype=float), budgets=[each], scope="global").drop
    small = compact(analysis, drop)
    stored = sum(math.prod(t.dims) for t in small.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert stored == each.cost(drop) <= each.most
    assert drop[analysis.prunable[0].lanes].any()


# --- what is gone ---------------------------------------------------------------------------------------------


def a_model(rng: np.random.Generator, seed: int) -> Analysis:
    """Return one of four models, or a random one."""
    if seed % 8 < 4:
        return [chained(12, 9), chained(7, 5, 6), analysis_of(GROUPED), analysis_of(HALVES)][seed % 4]
    return analyse(normalise(random_model(lambda n: int(rng.integers(n)), 3 + seed % 13, seed=seed)))


@pytest.mark.parametrize("seed", range(240))
def test_part_by_part_what_died_stays_and_the_end_is_what_was_asked_for(seed: int) -> None:
    """Of what was chosen only some died when the next part is chosen, with other scores: no lane comes back, and in
    the end budgets are kept, widths are right, and what is zero can be cut out, all of it."""
    rng = np.random.default_rng(seed)
    analysis = a_model(rng, seed)
    scope: Scope = "global" if seed // 4 % 2 else "dimension"
    budgets = of_params(analysis, float(rng.uniform(0.5, 0.95)))
    rounding, min_keep = fixed((1, 1, 2, 4)[seed % 3 + seed % 2]), (0.0, 0.1, 0.3)[seed % 3]
    options = {"budgets": budgets, "scope": scope, "round_to": rounding, "min_keep": min_keep}
    try:
        choose(analysis, np.zeros(analysis.lanes.count), **options)  # type: ignore[arg-type]
    except OutOfReach:
        return
    gone = np.zeros(analysis.lanes.count, bool)
    for part in (0.1, 0.4, 0.7, 0.7, 1.0):
        choice = choose(analysis, rng.random(gone.size), gone=gone, part=part, **options)  # type: ignore[arg-type]
        assert (choice.drop >= gone).all()
        gone |= choice.drop & ((rng.random(gone.size) < 0.5) | (part == 1.0))
    assert (gone == choice.drop).all()
    assert budgets[0].allows(budgets[0].cost(gone))
    again = choose(analysis, rng.random(gone.size), gone=gone, **options)  # type: ignore[arg-type]
    assert (again.drop == gone).all()
    zeroed = analyse(zero_dropped(analysis, gone))
    assert (choose_zeros(zeroed, rounding, min_keep if scope == "global" else 0.0).drop >= gone).all()
    for rows, _ in analysis.lanes.balanced:
        assert len(set(gone[rows].sum(1).tolist())) == 1
    for lanes in (*analysis.nonempty, *(d.lanes for d in analysis.prunable)):
        assert not gone[lanes].all()


def test_a_part_is_of_the_whole_that_would_go() -> None:
    """Not what a part of the budget asks for: that could lie where the whole takes nothing."""
    rng = np.random.default_rng(0)
    analysis = chained(16, 12, 8)
    scores = rng.random(analysis.lanes.count)
    none = np.zeros(analysis.lanes.count, bool)
    budgets = of_params(analysis, 0.4)
    whole = choose(analysis, scores, budgets=budgets, scope="global", gone=none).drop
    for part in (0.1, 0.25, 0.5, 0.9):
        choice = choose(analysis, scores, budgets=budgets, scope="global", gone=none, part=part)
        assert not (choice.drop & ~whole).any()
        assert abs(choice.dropped - part * whole.sum()) <= 0.5
        for dimension in analysis.prunable:
            lanes = dimension.lanes
            assert abs(choice.drop[lanes].sum() - part * whole[lanes].sum()) <= 1
            staying, going = (
                scores[lanes[whole[lanes] & ~choice.drop[lanes]]],
                scores[lanes[choice.drop[lanes]]],
            )
            assert going.max(initial=0.0) <= staying.min(initial=1.0)


def test_a_part_of_the_lanes_goes_with_the_part() -> None:
    analysis = chained(10, 10)
    gone = np.zeros(analysis.lanes.count, bool)
    for part, dropped in ((0.2, 2), (0.5, 5), (1.0, 10)):
        choice = choose(analysis, np.arange(gone.size, dtype=float), 0.5, gone=gone, part=part)
        assert (choice.dropped, choice.wanted) == (dropped, 10)
        gone = choice.drop


def test_while_a_run_trains_nothing_is_refused() -> None:
    """What random scores could reach, others may miss: then as much goes as may go, and training goes on."""
    analysis = chained(8, 8)
    none = np.zeros(analysis.lanes.count, bool)
    for scope in ("dimension", "global"):
        choice = choose(
            analysis,
            np.zeros(none.size),
            budgets=of_params(analysis, 0.01),
            scope=scope,
            gone=none,  # type: ignore[arg-type]
        )
        assert choice.dropped == 14
    choice = choose(analysis, np.zeros(none.size), 0.25, budgets=of_params(analysis, 0.2), gone=none)
    assert choice.dropped == 4
