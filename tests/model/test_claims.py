"""Claims say what onnx's inference says once sizes are put in for the symbols, and what their rows say."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims import CLAIMS, Claimed, broadcast
from onnx_oto.model.shapes.dims import Dim, Shape, value_at
from onnx_oto.model.shapes.symbols import Symbols

OPSET = 17
F = np.float32
N, M = "N", "M"
# op, attributes, shapes by input, values by input position, the shape that follows ("*": a symbol of its own).
ROWS = [
    ("Reshape", {}, [(N, 4, 6)], {1: [-1, 24]}, (N, 24)),
    ("Reshape", {}, [(N, 4, 6)], {1: [0, 0, 2, -1]}, (N, 4, 2, 3)),
    ("Reshape", {}, [(N, M, 6)], {1: [M, -1]}, (M, "6*N")),
    ("Reshape", {"allowzero": 1}, [(0, 3)], {1: [3, 0]}, (3, 0)),
    ("Flatten", {}, [(N, 4, M)], {}, (N, "4*M")),
    ("Flatten", {"axis": -1}, [(N, 4, M)], {}, ("4*N", M)),
    ("Flatten", {"axis": 0}, [(N, 4)], {}, (1, "4*N")),
    ("Expand", {}, [(1, 4)], {1: [N, 1]}, (N, 4)),
    ("Expand", {}, [(N, 1)], {1: [2, 1, 7]}, (2, N, 7)),
    ("ConstantOfShape", {}, [(2,)], {0: [N, 3]}, (N, 3)),
    ("Tile", {}, [(N, 4)], {1: [2, M]}, ("2*N", "4*M")),
    ("Range", {}, [(), (), ()], {0: [0], 1: [N], 2: [1]}, (N,)),
    ("Range", {}, [(), (), ()], {0: [1], 1: [N], 2: [2]}, ("floor(N/2)",)),
    ("TopK", {"axis": 1}, [(N, 9)], {1: [M]}, (N, M)),
    ("OneHot", {}, [(N, 3), (), (2,)], {1: [M]}, (N, 3, M)),
    ("OneHot", {"axis": 0}, [(N, 3), (), (2,)], {1: [M]}, (M, N, 3)),
    ("Concat", {"axis": 1}, [(N, M, 4), (N, 3, 4)], {}, (N, "M+3", 4)),
    ("Concat", {"axis": -1}, [(N, M), (N, M)], {}, (N, "2*M")),
    ("Concat", {"axis": 0}, [(N, 4), (2, 4)], {}, ("N+2", 4)),
    ("Pad", {}, [(N, 3, 8)], {1: [0, 0, 1, 0, 0, 2]}, (N, 3, 11)),
    ("Pad", {}, [(N, M, 8)], {1: [0, 1, 0, 0, 1, -1]}, (N, "M+2", 7)),
    ("Slice", {}, [(N, 8)], {1: [0], 2: [4], 3: [1]}, (N, 4)),
    ("Slice", {}, [(N, 8)], {1: [0], 2: [N], 3: [0]}, (N, 8)),
    ("Slice", {}, [(N, M)], {1: [0], 2: [3], 3: [1]}, (N, "min(3,M)")),
    ("Slice", {}, [(N, M)], {1: [1], 2: [2**31 - 1], 3: [1]}, (N, "M-1")),
    ("Slice", {}, [(N, M)], {1: [-2], 2: [2**63 - 1], 3: [1]}, (N, "*")),
    ("Slice", {}, [(N, 8)], {1: [-3], 2: [-1], 3: [-1]}, (N, 2)),
    ("Resize", {}, [(N, 3, 4, M)], {3: [N, 3, 8, M]}, (N, 3, 8, M)),
    ("Resize", {}, [(N, 3, 5, M)], {2: [1.0, 1.0, 2.5, 2.0]}, (N, 3, 12, "2*M")),
    ("Resize", {}, [(N, 3, 5, M)], {2: [1.0, 1.0, 1.0, 1.5]}, (N, 3, 5, "*")),
    ("Upsample", {}, [(N, 3, 5, M)], {1: [1.0, 1.0, 2.0, 3.0]}, (N, 3, 10, "3*M")),
    ("DepthToSpace", {"blocksize": 2}, [(N, 12, M, 5)], {}, (N, 3, "2*M", 10)),
    ("SpaceToDepth", {"blocksize": 2}, [(N, 3, "2*M", 10)], {}, (N, 12, M, 5)),
    ("Einsum", {"equation": "bij, bjk -> bik"}, [(N, M, 4), (N, 4, 5)], {}, (N, M, 5)),
    ("Einsum", {"equation": "ij,jk"}, [(N, 4), (4, M)], {}, (N, M)),
    ("Einsum", {"equation": "bi->b"}, [(N, M)], {}, (N,)),
    ("Conv", {"pads": [1, 1, 1, 1]}, [(N, 3, M, 8), (6, 3, 3, 3)], {}, (N, 6, M, 8)),
    ("Conv", {"strides": [2, 2]}, [(N, 3, "4*M", 8), (6, 3, 2, 2)], {}, (N, 6, "2*M", 4)),
    ("Conv", {"strides": [2], "pads": [1, 1]}, [(N, 3, "2*M"), (6, 3, 3)], {}, (N, 6, M)),
    ("Conv", {"strides": [2], "pads": [1, 1]}, [(N, 3, M), (6, 3, 3)], {}, (N, 6, "floor((M+1)/2)")),
    ("Conv", {"dilations": [2], "pads": [2, 2]}, [(N, 3, M), (6, 3, 3)], {}, (N, 6, M)),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2]}, [(N, 3, "2*M"), (6, 3, 3)], {}, (N, 6, M)),
    (
        "Conv",
        {"auto_pad": "SAME_LOWER", "strides": [2]},
        [(N, 3, M), (6, 3, 3)],
        {},
        (N, 6, "floor((M+1)/2)"),
    ),
    ("Conv", {"auto_pad": "VALID"}, [(N, 3, M), (6, 3, 3)], {}, (N, 6, "M-2")),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, [(N, 3, "2*M", M)], {}, (N, 3, M, "floor(M/2)")),
    ("MaxPool", {"kernel_shape": [3], "strides": [1], "pads": [1, 1]}, [(N, 3, M)], {}, (N, 3, M)),
    ("MaxPool", {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}, [(N, 3, "2*M")], {}, (N, 3, "*")),
    ("AveragePool", {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, [(N, 3, "2*M")], {}, (N, 3, M)),
    ("LpPool", {"kernel_shape": [2], "strides": [2]}, [(N, 3, "2*M")], {}, (N, 3, M)),
    ("MaxUnpool", {"kernel_shape": [2], "strides": [2]}, [(N, 3, M), (N, 3, M)], {}, (N, 3, "2*M")),
    ("ConvTranspose", {"strides": [2]}, [(N, 4, M), (4, 6, 2)], {}, (N, 6, "2*M")),
    ("ConvTranspose", {"group": 2}, [(N, 4, M), (4, 3, 3)], {}, (N, 6, "M+2")),
    (
        "ConvTranspose",
        {"strides": [2], "pads": [1, 1], "output_padding": [1]},
        [(N, 4, M), (4, 6, 3)],
        {},
        (N, 6, "2*M"),
    ),
]
ROWS += [
    (op, {}, [*first, (N, 1), (1, 4)], {}, (N, 4))
    for ops, first in (
        (("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Max", "Min", "Mean", "And", "Or", "Equal"), []),
        (("Where",), [(1, 1)]),
    )
    for op in ops
]
# The same where onnx itself infers nothing.
BEYOND = [
    ("Compress", {"axis": 1}, [(N, 9, M), (3,)], {1: [True, False, True]}, (N, 2, M)),
    ("Compress", {}, [(N, 9), (3,)], {1: [True, False, True]}, (2,)),
    ("MaxUnpool", {"kernel_shape": [3], "strides": [2]}, [(N, 3, M), (N, 3, M)], {2: [N, 3, M]}, (N, 3, M)),
]
IDS = [f"{row[0]}-{index}" for index, row in enumerate(ROWS)]
# Where nothing, or not everything, follows.
SILENT = [
    ("Reshape", {}, [(N, 4, 6)], {1: [None, 12]}, ("2*N", 12)),
    ("Reshape", {}, [(N, 4, 6)], {1: [None, -1]}, (None, None)),
    ("Reshape", {}, [(4, 6)], {1: [5, -1]}, (5, None)),
    ("Expand", {}, [(N, 4)], {1: [M, None]}, (None, 4)),
    ("Range", {}, [(), (), ()], {0: [None], 1: [N], 2: [1]}, (None,)),
    ("Pad", {}, [(N, 3, 8)], {1: [0, None, 0, 0, 0, 0]}, (N, None, 8)),
    ("Slice", {}, [(N, 8)], {1: [None], 2: [4], 3: [1]}, (N, None)),
    ("Resize", {}, [(N, 3, 4, M)], {3: [N, 3, 8, None]}, (N, 3, 8, None)),
    ("Concat", {"axis": 0}, [(N, 3), None], {}, None),
    ("Concat", {"axis": 0}, [(3, M), (2, 4)], {}, (5, 4)),
    ("Einsum", {"equation": "...i->..."}, [(N, M)], {}, None),
    ("Conv", {}, [(N, 3, M), None], {}, None),
    ("Flatten", {}, [None], {}, None),
]


def claim(row, symbols: Symbols | None = None) -> Shape | None:
    op, attrs, shapes, values, _ = row
    names = tuple(f"i{k}" if k < len(shapes) or k in values else "" for k in range(5))
    names = names[: max([len(shapes) - 1, *values]) + 1]
    node = Node("n", op, "", names, ("o",), attrs, 0, (), version(op))
    known = {names[k]: np.array(v, F if isinstance(v[0], float) else object) for k, v in values.items()}
    facts = Claimed(dict(zip(names, shapes, strict=False)), {}, known, symbols or Symbols())
    return CLAIMS[op](node, facts)


def version(op: str) -> int:
    return 9 if op == "Upsample" else OPSET


def test_every_claim_has_a_row():
    assert {row[0] for row in [*ROWS, *BEYOND]} == set(CLAIMS)


@pytest.mark.parametrize("row", [*ROWS, *BEYOND], ids=[*IDS, *(row[0] for row in BEYOND)])
def test_what_follows_from_open_sizes(row):
    found = claim(row)
    assert found is not None
    assert tuple("*" if isinstance(s, str) and s.startswith("unk__") else s for s in found) == row[4]


@pytest.mark.parametrize("row", SILENT, ids=[f"{row[0]}-{index}" for index, row in enumerate(SILENT)])
def test_what_does_not_follow_is_unknown(row):
    assert claim(row) == row[4]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_claims_agree_with_onnx_for_every_size(row):
    """One claim for all sizes: its numbers and products must be those that onnx infers for static shapes."""
    symbols = Symbols()
    found = claim(row, symbols)
    seen: dict[str, set[tuple[int, int, int]]] = {}
    for n, m in itertools.product((3, 4, 7), repeat=2):
        truth = inferred(row, {N: n, M: m})
        assert found is not None
        assert len(found) == len(truth)
        for size, true in zip(found, truth, strict=True):
            if isinstance(size, str) and size.startswith("unk__"):
                seen.setdefault(size, set()).add((n, m, true))
            else:
                assert value_of(size, {N: n, M: m}) == true
    for size, truths in seen.items():
        assert len({(n, m) for n, m, _ in truths}) == len(truths), f"{size} stands for two sizes"


def inferred(row, sizes: dict[str, int]) -> tuple[int, ...]:
    op, attrs, shapes, values, _ = row
    names = [f"i{k}" if k < len(shapes) or k in values else "" for k in range(5)]
    names = names[: max([len(shapes) - 1, *values]) + 1]
    inputs, constants = [], []
    for k, name in enumerate(names):
        if k in values:
            data = [value_of(item, sizes) for item in values[k]]
            kind = F if isinstance(values[k][0], float) else np.int64
            scalar = op in ("Range", "OneHot") and len(data) == 1
            constants.append(onnx.numpy_helper.from_array(np.array(data[0] if scalar else data, kind), name))
        elif name:
            shape = [value_of(size, sizes) for size in shapes[k]]
            inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    node = helper.make_node(op, names, ["o", "second"][: 2 if op == "TopK" else 1], **attrs)
    graph = helper.make_graph([node], "g", inputs, [helper.make_value_info("o", onnx.TypeProto())], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version(op))])
    result = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return tuple(dim.dim_value for dim in result.graph.output[0].type.tensor_type.shape.dim)


def value_of(size: Dim | float, sizes: dict[str, int]) -> int | float:
    if not isinstance(size, str):
        return size
    return value_at(size, sizes)


def test_what_a_slice_takes_off_comes_back_when_it_is_put_in_front():
    """A class token put in front can be cut off again, and a sequence shifted by one has the length it had."""
    cut = {1: [1], 2: [2**63 - 1], 3: [1]}
    assert claim(("Slice", {}, [(N, "T+1")], cut, None)) == (N, "T")
    assert claim(("Slice", {}, [(N, "T+1")], {1: [0], 2: [1], 3: [1]}, None)) == (N, 1)
    assert claim(("Slice", {}, [(N, "T+1")], {1: [0], 2: [-1], 3: [1]}, None)) == (N, "T")
    assert claim(("Slice", {}, [(N, "T")], cut, None)) == (N, "T-1")
    assert claim(("Concat", {"axis": 1}, [(N, 1), (N, "T-1")], {}, None)) == (N, "T")


def test_a_slice_of_an_axis_that_may_be_too_short_has_no_number_for_its_size():
    def cut(start, end):
        return claim(("Slice", {}, [(N, "T")], {1: [start], 2: [end], 3: [1]}, None))[1]

    assert cut(3, 2**63 - 1) == "T-3"
    assert cut(0, 3) == "min(3,T)"
    assert cut(-3, 2**63 - 1).startswith("unk__")
    assert cut(-3, -1).startswith("unk__")
    assert cut(-1, 2**63 - 1) == 1
    assert claim(("Slice", {}, [(N, 512)], {1: [0], 2: ["T"], 3: [1]}, None)) == (N, "min(512,T)")


def test_a_named_size_wins_when_broadcast_with_one_that_is_not_known():
    assert broadcast(("N", 4), ("unk__3", 4)) == ("N", 4)
    assert broadcast(("unk__3", 4), ("N", 1)) == ("N", 4)
    assert broadcast(("T",), ("min(512,T)",)) == ("T",)
    assert broadcast(("floor(H/2)",), ("unk__1",)) == (None,)
    assert broadcast(("N",), ("M",)) == (None,)
    assert broadcast((None,), ("unk__1",)) == (None,)
