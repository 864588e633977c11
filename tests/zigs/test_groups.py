"""ZIGs: disjoint, and exactly what zeroing zeroes."""

from __future__ import annotations

import numpy as np
import pytest
from contract.builder import build
from contract.graphs_sequence import GRAPHS as SEQUENCE
from contract.graphs_vision import GRAPHS as VISION
from contract.graphs_vision import RESIDUAL
from onnx import numpy_helper

from onnx_oto.errors import UsageError
from onnx_oto.model import normalise
from onnx_oto.zigs import analyse, choose, group_slices, score, trainable, zero_dropped
from onnx_oto.zigs.blocks import zig_blocks
from onnx_oto.zigs.groups import zero_lanes

from .models import chained

GRAPHS = [*VISION, *SEQUENCE]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_an_element_is_in_one_group_at_most(graph) -> None:  # type: ignore[no-untyped-def]
    """Groups of different lanes share no element: that is what the optimizer needs."""
    analysis = analyse(normalise(graph.model()))
    owner: dict[str, np.ndarray] = {}
    for piece in group_slices(analysis):
        open_ = ~analysis.lanes.frozen[piece.lanes]
        weight = analysis.graph.constant(piece.param)
        assert weight is not None
        lanes = np.where(open_, piece.lanes, -1)
        wide = np.broadcast_to(
            lanes.reshape([-1 if i == piece.axis else 1 for i in range(weight.ndim)]), weight.shape
        )
        wide = wide[piece.rows]
        before = owner.setdefault(piece.param, np.full(weight.shape, -1))[piece.rows]
        clash = (before >= 0) & (wide >= 0) & (before != wide)
        assert not clash.any(), piece.param
        owner[piece.param][piece.rows] = np.maximum(before, wide)
    for dimension in analysis.prunable:
        groups = [p for p in group_slices(analysis) if np.isin(p.lanes, dimension.lanes).any()]
        assert groups, f"'{dimension.name}' is prunable and nothing produces it"


def test_zeroing_touches_the_groups_of_dropped_lanes_only() -> None:
    analysis = analyse(normalise(build(RESIDUAL)))
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    zeroed = {t.name: numpy_helper.to_array(t) for t in zero_dropped(analysis, drop).graph.initializer}
    expected = {t.name: numpy_helper.to_array(t).copy() for t in analysis.model.graph.initializer}
    for piece in group_slices(analysis):
        for index, lane in enumerate(piece.lanes):
            if drop[lane]:
                expected[piece.param][(slice(None),) * piece.axis + (index,)] = 0
    for name, value in expected.items():
        np.testing.assert_array_equal(zeroed[name], value, name)
    assert (zeroed["n1m"] != 0).all()
    assert (zeroed["w2"][(zeroed["w2"] == 0).all((1, 2, 3))] == 0).all()


def test_zero_lanes_finds_what_was_zeroed() -> None:
    analysis = analyse(normalise(build(RESIDUAL)))
    assert not zero_lanes(analysis).any()
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    again = analyse(zero_dropped(analysis, drop))
    np.testing.assert_array_equal(zero_lanes(again), drop)


def test_trainable_are_weights_scales_shifts_not_statistics() -> None:
    names = trainable(analyse(normalise(build(RESIDUAL))))
    assert {"w0", "w1", "w2", "n1s", "n1p", "wh", "bh"} <= set(names)
    assert not {"n1m", "varn1"} & set(names)


def test_a_shift_by_a_table_is_trained_a_scalar_is_not() -> None:
    text = """g (float[N,5] x) => (float[N,3] y)
    <float[5,8] w0, float[8] p, float s = {2.0}, float[8,3] w1>
    { a = MatMul(x, w0) b = Add(a, p) c = Mul(b, s) y = MatMul(c, w1) }"""
    assert set(trainable(analyse(normalise(build(text))))) == {"w0", "p", "w1"}


def test_magnitude_ranks_by_the_norm_of_the_group() -> None:
    analysis = chained(4)
    lanes = analysis.prunable[0].lanes
    weight = analysis.graph.constant("w0")
    assert weight is not None
    order = np.argsort(score(analysis, "magnitude")[lanes])
    np.testing.assert_array_equal(order, np.argsort(np.linalg.norm(weight, axis=0)))


def test_random_scores_depend_on_the_seed_only() -> None:
    analysis = chained(8)
    np.testing.assert_array_equal(score(analysis, "random", 3), score(analysis, "random", 3))
    assert (score(analysis, "random", 3) != score(analysis, "random", 4)).any()


def test_an_unknown_score_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="there is no score 'size': choose one of magnitude"):
        score(chained(4), "size")


def test_blocks_of_a_flat_buffer_are_the_slices_that_are_zeroed() -> None:
    graph = next(g for g in VISION if g.name.startswith("decoder with a transposed convolution"))
    analysis = analyse(normalise(graph.model()))
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    weights = {t.name: numpy_helper.to_array(t) for t in analysis.model.graph.initializer}
    zeroed = {t.name: numpy_helper.to_array(t) for t in zero_dropped(analysis, drop).graph.initializer}
    offsets = dict(zip(weights, np.cumsum([0, *(w.size for w in weights.values())]), strict=False))
    flat = np.concatenate([w.reshape(-1) for w in weights.values()]).astype(np.float64)
    slices = {name: (int(offsets[name]), weight.shape) for name, weight in weights.items()}
    entries, lanes = zig_blocks(analysis, slices)
    scales = [entry[0] for entry in entries if entry[5]]
    read = [node.inputs[1] for node in analysis.graph.nodes if node.op == "BatchNormalization"]
    assert scales == [slices[name][0] for name in read]
    assert len(scales) == 1
    for offset, outer, size, inner, zigs, _ in entries:
        view = flat[offset : offset + outer * size * inner].reshape(outer, size, inner)
        view[:, (zigs >= 0) & drop[lanes[zigs]]] = 0
    np.testing.assert_array_equal(flat, np.concatenate([w.reshape(-1) for w in zeroed.values()]))
