"""Costs by the numbers of units are those by lanes, and changes of them are differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contract.random_check import random_model

from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, analyse, score
from onnx_oto.zigs.cost import count_macs, symbol_sizes
from onnx_oto.zigs.counting import Costs
from onnx_oto.zigs.terms import Terms, mac_terms, parameter_terms, terms
from onnx_oto.zigs.units import Family, families

from .models import GROUPED, HALVES, analysis_of, chained


def sample(seed: int) -> Analysis:
    rng = np.random.default_rng(seed)
    return analyse(normalise(random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)))


MODELS = [chained(6, 10, 4), analysis_of(GROUPED), analysis_of(HALVES), *map(sample, range(12))]


def costs_of(analysis: Analysis, block: float = 1.0) -> tuple[tuple[Family, ...], list[Terms], Costs]:
    both = [
        parameter_terms(analysis),
        mac_terms(analysis, symbol_sizes(analysis, count_macs(analysis).at)),
    ]
    both = [replace(each, block=np.append(1.0, np.full(len(each.axes) - 1, block))) for each in both]
    made = families(analysis, score(analysis, "random", 3))
    return made, both, Costs(made, [(each, 10.0) for each in both])


def kept(analysis: Analysis, made: tuple[Family, ...], counts: np.ndarray) -> np.ndarray:
    keep = np.ones(analysis.lanes.count, bool)
    for family, count in zip(made, counts, strict=True):
        keep[family.units[:count].reshape(-1)] = False
    return keep


@pytest.mark.parametrize("block", [1.0, 4.0])
@pytest.mark.parametrize("index", range(len(MODELS)))
def test_costs_by_counts_are_those_of_the_lanes_that_stay(index: int, block: float) -> None:
    analysis = MODELS[index]
    made, both, costs = costs_of(analysis, block)
    rng = np.random.default_rng(index)
    for _ in range(5):
        counts = np.array([rng.choice(f.steps) for f in made], np.int64)
        to = np.array([rng.choice(f.steps) for f in made], np.int64)
        expected = [each.at(kept(analysis, made, counts)) / 10 for each in both]
        np.testing.assert_allclose(costs.at(counts), expected, rtol=1e-12)
        changes = costs.changes(counts, to)
        assert changes.shape == (2, len(made))
        for number in range(len(made)):
            alone = counts.copy()
            alone[number] = to[number]
            difference = costs.at(alone) - costs.at(counts)
            np.testing.assert_allclose(changes[:, number], difference, rtol=1e-9, atol=1e-9)


def test_without_costs_or_families_there_is_nothing_to_count() -> None:
    analysis = chained(4)
    made = families(analysis, np.ones(analysis.lanes.count))
    none = Costs(made, ())
    assert (none.number, none.work) == (0, 0)
    assert none.changes(np.array([0]), np.array([1])).shape == (0, 1)
    empty = Costs((), [(parameter_terms(analysis), 1.0)])
    assert empty.at(np.zeros(0, np.int64)).tolist() == [32.0]
    assert empty.changes(np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (1, 0)


def test_costs_of_other_losses_are_the_same() -> None:
    made, _, costs = costs_of(chained(6, 10))
    other = costs.of([replace(family, loss=-family.loss) for family in made])
    counts = np.array([2, 3])
    np.testing.assert_array_equal(other.at(counts), costs.at(counts))
    assert other.families[0].loss[-1] == -made[0].loss[-1]


def test_what_no_family_changes_costs_what_it_costs() -> None:
    """A model whose multiply-accumulates lie elsewhere, or that has none."""
    analysis = chained(4)
    made = families(analysis, np.ones(analysis.lanes.count))
    for products in ([(3.0, [np.array([0, 1, 2])])], [], [(5.0, [])]):
        costs = Costs(made, [(terms(products), 2.0)])
        assert costs.at(np.array([2])).tolist() == [sum(w * (3 if f else 1) for w, f in products) / 2]
        assert costs.changes(np.array([0]), np.array([3])).tolist() == [[0.0]]
