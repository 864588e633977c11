"""Readers and moments of arrays, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from onnx_oto.model.graph.node import read_node
from onnx_oto.refit import Moments, Reader
from onnx_oto.refit.readers import Bias


def reader(lanes: Sequence[int] | Sequence[Sequence[int]], *, bias: bool = True) -> Reader:
    """Return a dense reader of these lanes, one for each feature; of groups where there are rows of them."""
    node = read_node(onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="read"), 0, {"": 17})
    found = np.atleast_2d(np.array(lanes, np.int64))
    return Reader(node, "x", "y", "w", Bias("b", 1.0) if bias else None, found)


def seen(x: np.ndarray, lanes: Sequence[int] | None = None, *, bias: bool = True, rows: int = 1) -> Moments:
    """Return the moments of samples x [N, F] (`rows` of each side by side), lanes 0, 1, ... if none are given."""
    found = Moments(reader(range(x.shape[1]) if lanes is None else lanes, bias=bias))
    found.add(x.astype(np.float32).reshape(-1, rows, 1, x.shape[1]))
    return found


def correlated(rng: np.random.Generator, samples: int, features: int, *, rank: int = 3) -> np.ndarray:
    """Return samples that share a few causes: float64 [samples, features]."""
    causes = rng.standard_normal((samples, rank)) @ rng.standard_normal((rank, features))
    return causes + 0.3 * rng.standard_normal((samples, features))
