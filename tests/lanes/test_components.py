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


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data(), st.integers(100, 600))
def test_axes_that_are_tied_as_a_whole(data: st.DataObject, count: int) -> None:
    """Segments of labels, with some that are tied in another order or one by one."""
    ties = []
    for _ in range(data.draw(st.integers(0, 6))):
        size = data.draw(st.integers(1, count // 2))
        left, right = (np.arange(size) + data.draw(st.integers(0, count - size)) for _ in range(2))
        turned = data.draw(st.sampled_from([1, 1, 1, 1, -1]))
        ties.append((left, right[::turned]))
    pairs = [(int(a), int(b)) for left, right in ties for a, b in zip(left, right, strict=True)]
    assert components(count, ties).tolist() == naive(count, pairs)


def test_borders_are_handed_on_from_tie_to_tie() -> None:
    ties = [(np.arange(40) + 40 * i, np.arange(40) + 40 * (i + 1)) for i in range(60)]
    ties.append((np.arange(17), np.arange(17) + 2440))
    pairs = [(int(a), int(b)) for left, right in ties for a, b in zip(left, right, strict=True)]
    assert components(2500, ties).tolist() == naive(2500, pairs)


def test_no_labels_and_no_ties() -> None:
    assert components(0, []).tolist() == []
    assert components(3, []).tolist() == [0, 1, 2]


def test_arrays_of_any_shape_are_tied_elementwise() -> None:
    left, right = np.array([[0, 1], [2, 3]]), np.array([[4, 5], [0, 1]])
    assert components(6, [(left, right)]).tolist() == naive(6, [(0, 4), (1, 5), (2, 0), (3, 1)])


def test_a_long_chain_in_bad_order() -> None:
    order = np.random.default_rng(0).permutation(5000)
    assert components(5000, [(order[:-1], order[1:])]).max() == 0
