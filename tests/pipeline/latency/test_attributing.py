"""Times in a profile are led back to nodes by names alone."""

from __future__ import annotations

import pytest

from onnx_oto.model import normalise
from onnx_oto.model.view import Graph, graph
from onnx_oto.pipeline.latency.attributing import attributed, events
from onnx_oto.runtime.bench import NodeTime
from tests.contract.builder import build

TEXT = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w0, float[4,4,1,1] w1>
{ [first] a = Conv(x, w0) [act] b = Relu(a) [second] c = Conv(b, w1) [sum] d = Add(c, b) [last] y = Relu(d) }"""


@pytest.fixture(scope="module")
def view() -> Graph:
    return graph(normalise(build(TEXT)))


def run(view: Graph, *names: str) -> dict[str, list[str]]:
    """Return the nodes that each event has run."""
    found = attributed(view, list(events(NodeTime(name, "?", 1.0) for name in names)))
    return {event[0]: [node.name for node in nodes] for event, nodes in found.items()}


def test_nodes_by_their_names(view: Graph) -> None:
    every = ["first", "act", "second", "sum", "last"]
    assert run(view, *every) == {name: [name] for name in every}


def test_what_is_fused_is_run_by_the_event_behind_it(view: Graph) -> None:
    """ONNX Runtime names a blocked convolution after the tensor that comes out: Conv, Add and Relu in one."""
    assert run(view, "b_nchwc", "y_nchwc") == {
        "b_nchwc": ["first", "act"],
        "y_nchwc": ["second", "sum", "last"],
    }


def test_what_is_put_behind_a_name_is_taken_off(view: Graph) -> None:
    assert run(view, "first/SomeFusion", "act_token_3") == {
        "first/SomeFusion": ["first"],
        "act_token_3": ["act"],
    }


def test_a_name_may_stand_inside_another_one(view: Graph) -> None:
    assert run(view, "fused second", "my-act.v2") == {
        "fused second": ["second"],
        "my-act.v2": ["first", "act"],
    }
    assert run(view, "seconds", "factor") == {}


def test_what_no_name_leads_to_is_missing(view: Graph) -> None:
    assert run(view, "ReorderOutput", "first", "unknown_7") == {"first": ["first"]}


def test_what_a_runtime_splits_is_several_events(view: Graph) -> None:
    assert run(view, "first", "first/WithoutBiases") == {"first": ["first"], "first/WithoutBiases": ["first"]}


def test_events_of_one_name_are_numbered() -> None:
    found = events([NodeTime("r", "R", 1.0), NodeTime("s", "R", 2.0), NodeTime("r", "R", 3.0)])
    assert found == {("r", "R", 0): 1.0, ("s", "R", 0): 2.0, ("r", "R", 1): 3.0}
