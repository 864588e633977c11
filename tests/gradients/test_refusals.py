"""What training refuses: every row names the operator's trouble and a way out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onnx_oto.gradients.backends.ort_covers import covers
from onnx_oto.gradients.graph.lowering import lower
from onnx_oto.gradients.graph.lowering.lowerings import REFUSED

from .conftest import Array, model_from, normal

INT32 = {"m": np.ones((2, 1, 3, 3), np.int32)}
ROWS: dict[str, tuple[str, dict[str, Array], str]] = {
    "GridSample volume": (
        'y = GridSample<mode="cubic">(a, g)',
        {"a": normal(1, 1, 2, 2, 2), "g": normal(1, 1, 1, 1, 3)},
        "mode linear",
    ),
    "LpPool ceil": (
        "y = LpPool<kernel_shape=[2], ceil_mode=1>(a)",
        {"a": normal(1, 1, 3)},
        "set ceil_mode=0",
    ),
    "MaxUnpool size": (
        "p, i = MaxPool<kernel_shape=[2]>(a) y = MaxUnpool<kernel_shape=[2]>(p, i, s)",
        {"a": normal(1, 1, 4), "s": np.array([1, 1, 9])},
        "unpool to that, then pad",
    ),
    "Det": ("y = Det(a)", {"a": normal(2, 2)}, "write it out"),
    "Unique": ("y = Unique(a)", {"a": normal(4)}, "use another operator"),
    "DFT": ("y = DFT(a, , x)", {"a": normal(1, 4, 1), "x": np.array(1)}, "MatMul with its cosines"),
    "FusedMatMul": (
        "y = com.microsoft.FusedMatMul<transBatchA=1>(a, a)",
        {"a": normal(2, 2, 2)},
        "Transpose and MatMul",
    ),
    "FusedConv": (
        'y = com.microsoft.FusedConv<activation="Mish">(a, w)',
        {"a": normal(1, 1, 3), "w": normal(1, 1, 2)},
        "a node of its own",
    ),
    "Attention past": (
        "y = com.microsoft.Attention<num_heads=1>(a, w, b, , p)",
        {"a": normal(1, 2, 2), "w": normal(2, 6), "b": normal(6), "p": normal(2, 1, 1, 2, 2)},
        "write the attention out",
    ),
    "Attention mask": (
        "y = com.microsoft.Attention<num_heads=1>(a, w, b, m)",
        {"a": normal(2, 3, 2), "w": normal(2, 6), "b": normal(6)} | INT32,
        r"a mask of shape \[2, 1, 3, 3\]",
    ),
    "MultiHeadAttention packed": (
        "y = com.microsoft.MultiHeadAttention<num_heads=1>(a)",
        {"a": normal(1, 2, 1, 3, 2)},
        "split them first",
    ),
    "MultiHeadAttention shared bias": (
        "y = com.microsoft.MultiHeadAttention<num_heads=1>(a, a, a, , , b)",
        {"a": normal(2, 3, 2), "b": normal(1, 1, 3, 3)},
        "expand it to the batch",
    ),
    "SkipLayerNormalization mean": (
        "z, m = com.microsoft.SkipLayerNormalization(a, a, s) y = Mul(z, m)",
        {"a": normal(1, 2, 3), "s": normal(3)},
        "compute them by ReduceMean",
    ),
    "If": (
        """c = Greater(a, z) b = ReduceMax<keepdims=0>(a) k = Greater(b, z)
        y = If (k) <then_branch = t () => (float[1] u) { u = Neg(a) },
                    else_branch = e () => (float[1] v) { v = Abs(a) }>""",
        {"a": normal(1), "z": np.array(0, np.float32)},
        "fixed lengths and branches",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_refused_with_a_way_out(name: str) -> None:
    body, weights, reason = ROWS[name]
    model = model_from(f"() => (float y) {{ {body} }}", weights, opset=20)
    model.opset_import.add(domain="com.microsoft", version=1)
    (first, *_) = lower(model, ("a",), covers).refusals
    assert re.search(reason, str(first)), first


def test_every_reason_says_what_to_do() -> None:
    for op, reason in REFUSED.items():
        advice = reason.split(":", 1)[1]
        assert any(word in advice for word in ("train", "use", "make", "export", "write", "read", "put")), op
