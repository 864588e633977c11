"""What a choice of lanes is said to cost is what the compact model costs, when it is cut out and counted anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from contract.random_check import random_model
from contract.rows import Row
from contract.test_ops import ROWS
from onnx import ModelProto

from onnx_oto.model import normalise
from onnx_oto.surgery import compact
from onnx_oto.zigs import AnalysisOptions, analyse, choose, score
from onnx_oto.zigs.cost import count_macs, symbol_sizes
from onnx_oto.zigs.terms import in_blocks, mac_terms, parameter_terms, terms

from .models import GROUPED, analysis_of, chained

DROPS = ((0, 0.5), (1, 0.3), (2, 0.85))
"""Seeds and sparsities."""


def check(model: ModelProto, *, head_dims: bool = False) -> None:
    """Assert what is counted of a model, parameter by parameter and node by node, for a few random choices.

    What surgery adds (pads, scales around a norm) has other names than the parameters it stands for. A product in which
    one position is left has no lanes any more: analysis counts nothing for a node without lanes.
    """
    analysis = analyse(normalise(model), AnalysisOptions(head_dims=head_dims))
    at = count_macs(analysis).at
    sizes = symbol_sizes(analysis, at)
    everything = np.ones(analysis.lanes.count, bool)
    assert parameter_terms(analysis).at(everything) == analysis.params
    assert mac_terms(analysis, sizes).at(everything) == count_macs(analysis).count
    for seed, sparsity in DROPS:
        drop = choose(analysis, score(analysis, "random", seed), sparsity).drop
        small = analyse(compact(analysis, drop))
        for tensor in small.graph.initializers.values():
            if tensor.name in analysis.graph.initializers:
                counted = parameter_terms(analysis, {tensor.name: 1.0}).at(~drop)
                assert counted == math.prod(tensor.dims), tensor.name
        left = np.ones(small.lanes.count, bool)
        of_label = analysis.lanes.of_label
        for node, products in analysis.trace.macs.items():
            counted = mac_terms(analysis, sizes, [node]).at(~drop)
            if node in small.trace.macs:
                assert counted == mac_terms(small, symbol_sizes(small, at), [node]).at(left), node
            else:
                kept = [(~drop[of_label[labels]]).sum() for each in products for labels in each.counted]
                assert 1 in kept, node


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_operator_is_counted(row: Row) -> None:
    check(row.model())


@pytest.mark.parametrize("seed", range(40))
def test_random_models_are_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)
    check(model, head_dims=bool(seed % 2))


def test_a_chain_costs_the_products_of_its_widths() -> None:
    analysis = chained(6, 10)
    keep = np.ones(analysis.lanes.count, bool)
    first, second = (dimension.lanes for dimension in analysis.prunable)
    keep[first[:2]] = keep[second[:7]] = False
    for counted in (parameter_terms(analysis), mac_terms(analysis, {})):
        assert counted.at(keep) == 5 * 4 + 4 * 3 + 3 * 3


def test_of_a_grouped_convolution_the_channels_of_one_group_count() -> None:
    analysis = analysis_of(GROUPED)
    drop = choose(analysis, score(analysis, "random", 0), 0.5).drop
    w1 = parameter_terms(analysis, {"w1": 1.0})
    assert (w1.at(np.ones_like(drop)), w1.at(~drop)) == (8 * 4 * 9, 4 * 2 * 9)
    conv = analysis.graph.nodes[2].name
    assert mac_terms(analysis, {}, [conv]).at(~drop) == 4 * 2 * 9 * 36


def test_what_is_counted_is_what_its_elements_are_said_to_be() -> None:
    analysis = chained(6)
    keep = np.ones(analysis.lanes.count, bool)
    assert parameter_terms(analysis, {"w0": 4.0}).at(keep) == 4 * 5 * 6
    assert parameter_terms(analysis, {}).at(keep) == 0
    assert mac_terms(analysis, {}, ["out"]).at(keep) == 6 * 3
    assert mac_terms(analysis, {}, []).at(keep) == 0


def test_equal_axes_are_told_once_whatever_their_order() -> None:
    one, other, rest = np.array([3, 1, 2]), np.array([1, 2, 3]), np.array([4, 5])
    made = terms([(2.0, [one, rest]), (3.0, [rest, other]), (5.0, []), (7.0, [one, one])])
    assert len(made.axes) == 3
    assert sorted(made.weight.tolist()) == [5.0, 5.0, 7.0]
    keep = np.array([True, True, False, True, True, True])
    assert made.at(keep) == 5.0 * 2 * 2 + 5.0 + 7.0 * 2 * 2


def test_a_lane_that_stands_on_an_axis_twice_takes_two_of_its_positions() -> None:
    made = terms([(1.0, [np.array([0, 0, 1])])])
    assert made.at(np.array([True, False])) == 2
    assert made.at(np.array([False, True])) == 1


def test_widths_are_counted_in_whole_blocks() -> None:
    widths = np.array([1.0, 30.0, 32.0, 33.0, 0.0])
    assert in_blocks(widths, np.array([1.0, 16.0, 16.0, 16.0, 16.0])).tolist() == [1, 32, 32, 48, 0]
