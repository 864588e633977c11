"""Every evaluator agrees with the ONNX reference, and what it says of partly known values is never wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.evaluators import EVALUATORS
from onnx_oto.model.shapes.values import INTEGER_EVALUATORS, Value, is_known

OPSET = 17
# What the symbols stand for in this file; any sizes would do.
SYMBOLS = {"N": 5, "M": 3, "2*N": 10, "M*N": 15}
I64, F, B = np.int64, np.float32, np.bool_


def ints(*items: int) -> np.ndarray:
    return np.array(items, I64)


# op: (attributes, [inputs]); integers that equal the value of a symbol may be replaced by the symbol.
ROWS: list[tuple[str, dict[str, object], list[np.ndarray]]] = [
    ("Identity", {}, [ints(5, 3, 7)]),
    ("Gather", {}, [ints(5, 3, 7), np.array(1)]),
    ("Gather", {}, [ints(5, 3, 7), ints(-1, 0)]),
    ("Gather", {"axis": 1}, [ints(5, 3, 7, 10).reshape(2, 2), ints(1, 1)]),
    ("Concat", {"axis": 0}, [ints(5, 3), ints(7), ints(10, 1)]),
    ("Concat", {"axis": -1}, [ints(5, 3).reshape(1, 2), ints(7, 15).reshape(1, 2)]),
    ("Unsqueeze", {}, [np.array(5), ints(0)]),
    ("Unsqueeze", {}, [ints(5, 3), ints(0, 2)]),
    ("Squeeze", {}, [ints(5), ints(0)]),
    ("Squeeze", {}, [ints(5, 3).reshape(2, 1)]),
    ("Slice", {}, [ints(5, 3, 7, 10), ints(1), ints(3)]),
    ("Slice", {}, [ints(5, 3, 7, 10), ints(-1), ints(-(2**63)), ints(0), ints(-1)]),
    ("Slice", {}, [ints(5, 3, 7, 10).reshape(2, 2), ints(0), ints(2**31), ints(1), ints(2)]),
    ("Reshape", {}, [ints(5, 3, 7, 10), ints(2, -1)]),
    ("Reshape", {}, [ints(5, 3, 7, 10).reshape(2, 2), ints(0, 2, 1)]),
    ("Transpose", {"perm": [1, 0]}, [ints(5, 3, 7, 10, 1, 2).reshape(2, 3)]),
    ("Flatten", {"axis": 1}, [ints(5, 3, 7, 10, 1, 2).reshape(2, 3, 1)]),
    ("Flatten", {"axis": 0}, [ints(5, 3)]),
    ("Expand", {}, [ints(5, 3), ints(3, 2)]),
    ("Tile", {}, [ints(5, 3), ints(2)]),
    ("ConstantOfShape", {"value": np.array([3], I64)}, [ints(2, 3)]),
    ("ConstantOfShape", {}, [ints(2)]),
    ("Range", {}, [np.array(1), np.array(8), np.array(3)]),
    ("Range", {}, [np.array(5), np.array(-2), np.array(-2)]),
    ("Range", {}, [np.array(0, F), np.array(2.5, F), np.array(1, F)]),
    ("Split", {}, [ints(5, 3, 7, 10)]),
    ("Split", {}, [ints(5, 3, 7, 10), ints(1, 3)]),
    ("Where", {}, [np.array([True, False, True]), ints(5, 3, 7), ints(1, 10, 15)]),
    ("Where", {}, [np.array([True, False]), ints(5, 3), ints(5, 3)]),
    ("Cast", {"to": onnx.TensorProto.FLOAT}, [ints(5, 3, -7)]),
    ("Cast", {"to": onnx.TensorProto.INT64}, [np.array([5, 3.7, -7.2], F)]),
    ("Cast", {"to": onnx.TensorProto.BOOL}, [ints(5, 0, -7)]),
    ("CastLike", {}, [ints(5, 3), np.array([1], F)]),
    ("Add", {}, [ints(5, 3, 0), ints(0, 7, 10)]),
    ("Add", {}, [np.array([0.1, 0.7], F), np.array([0.2, 1e-9], F)]),
    ("Sub", {}, [ints(5, 3, 5), ints(0, 7, 5)]),
    ("Mul", {}, [ints(5, 3, 5, 0), ints(1, 5, 2, 3)]),
    ("Mul", {}, [np.array([5, 3, 0.5], F), np.array([1, 2, 2], F)]),
    ("Div", {}, [ints(5, -7, 10, 15, 7), ints(1, 2, 5, 3, -2)]),
    ("Div", {}, [np.array([5, 3, 10], F), np.array([2, 3, 5], F)]),
    ("Mod", {}, [ints(5, 7, 10, 15), ints(3, 5, 2, 4)]),
    ("Equal", {}, [ints(5, 3, -1, 5), ints(5, 5, 3, -1)]),
    ("Greater", {}, [ints(5, 3, -1), ints(-1, 5, 3)]),
    ("GreaterOrEqual", {}, [ints(5, 3, -1), ints(5, 5, 3)]),
    ("Less", {}, [ints(5, 3, -1), ints(-1, 5, 3)]),
    ("LessOrEqual", {}, [ints(5, 3, -1), ints(5, 5, 3)]),
    ("And", {}, [np.array([True, True, False]), np.array([True, False, False])]),
    ("Or", {}, [np.array([True, True, False]), np.array([True, False, False])]),
    ("Xor", {}, [np.array([True, True, False]), np.array([True, False, False])]),
    ("Not", {}, [np.array([True, False])]),
    ("Min", {}, [ints(5, 3, 5), ints(5, 7, 3)]),
    ("Max", {}, [ints(5, 3), ints(5, 7), ints(1, 10)]),
    ("Floor", {}, [np.array([5, 3.7, -0.5], F)]),
    ("Ceil", {}, [np.array([5, 3.2, -0.5], F)]),
    ("Round", {}, [np.array([5, 0.5, 1.5], F)]),
    ("Neg", {}, [ints(5, -3)]),
    ("Abs", {}, [ints(5, -3)]),
    ("ReduceProd", {}, [ints(5, 3, 2)]),
    ("ReduceProd", {"keepdims": 0}, [ints(5, 3)]),
    ("ReduceSum", {}, [ints(5, 0, 3), ints(0)]),
    ("ReduceMax", {}, [ints(5, 3, 5)]),
    ("ReduceMin", {"axes": [0]}, [ints(5, 3, 5)]),
]
IDS = [f"{op}-{index}" for index, (op, _, _) in enumerate(ROWS)]


def expected(op: str, attrs: dict[str, object], inputs: list[np.ndarray]) -> list[np.ndarray]:
    names = [f"i{k}" for k in range(len(inputs))]
    outputs = ["o0", "o1"] if op == "Split" else ["o0"]
    given = {k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    node = helper.make_node(op, names, outputs, **given)
    values = [helper.make_value_info(n, onnx.TypeProto()) for n in (*names, *outputs)]
    graph = helper.make_graph([node], "g", values[: len(names)], values[len(names) :])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))


def evaluate(
    op: str, attrs: dict[str, object], inputs: list[np.ndarray], *, integers: bool
) -> list[Value] | None:
    outputs = ("o0", "o1") if op == "Split" else ("o0",)
    names = tuple(f"i{k}" for k in range(len(inputs)))
    function = (INTEGER_EVALUATORS if integers else {}).get(op) or EVALUATORS[op]
    result = function(Node("n", op, "", names, outputs, dict(attrs), 0, (), OPSET), inputs)
    return result if result is None or isinstance(result, list) else [result]


def value_of(item: object) -> object:
    if not isinstance(item, str):
        return item
    return value_at(item, SYMBOLS)


def test_every_evaluator_has_a_row():
    assert {op for op, _, _ in ROWS} == set(EVALUATORS) | set(INTEGER_EVALUATORS)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_known_values_agree_with_the_reference(row):
    found = evaluate(*row, integers=row[2][0].dtype.kind == "i")
    assert found is not None
    for ours, theirs in zip(found, expected(*row), strict=True):
        assert is_known(ours)
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours.astype(theirs.dtype), theirs)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
@pytest.mark.parametrize("seed", range(6))
def test_partly_known_values_are_never_wrong(row, seed):
    """Hide or name some elements: whatever is still claimed must be what the reference computes."""
    op, attrs, inputs = row
    rng = np.random.default_rng(seed)
    blurred = [blur(array, rng) for array in inputs]
    try:
        found = evaluate(op, attrs, blurred, integers=inputs[0].dtype.kind == "i")
    except (ValueError, IndexError, TypeError):
        return
    for ours, theirs in zip(found or [], expected(op, attrs, inputs), strict=False):
        assert ours.shape == theirs.shape
        for item, truth in zip(ours.flat, theirs.flat, strict=True):
            assert item is None or value_of(item) == truth


def blur(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    result = array.astype(object)
    for index in np.ndindex(*array.shape):
        draw = rng.random()
        names = [name for name, size in SYMBOLS.items() if size == array[index] and array.dtype != B]
        if draw < 0.5 and names:
            result[index] = names[int(rng.integers(len(names)))]
        elif draw < 0.65:
            result[index] = None
    return result
