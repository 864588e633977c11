"""`prune --data`: what can be kept is kept, compact equals the zeroed full model, and odd models and data are survived."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import onnx_oto
from onnx_oto.model import load
from onnx_oto.pipeline.prune import Pruned
from onnx_oto.runtime.runner import runner
from tests.contract.builder import build, in_half_precision, in_precision

Prune = Callable[..., Pruned]

BEGIN = """g (float[N,3,8,8] x) => (float[N,4] y) <float[16,3,3,3] w0, float[16] b0, float[8,4] w2, {}>
{{ a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Relu(a) {} d = Relu(n) p = GlobalAveragePool(d) q = Flatten(p)
  y = MatMul(q, w2) }}"""
DENSE = """g (float[N,6] x) => (float[N,4] y) <float[6,16] w0, float[16] b0, float[8,4] w2, {}>
{{ a = Gemm(x, w0, b0) r = Relu(a) {} d = Relu(n) y = MatMul(d, w2) }}"""
FORMS = {
    "Conv, bias": BEGIN.format("float[8,16,3,3] w1, float[8] b1", "n = Conv<pads=[1,1,1,1]>(r, w1, b1)"),
    "Conv, BatchNormalization": BEGIN.format(
        "float[8,16,3,3] w1, float[8] s, float[8] t, float[8] m, float[8] var",
        "c = Conv<strides=[2,2]>(r, w1) n = BatchNormalization(c, s, t, m, var)",
    ),
    "Conv, Add": BEGIN.format("float[8,16,1,1] w1, float[8,1,1] b1", "c = Conv(r, w1) n = Add(c, b1)"),
    "Conv, no bias": BEGIN.format("float[8,16,3,3] w1", "n = Conv(r, w1)"),
    "Conv, two groups": BEGIN.format("float[8,8,3,3] w1, float[8] b1", "n = Conv<group=2>(r, w1, b1)"),
    "Gemm": DENSE.format("float[16,8] w1, float[8] b1", "n = Gemm(r, w1, b1)"),
    "Gemm, alpha and beta": DENSE.format(
        "float[8,16] w1, float[8] b1", "n = Gemm<transB=1,alpha=0.25,beta=3.0>(r, w1, b1)"
    ),
    "Gemm, alpha, Add": DENSE.format(
        "float[16,8] w1, float[8] b1", "c = Gemm<alpha=0.25>(r, w1) n = Add(c, b1)"
    ),
    "MatMul, Add": DENSE.format("float[16,8] w1, float[8] b1", "c = MatMul(r, w1) n = Add(c, b1)"),
    "MatMul, no bias": DENSE.format("float[16,8] w1", "n = MatMul(r, w1)"),
}


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def put(model: onnx.ModelProto, **arrays: np.ndarray) -> onnx.ModelProto:
    """Set initializers, in place and in their types."""
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(kind), tensor.name))
    return model


def copies(model: onnx.ModelProto, *, interleaved: bool = False) -> onnx.ModelProto:
    """Let every second half of what w0 and b0 make be a copy of the first, in place."""
    found = values(model)
    axis = 1 if found["w0"].ndim == 2 else 0
    half = np.repeat(np.arange(8), 2) if interleaved else np.arange(16) % 8
    return put(model, w0=found["w0"].take(half, axis), b0=found["b0"][half])


def inputs(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@pytest.fixture
def prune(tmp_path: Path) -> Prune:
    """Prune a model by samples of these shapes; compact equals zeroed, by the files that were written."""

    def run(
        model: onnx.ModelProto, arrays: Mapping[str, np.ndarray] | tuple[int, ...], count: int = 200, **settings: Any
    ) -> Pruned:
        onnx.save(model, tmp_path / "model.onnx")
        if isinstance(arrays, tuple):
            arrays = {"x_train": inputs(arrays, count), "x_test": inputs(arrays, 40, 1)}
        np.savez(tmp_path / "data.npz", **arrays)
        told: list[str] = []
        result = onnx_oto.prune(
            tmp_path / "model.onnx",
            tmp_path / "compact.onnx",
            data=tmp_path / "data.npz",
            save_zeroed=tmp_path / "zeroed.onnx",
            **{"round_to": 1, "skip_latency": True, "say": told.append, **settings},
        )
        result.__dict__["told"] = told
        assert result.summary.verdict.passed
        return result

    return run


def ran(path: Path, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return runner(load(path))(dict(feed))


def kept(path: Path, name: str = "w0") -> tuple[int, ...]:
    return values(onnx.load(path))[name].shape


# --- what the others say as well is kept ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FORMS)
def test_copies_go_and_nothing_is_lost(prune: Prune, tmp_path: Path, name: str) -> None:
    """A third of 24 channels: the eight copies, of all, and outputs are what they were, to rounding."""
    model = copies(build(FORMS[name]), interleaved="groups" in name)
    shape = (6,) if name.startswith(("Gemm", "MatMul")) else (3, 8, 8)
    result = prune(model, shape, sparsity=8 / 24)
    assert result.summary.removed == 8
    assert sorted(kept(tmp_path / "compact.onnx"))[-1] == 8
    assert result.judged is not None
    assert result.judged.refitted is not None
    assert result.judged.cut.change > 0.01
    assert result.judged.refitted.change < 1e-5
    assert result.judged.left < 1e-5
    feed = {"x": inputs(shape, 5, 3)}
    (full,), (small,) = runner(model)(feed), ran(tmp_path / "compact.onnx", feed)
    np.testing.assert_allclose(small, full, atol=1e-5 * np.abs(full).max())


@pytest.mark.parametrize("change", [in_half_precision, lambda m: in_precision(m, TensorProto.DOUBLE)])
def test_other_floats(prune: Prune, tmp_path: Path, change: Any) -> None:
    for name, shape in (("Conv, bias", (3, 8, 8)), ("MatMul, Add", (6,))):
        result = prune(change(copies(build(FORMS[name]))), shape, sparsity=8 / 24)
        assert result.judged.refitted.change < min(5e-3, 0.1 * result.judged.cut.change)


def test_a_fixed_batch_takes_fewer_samples_too(prune: Prune, tmp_path: Path) -> None:
    """32 samples of which the model takes ten, or forty, at once: all are seen, none twice."""
    for batch in (10, 40):
        model = copies(build(FORMS["MatMul, Add"].replace("[N,", f"[{batch},")))
        result = prune(model, (6,), count=64, sparsity=8 / 24)
        assert any("watched on 52 samples" in line for line in result.__dict__["told"])
        assert result.judged.refitted.change < 1e-5
