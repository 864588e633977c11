"""What is said of lanes that stay: what ties them, what is quantized, what can really go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.model import normalise, save
from onnx_oto.pipeline.inspecting import inspection
from onnx_oto.pipeline.opening import Opened, open_model, require_prunable
from onnx_oto.zigs import analyse
from onnx_oto.zigs import reason as why_frozen
from tests.contract.builder import build

SHUFFLE = """g (float[N,3,4,4] x) => (float[N,3,4,4] y)
<float[32,3,1,1] w1, float[8,8,1,1] w2, float[3,32,1,1] w3>
{ a = Conv(x, w1) d = DepthToSpace<blocksize=2,mode="CRD">(a) e = Conv(d, w2) u = DepthToSpace<blocksize=2>(e)
  s = SpaceToDepth<blocksize=4>(u) t = Add(s, a) y = Conv(t, w3) }"""


def reasons(model: onnx.ModelProto) -> dict[str, str]:
    analysis = analyse(normalise(model))
    return {d.name: why_frozen(analysis, d) for d in analysis.dimensions}


def opened(model: onnx.ModelProto, folder: Path) -> Opened:
    save(model, folder / "m.onnx")
    return open_model(folder / "m.onnx")


def test_channels_that_are_one_lane_stay_and_what_ties_them_is_named(tmp_path: Path) -> None:
    found = reasons(build(SHUFFLE))
    assert found["w1"].startswith(
        "its 32 channels are one lane, which must stay, tied together by DepthToSpace"
    )
    with pytest.raises(UnsupportedError, match="its 32 channels are one lane") as error:
        require_prunable(opened(build(SHUFFLE), tmp_path))
    assert "model's output" not in str(error.value)


def test_a_lane_tied_to_the_output_names_what_tied_it() -> None:
    text = """g (float[N,9,4,4] x) => (float[N,5,4,4] y) <float[5,9,1,1] w1, float[6,5,1,1] w2, float[5,6,1,1] w3>
    { a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) c = Conv(b, w3) y = Add(c, r) }"""
    found = reasons(build(text))
    assert found["w1"] == "it is part of the model's output 'y' (tied to it by Add 'Add_4')"
    assert found["w2"] == ""


def test_a_single_position_that_must_stay_is_no_promise() -> None:
    text = """g (float[N,3,4,4] x) => (float[N,5,4,4] y) <float[4,3,1,1] w1, float[5,5,1,1] w2, float[1,3,1,1] w0>
    { a = Conv(x, w1) o = Conv(x, w0) c = Concat<axis=1>(a, o) y = Conv(c, w2) }"""
    analysis = analyse(normalise(build(text)))
    assert {d.name: d.size for d in analysis.prunable} == {"w1": 4}


def test_what_can_go_at_most_is_less_than_what_lies_in_prunable_lanes(tmp_path: Path) -> None:
    text = """g (float[N,3] x) => (float[N,200] y) <float[3,2] w1, float[2,200] w2>
    { a = MatMul(x, w1) y = MatMul(a, w2) }"""
    report = inspection(opened(build(text), tmp_path))
    assert report.prunable_params == 406
    assert report.removable_params == 203


def _quantized(body: str) -> onnx.ModelProto:
    text = f"""g (float[N,3] x) => (float[N,4] y) <float[3,30] w0, float[30,4] w2, float[30] s, float t = {{0.1}}>
    {{ h = MatMul(x, w0) r = Relu(h) {body} m = MatMul(r, w1) z = Relu(m) y = MatMul(z, w2) }}"""
    model = build(text)
    values = np.random.default_rng(0).integers(-90, 90, (30, 30)).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(values, "q"))
    return model


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("n = Cast<to=6>(q) f = Cast<to=1>(n) w1 = Mul(f, t)", "'q' is a quantized weight"),
        ("n = Cast<to=6>(q) f = Cast<to=1>(n) w1 = Mul(f, s)", "'q' is a quantized weight"),
        ("w1 = DequantizeLinear<axis=1>(q, s)", "no positive number"),
    ],
)
def test_a_layer_in_front_of_a_quantized_weight_says_so(body: str, reason: str) -> None:
    assert reason in reasons(_quantized(body))["w0"]


def test_nothing_to_prune_because_of_quantized_weights_is_said(tmp_path: Path) -> None:
    text = """g (float[N,30] x) => (float[N,30] y) <float[30] s> 
    { n = Cast<to=6>(q) f = Cast<to=1>(n) w = Mul(f, s) y = MatMul(x, w) }"""
    model = build(text)
    values = np.random.default_rng(0).integers(-90, 90, (30, 30)).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(values, "q"))
    with pytest.raises(UnsupportedError, match="its weights are quantized"):
        require_prunable(opened(model, tmp_path))
