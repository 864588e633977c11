"""Recurrent layers where ONNX Runtime has no kernel to compare with, and those that training refuses."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from onnx_oto.gradients.backends.ort_covers import covers
from onnx_oto.gradients.graph.lowering import lower, recurrent

from .conftest import model_from, normal
from .harness import Row, model_of, reference, trainable
from .rows_recurrent import BATCH_FIRST, layer


@pytest.mark.parametrize("row", BATCH_FIRST, ids=[row.id for row in BATCH_FIRST])
def test_batch_first(row: Row) -> None:
    model = model_of(row)
    size = row.values()["a"].shape
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size[0]
    lowered = lower(model, trainable(row), covers).model
    assert not {node.op_type for node in lowered.graph.node} & {"LSTM", "GRU", "RNN"}
    data = {"data": np.zeros(size, np.float32)}
    session = onnxruntime.InferenceSession(lowered.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = reference(model).run(None, data)[0]
    assert session.run(None, data)[0] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def refusal(row: Row) -> str:
    model = model_of(row)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = row.values()["a"].shape[0]
    return str(lower(model, trainable(row), covers).refusals[0])


def test_too_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "MOST_STEPS", 2)
    assert "runs over 3 steps, training unrolls up to 2" in refusal(layer("GRU", "long"))


def test_wrong_number_of_activations() -> None:
    model = model_of(layer("LSTM", "few"))
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    node.attribute.append(helper.make_attribute("activations", ["Sigmoid", "Tanh"]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    assert "names 2 activations, 3 are needed" in str(lower(model, ("w",), covers).refusals[0])


def test_unknown_activation() -> None:
    model = model_of(layer("RNN", "odd"))
    node = next(node for node in model.graph.node if node.op_type == "RNN")
    node.attribute.append(helper.make_attribute("activations", ["Gelu"]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    assert "activation 'gelu' is unknown" in str(lower(model, ("w",), covers).refusals[0])


def test_open_length() -> None:
    model = model_from(
        "(float[T, 2, 2] x) => (float[T, 1, 2, 3] y) { y = RNN<hidden_size=3>(x, w, r) }",
        {"w": normal(1, 3, 2), "r": normal(1, 3, 3)},
    )
    assert "not known before the run" in str(lower(model, ("w",), covers).refusals[0])
