"""The script that another interpreter runs: what it counts, and that any Python can run it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from onnx_oto.runtime.bench import bench_child
from onnx_oto.runtime.bench.bench_child import interleaved, runs_in_profile, usual
from onnx_oto.runtime.bench.driver import ENGINES

SOURCE = Path(bench_child.__file__).read_text(encoding="utf-8")


def test_it_imports_nothing_but_the_standard_library_and_is_python_3_9() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_both_sides_know_the_same_engines() -> None:
    assert tuple(bench_child.ENGINES) == ENGINES[1:]


def test_each_round_begins_with_the_next_and_everyone_runs_once_uncounted_before() -> None:
    ran: list[str] = []
    times = interleaved([lambda n=n: ran.append(n) for n in "abc"], 0.0, 4, 9)  # type: ignore[misc]
    assert "".join(ran) == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"
    assert [len(its) for its in times] == [4, 4, 4]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (60.0, 5)])
def test_rounds_are_at_least_and_at_most_so_many(seconds: float, rounds: int) -> None:
    ran: list[int] = []
    assert len(interleaved([lambda: ran.append(0)], seconds, 3, 5)[0]) == len(ran) == rounds


def kernel(name: str, op: str, begin: int, took: int) -> dict[str, object]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": took, "args": {"op_name": op}}


def run(begin: int) -> dict[str, object]:
    return {"cat": "Session", "name": "model_run", "ts": begin, "dur": 90}


def test_a_profile_is_split_into_runs_and_bodies_count_with_their_node() -> None:
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 50},
        kernel("a", "Relu", 110, 5),
        {"cat": "Node", "name": "a_fence_before", "ts": 109, "dur": 0, "args": {"op_name": "Relu"}},
        kernel("inside", "Add", 121, 3),
        kernel("inside", "Add", 125, 3),
        kernel("b", "Loop", 120, 20),
        kernel("c", "Add", 140, 0),
        run(100),
        kernel("a", "Relu", 210, 7),
        kernel("b", "Loop", 220, 30),
        kernel("c", "Add", 250, 1),
        run(200),
    ]
    first, second = runs_in_profile(events)
    assert first == [("a", "Relu", 0.005), ("b", "Loop", 0.02), ("c", "Add", 0.0)]
    assert second == [("a", "Relu", 0.007), ("b", "Loop", 0.03), ("c", "Add", 0.001)]


def test_lower_quartiles_are_of_runs_that_are_whole_and_names_may_repeat() -> None:
    runs = [[("a", "Relu", t), ("a", "Relu", 10 * t)] for t in (1.0, 5.0, 3.0, 9.0)]
    assert usual([[("a", "Relu", 90.0)], *runs]) == [("a", "Relu", 3.0), ("a", "Relu", 30.0)]
