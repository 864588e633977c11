"""A device that computes of vectors something else than numpy does not train."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.devices import read_device
from onnx_oto.runtime.resident import Room, require_exact
from onnx_oto.runtime.resident import room as room_module
from onnx_oto.runtime.resident.graphs import model_of
from onnx_oto.runtime.resident.values import Order, Value


def test_what_computes_the_same_passes() -> None:
    require_exact(Room(read_device("CPUExecutionProvider")))


@pytest.mark.parametrize(
    ("real", "wrong", "told"),
    [
        ("Sqrt", "Abs", "a step"),
        ("Greater", "Less", "a choice"),
        ("ReduceSum", "ReduceMean", "sums of groups"),
        ("ScatterElements", None, "gradients of copies"),
    ],
)
def test_a_kernel_that_is_wrong_is_found(
    real: str, wrong: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the provider's kernel of one operator were that of another, or did nothing."""

    def broken(order: Order, roots: Sequence[Value]) -> onnx.ModelProto:
        model = model_of(order, roots)
        for node in model.graph.node:
            if node.op_type != real:
                continue
            if wrong == "ReduceMean":  # its axes are an attribute in this opset
                axes = next(t for t in model.graph.initializer if t.name == node.input[1])
                node.attribute.append(
                    onnx.helper.make_attribute("axes", onnx.numpy_helper.to_array(axes).tolist())
                )
                del node.input[1]
            elif wrong is None:
                del node.input[1:], node.attribute[:]
            node.op_type = wrong or "Identity"
        return model

    monkeypatch.setattr(room_module, "model_of", broken)
    with pytest.raises(UnsupportedError, match=f"computes {told} otherwise than numpy"):
        require_exact(Room(read_device("CPUExecutionProvider")))
