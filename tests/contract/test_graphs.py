"""Small graphs of the shapes that real networks have, under the exactness contract."""

from __future__ import annotations

import pytest

from . import graphs_bodies, graphs_form, graphs_reading, graphs_sequence, graphs_vision
from .graphs import Graph

GRAPHS = [
    *graphs_vision.GRAPHS,
    *graphs_sequence.GRAPHS,
    *graphs_form.GRAPHS,
    *graphs_reading.GRAPHS,
    *graphs_bodies.GRAPHS,
]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_graph_is_exact_and_as_expected(graph: Graph) -> None:
    graph.run()


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_graph_is_exact_when_heads_stay(graph: Graph) -> None:
    graph.run(head_dims=True)
