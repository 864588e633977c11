"""Connected components of labels: the lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_oto.lanes.layout import IntArray


def components(count: int, ties: Sequence[tuple[IntArray, IntArray]]) -> IntArray:
    """Return the lane of every label, int64 [count], lanes numbered 0.. in order of their first label.

    ties: pairs of equally long label arrays; left[i] and right[i] are the same lane. Union by minimum with
    pointer jumping, all pairs at once; the number of rounds grows with the logarithm of the longest chain.
    """
    parent: IntArray = np.arange(count, dtype=np.int64)
    if ties:
        left = np.concatenate([np.ravel(a) for a, _ in ties])
        right = np.concatenate([np.ravel(b) for _, b in ties])
        different = left != right
        left, right = left[different], right[different]
        while left.size:
            low = np.minimum(parent[left], parent[right])
            high = np.maximum(parent[left], parent[right])
            np.minimum.at(parent, high, low)
            while True:
                jumped = parent[parent]
                if np.array_equal(jumped, parent):
                    break
                parent = jumped
            apart = parent[left] != parent[right]
            left, right = left[apart], right[apart]
    number: IntArray = np.cumsum(parent == np.arange(count)) - 1
    return number[parent]
