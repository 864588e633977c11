"""Models in half precision are trained in float32 and handed back in the types they came with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnx_oto.errors import OtoError, UnsupportedError
from onnx_oto.model.normal.widen import in_float32
from onnx_oto.pipeline.finishing import with_weights
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) {
    a = Gemm(x, w1, b1)
    b = Relu(a)
    c = Gemm(b, w2, b2)
    d = Relu(c)
    y = MatMul(d, w3)
}
"""
SHAPES = {"w1": (6, 10), "b1": (10,), "w2": (10, 9), "b2": (9,), "w3": (9, 3)}

SHORT = {"epochs": 20, "batch": 16, "lr": 0.05, "sparsity": 0.4}


def in_half(kind: int) -> onnx.ModelProto:
    """A classifier with everything in half precision."""
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        value = (rng.standard_normal(shape) * 0.5).astype(helper.tensor_dtype_to_np_dtype(kind))
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    return model


def stored_in_half(kind: int) -> onnx.ModelProto:
    """The same with weights in half precision, each behind a Cast, and float32 everywhere else."""
    model = in_half(kind)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    names = [tensor.name for tensor in model.graph.initializer]
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = f"{name}_wide" if name in names else name
    for name in names:
        model.graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.FLOAT))
    return model


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("form", [in_half, stored_in_half])
def test_it_is_the_model_trained_in_float32_rounded(form, kind: int, data: Path, tmp_path: Path) -> None:
    model = form(kind)
    onnx.save(model, tmp_path / "half.onnx")
    onnx.save(in_float32(model), tmp_path / "wide.onnx")
    options = TrainOptions(shards=1, from_="scratch", **SHORT)  # a tiny net may be taken for either
    train(tmp_path / "wide.onnx", data, tmp_path / "wide", options)
    result = train(tmp_path / "half.onnx", data, tmp_path / "half", options)
    assert result.achieved == pytest.approx(8 / 19)
    wide, trained, compact = (
        onnx.load(tmp_path / name) for name in ("wide/trained.onnx", "half/trained.onnx", "half/compact.onnx")
    )
    values = {t.name.removesuffix("_wide"): numpy_helper.to_array(t) for t in wide.graph.initializer}
    for tensor in trained.graph.initializer:
        half = numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(values[tensor.name].astype(half.dtype), half)
    for each in (trained, compact):
        assert {tensor.data_type for tensor in each.graph.initializer} == {kind}
        for field in ("input", "output"):
            assert [v.type for v in getattr(each.graph, field)] == [
                v.type for v in getattr(model.graph, field)
            ]
    assert compare(trained, compact, seed=1).passed
    full, small = result.gain.scores
    assert small.value == pytest.approx(full.value, abs=1 / 40)


def test_small_steps_are_not_lost(data: Path, tmp_path: Path) -> None:
    """One step is below the resolution of bfloat16 near 1: only masters in float32 can add many of them up."""
    model = in_half(TensorProto.BFLOAT16)
    before = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in model.graph.initializer}
    onnx.save(model, tmp_path / "model.onnx")
    options = TrainOptions(**{**SHORT, "lr": 1e-4}, direction="adam", optimizer="dense")
    train(tmp_path / "model.onnx", data, tmp_path / "run", options)
    after = onnx.load(tmp_path / "run" / "trained.onnx")
    moved = {
        t.name: numpy_helper.to_array(t).astype(np.float32) - before[t.name] for t in after.graph.initializer
    }
    assert (moved["w1"] != 0).mean() > 0.5


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(OtoError, match=r"a trained value of 'w1' is too large for float16"):
        with_weights(in_half(TensorProto.FLOAT16), {"w1": np.full((6, 10), 1e6, np.float32)})


def test_double_precision_is_refused_by_its_name(data: Path, tmp_path: Path) -> None:
    onnx.save(in_half(TensorProto.DOUBLE), tmp_path / "double.onnx")
    with pytest.raises(
        UnsupportedError, match=r"'double\.onnx' computes in double precision, which is not trained"
    ):
        train(tmp_path / "double.onnx", data, tmp_path / "run", TrainOptions(**SHORT))
