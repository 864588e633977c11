"""Valid models with one thing wrong: headers, dims, payloads, names that clash, missing fields, declared sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from hostile_corpus.case import ANY, INVALID, PRUNE, Build, Case, pair
from hostile_corpus.placing import carrier, open_value, write

Edit = Callable[[ModelProto], None]

WHOLE = b"\0\0\x80\x3f" * 64
"""Sixty-four float32 ones: the payload of w1."""


def edited(edit: Edit, name: str = "flat") -> Build:
    """Return a function that writes an edited carrier."""

    def build(folder: Any) -> None:
        model = carrier(name)
        edit(model)
        write(folder, model)

    return build


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for name, given, codes in _TENSORS:
        yield pair("tensors", name, edited(_first_weight(**given)), edited(_first_weight()), PRUNE, codes)
    for name, given in _SPARSE.items():
        yield pair("sparse", name, edited(_sparse(**given)), edited(_sparse()))
    yield pair("sparse", "64-times-1gb", edited(_many_sparse(2**28)), edited(_many_sparse(8)), PRUNE, ANY)
    for name, versions, codes in _OPSETS:
        yield pair(
            "headers", f"opset-{name}", edited(_opsets(versions)), edited(_opsets((("", 21),))), PRUNE, codes
        )
    for version in (0, 1, 999, 2**62, -1):
        codes = ANY if version in (1, 999) else INVALID
        yield pair("headers", f"ir-{version}", edited(_ir(version)), edited(_ir(9)), PRUNE, codes)
    for name, hostile, twin, codes in _EDITS:
        yield pair("structure", name, edited(hostile), edited(twin), PRUNE, codes)
    for name, shape, codes in _INPUTS:
        twin = edited(_declared([2, 3, 8, 8]), "image")
        yield pair("inputs", name, edited(_declared(shape), "image"), twin, PRUNE, codes)


def _first_weight(**changes: Any) -> Edit:
    """Return an edit that writes w1 anew, field by field."""
    fields = {"dims": [4, 16], "data_type": TensorProto.FLOAT, "raw_data": WHOLE, **changes}

    def edit(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(TensorProto(name="w1", **{key: v for key, v in fields.items() if v is not None}))

    return edit


_TENSORS: tuple[tuple[str, dict[str, Any], frozenset[int]], ...] = (
    ("dims-huge", {"dims": [4, 10**12]}, INVALID),
    ("dims-huge-empty", {"dims": [10**9, 10**9], "raw_data": None}, INVALID),
    ("dims-negative", {"dims": [4, -16]}, INVALID),
    ("dims-both-negative", {"dims": [-4, -16]}, INVALID),
    ("dims-overflow-to-64", {"dims": [2**33, 2**37 + 2**31]}, INVALID),
    ("dims-overflow-to-0", {"dims": [2**32, 2**32], "raw_data": b""}, INVALID),
    ("dims-0-and-huge", {"dims": [0, 2**62], "raw_data": b""}, INVALID),
    ("dims-least", {"dims": [-(2**63), 1]}, INVALID),
    ("rank-1000", {"dims": [1] * 1000, "raw_data": WHOLE[:4]}, INVALID),
    ("rank-100000", {"dims": [1] * 100_000, "raw_data": WHOLE[:4]}, INVALID),
    ("raw-short", {"raw_data": WHOLE[:-1]}, INVALID),
    ("raw-long", {"raw_data": WHOLE + b"\0"}, INVALID),
    ("raw-empty", {"raw_data": b""}, INVALID),
    ("raw-missing", {"raw_data": None}, INVALID),
    ("raw-and-floats", {"float_data": [1.0] * 64}, INVALID),
    ("floats-short", {"raw_data": None, "float_data": [1.0] * 3}, INVALID),
    ("floats-long", {"raw_data": None, "float_data": [1.0] * 65}, INVALID),
    ("floats-as-integers", {"raw_data": None, "int64_data": [1] * 64}, INVALID),
    ("type-0", {"data_type": 0}, INVALID),
    ("type-999", {"data_type": 999}, INVALID),
    ("type-negative", {"data_type": -1}, INVALID),
    ("type-least", {"data_type": -(2**31)}, INVALID),
    ("type-text", {"data_type": TensorProto.STRING}, INVALID),
    ("type-double", {"data_type": TensorProto.DOUBLE}, INVALID),
    ("type-int32", {"data_type": TensorProto.INT32}, INVALID),
    ("type-half-as-long", {"data_type": TensorProto.FLOAT16}, INVALID),
    ("text-no-utf8", {"data_type": 8, "raw_data": None, "string_data": [b"\xff\x1b[31m"] * 64}, INVALID),
    ("int4-short", {"data_type": TensorProto.INT4, "raw_data": b"\0" * 31}, INVALID),
    ("segment", {"segment": TensorProto.Segment(begin=-5, end=2**62)}, INVALID),
    ("nan", {"raw_data": b"\0\0\xc0\x7f" * 64}, ANY),
    ("one-nan", {"raw_data": b"\0\0\xc0\x7f" + WHOLE[4:]}, ANY),
    ("infinite", {"raw_data": b"\0\0\x80\x7f" * 64}, ANY),
    ("signalling-nan", {"raw_data": b"\1\0\xa0\x7f" * 64}, ANY),
    ("largest", {"raw_data": b"\xff\xff\x7f\x7f" * 64}, ANY),
    ("denormal", {"raw_data": b"\1\0\0\0" * 64}, ANY),
    ("location-lies", {"data_location": TensorProto.EXTERNAL}, INVALID),
    ("location-nowhere", {"data_location": 1, "raw_data": None}, INVALID),
)  # fmt: skip


def _sparse(
    indices: Any = (0, 5),
    dims: Any = (4, 16),
    values: int = 2,
    shape: tuple[int, ...] = (),
    dtype: Any = np.int64,
) -> Edit:
    """Return an edit that stores w1 sparsely: `values` ones at flat indices, or at rows of indices of `shape`."""

    def edit(model: ModelProto) -> None:
        places = np.array(indices, dtype)
        sparse = SparseTensorProto(
            values=numpy_helper.from_array(np.ones(values, np.float32), "w1"),
            indices=numpy_helper.from_array(places.reshape(shape) if shape else places, "w1_places"),
            dims=dims,
        )
        del model.graph.initializer[0]
        model.graph.sparse_initializer.append(sparse)

    return edit


_SPARSE: dict[str, dict[str, Any]] = {
    "beyond": {"indices": [0, 64]},
    "negative": {"indices": [-1, 5]},
    "unsorted": {"indices": [5, 0]},
    "twice": {"indices": [5, 5]},
    "fewer-indices": {"values": 3},
    "more-indices": {"values": 1},
    "floats": {"dtype": np.float32},
    "row-beyond": {"indices": [0, 0, 4, 99], "shape": (2, 2)},
    "rank-3-rows": {"indices": [0, 0, 0, 1, 1, 1], "shape": (2, 3)},
    "tera": {"dims": [10**6, 10**6]},
    "2gb-dense": {"dims": [4, 2**27]},
    "overflow": {"dims": [2**33, 2**31]},
    "negative-dims": {"dims": [-4, -16]},
    "no-dims": {"dims": []},
}


def _many_sparse(size: int) -> Edit:
    def edit(model: ModelProto) -> None:
        for number in range(64):
            model.graph.sparse_initializer.append(
                SparseTensorProto(
                    values=numpy_helper.from_array(np.ones(1, np.float32), f"s{number}"),
                    indices=numpy_helper.from_array(np.array([0]), f"s{number}_places"),
                    dims=[size],
                )
            )

    return edit


_OPSETS: tuple[tuple[str, tuple[tuple[str, int], ...], frozenset[int]], ...] = (
    ("0", (("", 0),), INVALID),
    ("negative", (("", -1),), INVALID),
    ("1", (("", 1),), ANY),
    ("999", (("", 999),), INVALID),
    ("most", (("", 2**62),), INVALID),
    ("least", (("", -(2**63)),), INVALID),
    ("twice", (("", 21), ("", 11)), INVALID),
    ("alias", (("", 21), ("ai.onnx", 11)), INVALID),
    ("none", (), INVALID),
    ("other-domain", (("elsewhere", 1),), INVALID),
    ("ml-999", (("", 21), ("ai.onnx.ml", 999)), ANY),
)


def _opsets(versions: tuple[tuple[str, int], ...]) -> Edit:
    def edit(model: ModelProto) -> None:
        del model.opset_import[:]
        for domain, version in versions:
            model.opset_import.append(helper.make_opsetid(domain, version))

    return edit


def _ir(version: int) -> Edit:
    def edit(model: ModelProto) -> None:
        model.ir_version = version

    return edit


def _add(op: str, inputs: list[str], outputs: list[str], shown: str = "", **attributes: Any) -> Edit:
    """Return an edit that appends a node and, where one is shown, an output."""

    def edit(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node(op, inputs, outputs, **attributes))
        if shown:
            model.graph.output.append(open_value(shown))

    return edit


def _both(*edits: Edit) -> Edit:
    def edit(model: ModelProto) -> None:
        for each in edits:
            each(model)

    return edit


def _again(part: str) -> Edit:
    """Return an edit that repeats the first entry of a list of the graph."""
    return lambda model: getattr(model.graph, part).append(getattr(model.graph, part)[0])


def _without(part: str) -> Edit:
    """Return an edit that empties a list of the graph."""
    return lambda model: model.graph.ClearField(part)


def _set(path: str, value: Any) -> Edit:
    """Return an edit that sets a field of the second node."""
    return lambda model: setattr(model.graph.node[1], path, value)


def _input_gone(model: ModelProto) -> None:
    del model.graph.node[0].input[1]


def _output_gone(model: ModelProto) -> None:
    del model.graph.node[1].output[:]


def _extra_inputs(model: ModelProto) -> None:
    model.graph.node[1].input.extend(["x"] * 1000)


def _attribute(change: Callable[[Any], None]) -> Edit:
    def edit(model: ModelProto) -> None:
        _add("Softmax", ["d"], ["z"], "z", axis=1)(model)
        change(model.graph.node[-1])

    return edit


def _type_lies(node: Any) -> None:
    node.attribute[0].type = 3


def _attribute_twice(node: Any) -> None:
    node.attribute.append(node.attribute[0])


def _attribute_unknown(node: Any) -> None:
    node.attribute.append(helper.make_attribute("hostile", 1))


def _attribute_two_values(node: Any) -> None:
    node.attribute[0].ints.extend([1, 2])


def _nothing(node: Any) -> None:
    """Leave it as it is."""


def _declared_type(kind: int) -> Edit:
    def edit(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    return edit


def _sequence_input(model: ModelProto) -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    for _ in range(30):
        tensor = helper.make_sequence_type_proto(tensor)
    model.graph.input.append(helper.make_value_info("deep", tensor))


def _plain_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def _value_info(shape: list[int | str]) -> Edit:
    """Return an edit that says something of a tensor between the layers."""
    return lambda model: model.graph.value_info.append(
        helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)
    )


def _same(model: ModelProto) -> None:
    """Leave it as it is."""


_NEG = _add("Neg", ["d"], ["z"], "z")
_EDITS: tuple[tuple[str, Edit, Edit, frozenset[int]], ...] = (
    ("cycle", _both(_add("Add", ["d", "k"], ["j"], "j"), _add("Neg", ["j"], ["k"])),
     _both(_add("Add", ["d", "d"], ["j"], "j"), _add("Neg", ["j"], ["k"])), INVALID),
    ("cycle-of-one", _add("Add", ["z", "d"], ["z"], "z"), _add("Add", ["d", "d"], ["z"], "z"), INVALID),
    ("cycle-of-100", _both(*(_add("Neg", [f"k{i}"], [f"k{(i + 1) % 100}"]) for i in range(100))),
     _both(*(_add("Neg", [f"k{i}" if i else "d"], [f"k{i + 1}"]) for i in range(100))), INVALID),
    ("output-twice", _add("Neg", ["x"], ["a"]), _add("Neg", ["x"], ["b"]), INVALID),
    ("output-is-input", _add("Neg", ["d"], ["x"]), _add("Neg", ["d"], ["z"]), INVALID),
    ("output-is-weight", _add("Neg", ["d"], ["w1"]), _add("Neg", ["d"], ["z"]), INVALID),
    ("node-writes-twice", _add("Split", ["d"], ["z", "z"], "z", axis=1, num_outputs=2),
     _add("Split", ["d"], ["z", "u"], "z", axis=1, num_outputs=2), INVALID),
    ("weight-twice", _again("initializer"), _same, INVALID),
    ("declared-output-twice", _again("output"), _same, INVALID),
    ("declared-input-twice", _again("input"), _same, INVALID),
    ("no-outputs", _without("output"), _same, INVALID),
    ("no-inputs", _without("input"), _same, INVALID),
    ("no-nodes", _without("node"), _same, INVALID),
    ("no-weights", _without("initializer"), _same, INVALID),
    ("unknown-input", _add("Neg", ["nowhere"], ["z"], "z"), _NEG, INVALID),
    ("unknown-output", lambda m: m.graph.output.append(open_value("nowhere")), _same, INVALID),
    ("unknown-operator", _add("Hostile", ["d"], ["z"], "z"), _NEG, INVALID),
    ("unknown-domain", _add("Neg", ["d"], ["z"], "z", domain="no.such.domain"), _NEG, INVALID),
    ("no-operator", _set("op_type", ""), _set("op_type", "Relu"), INVALID),
    ("input-missing", _input_gone, _same, INVALID),
    ("output-missing", _output_gone, _same, INVALID),
    ("inputs-1000-too-many", _extra_inputs, _same, INVALID),
    ("output-unnamed", _add("Neg", ["d"], [""]), _NEG, ANY),
    ("attribute-type-lies", _attribute(_type_lies), _attribute(_nothing), INVALID),
    ("attribute-twice", _attribute(_attribute_twice), _attribute(_nothing), INVALID),
    ("attribute-unknown", _attribute(_attribute_unknown), _attribute(_nothing), INVALID),
    ("attribute-two-values", _attribute(_attribute_two_values), _attribute(_nothing), ANY),
    ("attribute-nan", _add("LeakyRelu", ["d"], ["z"], "z", alpha=float("nan")),
     _add("LeakyRelu", ["d"], ["z"], "z", alpha=0.1), ANY),
    ("attribute-1e6-numbers", _add("Transpose", ["d"], ["z"], "z", perm=list(range(10**6))),
     _add("Transpose", ["d"], ["z"], "z", perm=[1, 0]), INVALID),
    ("input-type-0", _declared_type(0), _declared_type(1), INVALID),
    ("input-type-999", _declared_type(999), _declared_type(1), INVALID),
    ("input-type-text", _declared_type(8), _declared_type(1), INVALID),
    ("input-type-int64", _declared_type(7), _declared_type(1), INVALID),
    ("input-nested-30", _sequence_input, _plain_input, ANY),
    ("stored-shape-lies", _value_info(["N", 10**12]), _value_info(["N", 16]), ANY),
    ("stored-shape-negative", _value_info(["N", -16]), _value_info(["N", 16]), ANY),
    ("stored-shape-rank", _value_info([2**40] * 9), _value_info(["N", 16]), ANY),
)  # fmt: skip


def _declared(shape: list[int | str | None]) -> Edit:
    """Return an edit that declares another shape of the images, and none of the output."""

    def edit(model: ModelProto) -> None:
        kind = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        model.graph.input[0].CopyFrom(kind)
        model.graph.output[0].CopyFrom(open_value("d"))

    return edit


_INPUTS: tuple[tuple[str, list[int | str | None], frozenset[int]], ...] = (
    ("batch-1e9", [10**9, 3, 8, 8], ANY),
    ("batch-1e12", [10**12, 3, 8, 8], ANY),
    ("image-60000", [1, 3, 60000, 60000], ANY),
    ("width-1e9", [1, 3, 1, 10**9], ANY),
    ("height-most", [1, 3, 2**62, 2**62], ANY),
    ("open-batch-image-30000", ["N", 3, 30000, 30000], ANY),
    ("overflow", ["N", 3, 2**40, 2**40], ANY),
    ("channels-huge", ["N", 2**62, 8, 8], INVALID),
    ("channels-negative", ["N", -3, 8, 8], INVALID),
    ("batch-negative", [-7, 3, 8, 8], ANY),
    ("width-negative", ["N", 3, 8, -8], ANY),
    ("channels-zero", ["N", 0, 8, 8], INVALID),
    ("width-zero", ["N", 3, 8, 0], ANY),
    ("rank-0", [], INVALID),
    ("rank-1000", ["N", 3, *[1] * 998], INVALID),
)
