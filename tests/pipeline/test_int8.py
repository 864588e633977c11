"""`--int8`: what is written beside the compact model, which layers stay in float, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from onnx_oto import data as onnx_oto_data
from onnx_oto.data import Chosen
from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.losses import make as make_loss
from onnx_oto.model import full_check, load
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.int8 import beside
from onnx_oto.pipeline.int8.beside import int8_name, write_int8
from onnx_oto.pipeline.int8.judging import Sight
from onnx_oto.pipeline.int8.making import Samples, make_int8, parted
from onnx_oto.pipeline.options import PruneOptions, TrainOptions
from onnx_oto.pipeline.prune import prune
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.limits import SENSIBLE
from onnx_oto.runtime.quantizing import prepared, quantized, ranges_of
from onnx_oto.runtime.runner import in_onnxruntime
from onnx_oto.runtime.schemes import Scheme
from onnx_oto.training import Score

INT8 = {"int8": True, "int8_samples": 32, "int8_for": "vnni"}
SHORT = {"epochs": 2, "batch": 16, "shards": 1, "sparsity": 0.3, "seed": 1, "skip_latency": True}
QUIET = lambda text: None  # noqa: E731


class Rows:
    """A source of inputs `x` alone."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: np.ndarray, rng: object) -> onnx_oto_data.Batch:
        return onnx_oto_data.Batch({"x": self.x[indices]}, {}, indices)


def network(**weights: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,6] x) => (float[N,4] y)
        { a = Gemm(x, w1, b1) b = Relu(a) c = Gemm(b, w2) d = Relu(c) y = Gemm(d, w3) }"""
    )
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 16), "w2": (16, 16), "w3": (16, 4)}
    return {name: rng.standard_normal(shape) / 4 for name, shape in shapes.items()} | {"b1": np.zeros(16)}


def spoilt() -> onnx.ModelProto:
    """Return a network whose first layer makes one value of 10,000 that nobody reads, beside those that count."""
    found = weights()
    found["b1"][3] = 1e4
    found["w2"][3] = 0
    return network(**found)


def unlabelled(outputs: tuple[str, ...] = ("y",)) -> Sight:
    return Sight(Serving(), outputs, None, (), SENSIBLE)


def samples(seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(*(Rows(rng.standard_normal((n, 6)).astype(np.float32)) for n in (48, 64, 64)))


def options(**more: object) -> PruneOptions:
    return PruneOptions(data="d.npz", **{**INT8, **more})


# --- the quantizer ----------------------------------------------------------------------------------------------
def test_all_layers_are_quantized_per_channel_and_what_comes_out_is_near():
    model, seen = network(**weights()), samples()
    made = make_int8(model, unlabelled(), seen, options(), np.inf, QUIET)
    full_check(made.model)
    assert made.kept == ()
    stored = {t.name: t for t in made.model.graph.initializer}
    read = [node for node in made.model.graph.node if node.op_type == "DequantizeLinear"]
    matrices = [n for n in read if n.input[0] in stored and len(stored[n.input[0]].dims) == 2]
    assert [stored[n.input[0]].data_type for n in matrices] == [onnx.TensorProto.INT8] * 3
    assert [tuple(stored[n.input[1]].dims) for n in matrices] == [(16,), (16,), (4,)]
    assert not any((numpy_helper.to_array(stored[n.input[2]]) != 0).any() for n in matrices)
    distance = unlabelled().distance(
        made.model, unlabelled().opened(model), unlabelled().batches(model, seen.test, 16)
    )
    assert 0 < distance.change < 0.05
    assert distance.agreement > 0.9


def test_a_bias_that_does_not_fit_into_int32_gets_a_coarser_weight():
    found = weights()
    found["w1"][:, 2], found["b1"][2] = 1e-12, 3.0  # a dead channel, of which a constant is left
    model = network(**found)
    feeds = [{"x": samples().test.x}]
    ready = prepared(model)
    small = quantized(ready, ranges_of(ready, feeds, Scheme()), Scheme())
    stored = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    biases = [
        value for value in stored.values() if value.dtype == np.int32 and value.ndim == 1 and value.any()
    ]
    assert len(biases) == 1
    assert np.abs(biases[0].astype(np.int64)).max() < 2**30
    wanted, given = (in_onnxruntime(each)(feeds[0])[0] for each in (model, small))
    assert np.abs(wanted - given).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("scheme", "kind", "biases"),
    [(Scheme(), "UINT8", True), (Scheme("int8", symmetric=True, biases=False), "INT8", False)],
)
def test_schemes_say_what_activations_and_biases_become(scheme, kind, biases):
    ready = prepared(network(**weights()))
    found = quantized(ready, ranges_of(ready, [{"x": samples().test.x}], scheme), scheme)
    stored = {t.name: t for t in found.graph.initializer}
    zeros = [stored[n.input[2]] for n in found.graph.node if n.op_type == "QuantizeLinear"]
    assert {zero.data_type for zero in zeros} == {onnx.TensorProto.DataType.Value(kind)}
    if scheme.symmetric:
        assert all(numpy_helper.to_array(zero) == 0 for zero in zeros)
    assert any(t.data_type == onnx.TensorProto.INT32 for t in stored.values()) is biases


def test_seven_bits_where_products_are_added_up_in_sixteen():
    scheme = Scheme(reduced=True)
    ready = prepared(network(**weights()))
    found = quantized(ready, ranges_of(ready, [{"x": samples().test.x}], scheme), scheme)
    codes = [numpy_helper.to_array(t) for t in found.graph.initializer if len(t.dims) == 2]
    assert 60 <= max(np.abs(each.astype(int)).max() for each in codes) <= 64


# --- which layers stay in float -----------------------------------------------------------------------------------
def test_the_layer_that_loses_most_stays_in_float():
    said: list[str] = []
    sight, seen, model = unlabelled(), samples(), spoilt()
    bare = make_int8(model, sight, seen, options(), np.inf, QUIET).model
    batches = sight.batches(model, seen.test, 16)
    assert sight.distance(bare, sight.opened(model), batches).points > 10
    made = make_int8(model, sight, seen, options(), 10.0, said.append)
    assert 0 < len(made.kept) < made.layers
    assert sight.distance(made.model, sight.opened(model), batches).points < 12
    assert "all layers quantized" in said[0]
    assert any(node.op_type == "QuantizeLinear" for node in made.model.graph.node)


def test_nothing_is_left_to_quantize_where_nothing_may_be_lost():
    with pytest.raises(UnsupportedError, match="allow more with --int8-drop"):
        make_int8(spoilt(), Sight(Serving(), ("y",), None, (), SENSIBLE), samples(), options(), -1.0, QUIET)


def test_what_loses_more_on_the_test_samples_is_refused_and_not_written(tmp_path):
    seen = samples()
    wild = Samples(seen.calibrating, seen.choosing, Rows(100 * seen.test.x))  # nothing that calibration saw
    place = tmp_path / "small.int8.onnx"
    with pytest.raises(UnsupportedError, match=r"loses [\d.]+ points on 64 test samples, 20 are allowed"):
        write_int8(
            network(**weights()), place, 1, unlabelled(), wild, options(int8_drop=20.0), QUIET, is_timed=False
        )
    assert not place.exists()


# --- samples and points -------------------------------------------------------------------------------------------
def test_calibration_and_choice_see_other_samples():
    rows = Rows(np.zeros((90, 6), np.float32))
    dataset = onnx_oto_data.Dataset(rows, rows)
    found = parted(dataset, rows, 40, seed=0)
    assert isinstance(found.calibrating, Chosen)
    assert not set(found.calibrating.rows) & set(found.choosing.rows)
    assert len(found.calibrating) == 40
    few = parted(dataset, rows, 256, seed=0)
    assert len(few.calibrating) == len(few.choosing) == 45
    val = Rows(np.zeros((7, 6), np.float32))
    apart = parted(onnx_oto_data.Dataset(rows, rows, val=val), rows, 256, seed=0)
    assert apart.choosing is val
    assert len(apart.calibrating) == 90


@pytest.mark.parametrize(
    ("metric", "before", "after", "points"),
    [
        ("accuracy", 0.9, 0.893, 0.7),
        ("accuracy", 0.9, 0.91, -1.0),
        ("loss", 2.0, 2.1, 5.0),
        ("accuracy", 0.9, np.nan, np.inf),
    ],
)
def test_points_are_those_of_the_metric(metric, before, after, points):
    sight = Sight(Serving(), ("y",), make_loss("cross-entropy"), (metric,), SENSIBLE)
    better = "lower" if metric == "loss" else "higher"
    found = sight.lost(*(Score(metric, value, 0.0, 1, better=better) for value in (before, after)))
    assert found == pytest.approx(points)


def test_decibels_are_points():
    sight = Sight(Serving(), ("y",), make_loss("mse"), ("psnr",), SENSIBLE)
    assert sight.lost(Score("psnr", 31.0, 0.0, 1), Score("psnr", 30.5, 0.0, 1)) == pytest.approx(0.5)


def test_what_is_inside_is_judged_by_the_outputs():
    sight = Sight(Serving(), ("c",), make_loss("mse"), (), SENSIBLE)
    found = sight.of(network(**weights()))
    assert (found.outputs, found.loss) == (("y",), None)


# --- the verbs ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("labelled", [True, False])
def test_prune_writes_it_beside_the_compact_model(model, data, tmp_path, labelled):
    if not labelled:
        stored = {name: value for name, value in np.load(data).items() if not name.startswith("y")}
        data = tmp_path / "bare.npz"
        np.savez(data, **stored)
    result = prune(
        model, tmp_path / "small.onnx", PruneOptions(data=data, sparsity=0.3, **INT8, int8_drop=30)
    )
    assert result.int8 is not None
    told = result.as_json()["int8"]
    json.dumps(told, allow_nan=False)
    small = load(tmp_path / "small.int8.onnx")
    assert [v.name for v in small.graph.output] == ["y"]
    assert told["bytes"]["int8"] == (tmp_path / "small.int8.onnx").stat().st_size
    assert told["bytes"]["compact"] == (tmp_path / "small.onnx").stat().st_size
    assert told["weight_bytes"]["int8"] < told["weight_bytes"]["compact"]
    assert told["layers"]["quantized"] > 0
    assert (told["metric"] is not None) is labelled
    assert told["latency_ms"]["int8"] > 0
    assert told["lost"] <= told["allowed"] == 30
    assert set(told["latency_ms"]) >= {"compact", "compact_interval", "int8_interval", "runtime"}


def test_train_writes_it_and_resume_finishes_it(model, data, tmp_path, monkeypatch):
    settings = TrainOptions(**SHORT, **INT8, int8_drop=30)
    whole = train(model, data, tmp_path / "whole", settings)
    told = json.loads((tmp_path / "whole" / "result.json").read_text())["int8"]
    assert told["file"] == "compact.int8.onnx"
    assert whole.int8 is not None
    with monkeypatch.context() as patch:
        patch.setattr("onnx_oto.pipeline.int8.of_run.write_int8", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(model, data, tmp_path / "left", settings)
    left = tmp_path / "left"
    assert (left / "compact.onnx").exists()
    assert not (left / "result.json").exists()
    resume(left)
    assert (left / "compact.int8.onnx").read_bytes() == (
        tmp_path / "whole" / "compact.int8.onnx"
    ).read_bytes()


def _interrupted(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_the_float_model_stays_where_there_is_no_int8_model(model, data, tmp_path, monkeypatch):
    def refuse(*arguments: object, **named: object) -> None:
        raise UnsupportedError("it loses 3 points")

    monkeypatch.setattr(beside, "make_int8", refuse)
    with pytest.raises(
        UnsupportedError, match=r"loses 3 points; the float model is kept, in '.*compact.onnx'"
    ):
        train(model, data, tmp_path / "run", TrainOptions(**SHORT, **INT8))
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert told["int8"] == {"file": None, "failed": "it loses 3 points"}
    assert told["params"]["after"] > 0
    with pytest.raises(UnsupportedError, match="the float model is kept"):
        prune(model, tmp_path / "small.onnx", PruneOptions(data=data, sparsity=0.3, **INT8))
    assert (tmp_path / "small.onnx").exists()
    assert not (tmp_path / "small.int8.onnx").exists()


def test_what_it_would_overwrite_is_refused(model, data, tmp_path):
    taken = tmp_path / "small.int8.onnx"
    taken.write_bytes(Path(model).read_bytes())
    with pytest.raises(UsageError, match="would overwrite the input model"):
        prune(taken, tmp_path / "small.onnx", PruneOptions(data=data, **INT8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"int8": True}, "int8 needs data"),
        ({"int8_drop": 1.0}, "int8-drop is for the int8 model: give --int8 too"),
        ({"int8_for": "tensorrt"}, "int8-for is for the int8 model"),
        ({"int8": True, "int8_for": "npu"}, "int8-for"),
        ({"int8": True, "int8_samples": 0}, "int8-samples"),
        ({"int8": True, "int8_drop": -1.0}, "int8-drop"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        PruneOptions(**given)


def test_what_is_quantized_already_is_refused_before_any_work(model, data, tmp_path):
    prune(model, tmp_path / "small.onnx", PruneOptions(data=data, sparsity=0.3, **INT8, int8_drop=30))
    again = tmp_path / "small.int8.onnx"
    with pytest.raises(UnsupportedError, match="is quantized already: leave --int8 out"):
        prune(again, tmp_path / "smaller.onnx", PruneOptions(data=data, **INT8))
    assert not (tmp_path / "smaller.onnx").exists()
    with pytest.raises(UnsupportedError, match="is quantized, and that is not trained"):
        train(again, data, tmp_path / "run", TrainOptions(**SHORT))
    result = prune(again, tmp_path / "smaller.onnx", PruneOptions(sparsity=0.3))
    assert result.summary.removed > 0
    assert result.summary.verdict.max_abs == 0


@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_a_quantized_model_whose_biases_are_floats_is_not_trained_to_lose_channels(backend, data, tmp_path):
    """What could train are its biases: driving those to zero removes nothing, as the weights are integers."""
    coded = network(**weights())
    rng = np.random.default_rng(0)
    coded.graph.initializer.append(
        numpy_helper.from_array(rng.integers(-127, 128, (16, 16)).astype(np.int8), "code")
    )
    coded.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), "scale"))
    coded.graph.node.insert(0, helper.make_node("DequantizeLinear", ["code", "scale"], ["read"]))
    next(n for n in coded.graph.node if "w2" in n.input).input[1] = "read"
    onnx.save(coded, tmp_path / "coded.onnx")
    with pytest.raises(UnsupportedError, match="is quantized, and that is not trained"):
        train(tmp_path / "coded.onnx", data, tmp_path / "run", TrainOptions(**SHORT, backend=backend))
    assert (
        prune(tmp_path / "coded.onnx", tmp_path / "small.onnx", PruneOptions(sparsity=0.3)).summary.removed
        > 0
    )


def test_the_name_of_the_file():
    assert int8_name("a/b.onnx") == Path("a/b.int8.onnx")


def test_a_newer_opset_that_the_runtime_knows_but_for_its_number_is_quantized() -> None:
    model = network(**weights())
    newer = helper.make_model(model.graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    x = {"x": samples().test.x}
    found = in_onnxruntime(prepared(newer))(x)[0]
    np.testing.assert_allclose(found, in_onnxruntime(model)(x)[0], rtol=1e-4, atol=1e-5)


def test_an_older_opset_is_converted_for_scales_of_channels():
    graph = network(**weights())
    older = helper.make_model(graph.graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    ready = prepared(older)
    assert ready.opset_import[0].version >= 13
    x = {"x": samples().test.x}
    np.testing.assert_allclose(in_onnxruntime(ready)(x)[0], in_onnxruntime(older)(x)[0], rtol=1e-4, atol=1e-5)
