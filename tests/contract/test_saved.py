"""Models that onnxruntime has optimised and saved are as prunable as they were before."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest

from onnx_oto.model import load, normalise
from onnx_oto.zigs import analyse

from .builder import build
from .exactness import check

CONVOLUTIONS = """g (float[N,3,8,8] x) => (float[N,4] y)
<float[6,3,3,3] w0, float[6] b0, float[5,6,3,3] w1, float[5] b1, float[6,5,3,3] w2, float[6] b2, float[7,6,1,1] w3,
 float[8,7] w4, float[8] b4, float[4,8] w5, float[4] b5, float lo = {0.0}, float hi = {0.5}>
{ a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Clip(a, lo, hi) b = Conv<pads=[1,1,1,1]>(r, w1, b1)
  s = HardSigmoid(b) m = Mul(b, s) c = Conv<pads=[1,1,1,1]>(m, w2, b2) d = Add(c, r) e = Relu(d)
  f = Conv(e, w3) l = LeakyRelu(f) p = GlobalAveragePool(l) q = Flatten(p) u = Gemm<transB=1>(q, w4, b4)
  v = Tanh(u) y = Gemm<transB=1>(v, w5, b5) }"""

TOKENS = """g (float[N,5,6] x) => (float[N,5,3] y)
<float[6,8] w0, float[8] b0, float[8] g0, float[8] c0, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo,
 float[8] bo, float[8] g1, float[8] c1, float[8,12] w1, float[12] b1, float[12,8] w2, float[8] b2, float[8] g2,
 float[8] c2, float[8,3] w3, int64[4] sh = {0,0,2,4}, int64[3] fl = {0,0,8}, float k = {2.0}, float rt = {1.4142135},
 float one = {1.0}, float half = {0.5}>
{ e = MatMul(x, w0) e1 = Add(e, b0) h = LayerNormalization<axis=-1>(e1, g0, c0)
  q0 = MatMul(h, wq) q1 = Reshape(q0, sh) q = Transpose<perm=[0,2,1,3]>(q1)
  k0 = MatMul(h, wk) k1 = Reshape(k0, sh) kt = Transpose<perm=[0,2,3,1]>(k1)
  v0 = MatMul(h, wv) v1 = Reshape(v0, sh) v = Transpose<perm=[0,2,1,3]>(v1)
  qk = MatMul(q, kt) qs = Div(qk, k) p = Softmax<axis=-1>(qs) o = MatMul(p, v) ot = Transpose<perm=[0,2,1,3]>(o)
  of = Reshape(ot, fl) ow = MatMul(of, wo) ob = Add(ow, bo) s1 = Add(ob, h)
  n1 = LayerNormalization<axis=-1>(s1, g1, c1) m = MatMul(n1, w1) mb = Add(m, b1)
  d0 = Div(mb, rt) d1 = Erf(d0) d2 = Add(d1, one) d3 = Mul(mb, d2) d4 = Mul(d3, half) r = MatMul(d4, w2)
  rb = Add(r, b2) s2 = Add(rb, n1) n2 = LayerNormalization<axis=-1>(s2, g2, c2)
  z = Sigmoid(n2) zz = Mul(n2, z) y = MatMul(zz, w3) }"""

LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.mark.parametrize(
    ("text", "fused"),
    [
        (CONVOLUTIONS, {"FusedConv", "FusedGemm"}),
        (TOKENS, {"SkipLayerNormalization", "BiasGelu", "FusedMatMul", "QuickGelu"}),
    ],
    ids=["convolutions", "tokens"],
)
def test_an_optimised_model_is_as_prunable_and_exact(text: str, fused: set[str], tmp_path: Path) -> None:
    model = build(text)
    saved = load(_optimised(model, tmp_path / "saved.onnx", LEVELS.ORT_ENABLE_EXTENDED))
    assert fused <= {node.op_type for node in saved.graph.node}
    assert _lanes(check(saved).model) == _lanes(normalise(model))


def test_a_model_optimised_for_one_machine_stays_exact(tmp_path: Path) -> None:
    """Blocked convolutions (domain com.microsoft.nchwc) have no rule: what is around them may go."""
    saved = load(_optimised(build(CONVOLUTIONS), tmp_path / "saved.onnx", LEVELS.ORT_ENABLE_ALL))
    check(saved)


def _optimised(model: onnx.ModelProto, path: Path, level: LEVELS) -> Path:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def _lanes(normal: onnx.ModelProto) -> int:
    return sum(dimension.size for dimension in analyse(normal).prunable)
