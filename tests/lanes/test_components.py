"""Connected components against a naive union-find."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.lanes.components import components


def naive(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return the component of every label, numbered in order of their first label."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for a, b in pairs:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    names: dict[int, int] = {}
    return [names.setdefault(root(i), len(names)) for i in range(count)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 40))
def test_components_equal_a_naive_union_find(data: st.DataObject, count: int) -> None:
    label = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(label, label), max_size=60))
    cut = data.draw(st.integers(0, len(pairs)))
    ties = [
        (np.array([a for a, _ in part], np.int64), np.array([b for _, b in part], np.int64))
        for part in (pairs[:cut], pairs[cut:])
    ]
    assert components(count, ties).tolist() == naive(count, pairs)


def test_no_labels_and_no_ties() -> None:
    assert components(0, []).tolist() == []
    assert components(3, []).tolist() == [0, 1, 2]


def test_arrays_of_any_shape_are_tied_elementwise() -> None:
    left, right = np.array([[0, 1], [2, 3]]), np.array([[4, 5], [0, 1]])
    assert components(6, [(left, right)]).tolist() == naive(6, [(0, 4), (1, 5), (2, 0), (3, 1)])


def test_a_long_chain_in_bad_order() -> None:
    order = np.random.default_rng(0).permutation(5000)
    assert components(5000, [(order[:-1], order[1:])]).max() == 0
