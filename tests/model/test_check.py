"""What onnx's checker says, in a line."""

from __future__ import annotations

import time

import pytest

from onnx_oto.model.files.check import first_lines


def test_places_in_the_source_are_left_out():
    said = "/src/onnx/checker.cc:12: check_node: Node 'a'\nhas no output\n==> Context: Bad node"
    assert first_lines(RuntimeError(said)) == "Node 'a' has no output"


@pytest.mark.parametrize("name", ["N" * 10**6, "a.cc:1" * 10**5, ".cc:1 " * 10**5])
def test_long_names_take_no_time(name):
    begin = time.perf_counter()
    assert len(first_lines(RuntimeError(f"Node '{name}' has no output"))) <= 400
    assert time.perf_counter() - begin < 2.0
