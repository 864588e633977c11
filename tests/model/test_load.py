"""Whatever is wrong with a file becomes one ModelError (or StorageError when it cannot be read)."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import ModelError, StorageError, UnsupportedError
from onnx_oto.model import full_check, load, normalise

CONV = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }"


def test_a_good_model_loads(parse, write):
    model = load(write(parse(CONV, w=(4, 3, 3, 3))))
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]


def test_every_truncation_is_refused(parse, tmp_path):
    data = parse(CONV, w=(4, 3, 3, 3)).SerializeToString()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(data) - 1, 7):
        path.write_bytes(data[:end])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            load(path)


@pytest.mark.parametrize(
    "data", [b"\0" * 100, b"PK\x03\x04 zip", b"hello world\n", b"\x08\x08", bytes(range(256))]
)
def test_other_files_are_refused(data, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX file"):
        load(path)


@pytest.mark.parametrize(
    ("start", "kind"), [(b"PK\x03\x04", "PyTorch"), (b"\x89HDF\r\n", "HDF5"), (b"\x80\x02}q", "a pickle")]
)
def test_a_file_of_a_framework_is_told_as_what_it_is(start, kind, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes(start + b"\xff" * 40)
    with pytest.raises(ModelError, match=f"not an ONNX file but .*{kind}.*export"):
        load(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(ModelError, match="is empty"):
        load(path)


def test_what_cannot_be_read_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(StorageError):
        load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(StorageError, match="regular file"):
            load(tmp_path / "pipe")


def test_the_size_cap_holds(parse, write):
    path = write(parse(CONV, w=(4, 3, 3, 3)))
    with pytest.raises(ModelError, match="more than the limit of 100"):
        load(path, max_bytes=100)


STRUCTURE = {
    "cycle": ("g (float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Relu(b) }", "cycle"),
    "self loop": ("g (float[2] x) => (float[2] y) { y = Add(x, y) }", "cycle"),
    "missing initializer": (CONV, "reads 'w'"),
    "doubly defined": ("g (float[2] x) => (float[2] y) { y = Relu(x) y = Neg(x) }", "'y' is defined twice"),
    "redefined input": ("g (float[2] x) => (float[2] y) { x = Relu(x) y = Neg(x) }", "'x' is defined twice"),
    "undefined output": ("g (float[2] x) => (float[2] y) { z = Relu(x) }", "output 'y'"),
    "unknown op": ("g (float[2] x) => (float[2] y) { y = Frobnicate(x) }", "Frobnicate"),
    "bad arity": ("g (float[2] x) => (float[2] y) { y = Relu(x, x) }", "Relu"),
    "impossible MatMul": ("g (float[2,3] x) => (float[?,?] y) { y = MatMul(x, x) }", "MatMul"),
    "undefined in a body": (
        "g (bool c, float[2] x) => (float[2] y) { y = If(c) "
        "<then_branch = t () => (float[2] a) { a = Relu(q) }, "
        "else_branch = e () => (float[2] b) { b = Neg(x) }> }",
        "reads 'q'",
    ),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_malformed_graph_is_refused(name, parse, write):
    text, message = STRUCTURE[name]
    with pytest.raises(ModelError, match=message) as error:
        load(write(parse(text)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("declared", [[3], [2, 2], None])
def test_an_output_of_a_wrong_or_no_shape_is_declared_anew(declared, parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, declared))
    normal = normalise(load(write(model)))
    assert [d.dim_value for d in normal.graph.output[0].type.tensor_type.shape.dim] == [2]
    full_check(normal)


@pytest.mark.parametrize("shape", [[2], None])
def test_an_output_without_an_element_type_is_refused(shape, parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    model.graph.output[0].type.tensor_type.ClearField("elem_type")
    with pytest.raises(ModelError, match="elem_type"):
        load(write(model))


def test_an_output_of_unknown_rank_stays_so(parse, write):
    model = parse("g (float[2] x, int64[K] s) => (float[2] y) { y = Reshape(x, s) }")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    normal = normalise(load(write(model)))
    assert not normal.graph.output[0].type.tensor_type.HasField("shape")
    full_check(normal)


def test_unsorted_nodes_are_sorted(parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(b) b = Neg(a) a = Abs(x) }")
    assert [node.op_type for node in load(write(model)).graph.node] == ["Abs", "Neg", "Relu"]


def test_stored_value_info_is_not_trusted(parse, write):
    model = parse(CONV, w=(4, 3, 3, 3))
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 99, 8, 8]))
    assert not load(write(model)).graph.value_info


def test_ops_of_other_domains_are_allowed(parse, write):
    text = "g (float[2] x) => (float[2] y) { z = com.acme.Thing(x) y = Relu(z) }"
    header = '<ir_version: 8, opset_import: ["":17, "com.acme":1]>'
    assert len(load(write(parse(text, header=header))).graph.node) == 2


def test_recursive_functions_are_refused(parse, write):
    text = (
        "g (float[2] x) => (float[2] y) { y = l.f(x) }\n"
        '<domain: "l", opset_import: ["":17, "l":1]> f (a) => (b) { b = l.h(a) }\n'
        '<domain: "l", opset_import: ["":17, "l":1]> h (a) => (b) { b = l.f(a) }'
    )
    with pytest.raises(ModelError, match="calls itself"):
        load(write(parse(text, header='<ir_version: 8, opset_import: ["":17, "l":1]>')))


def test_explosive_functions_are_refused(parse, write):
    """Twelve levels that call the next one ten times each would inline to 10^12 nodes."""
    calls = (
        "".join(f"t{i + 1} = l.f{{next}}(t{i}) " for i in range(10))
        .replace("t10 =", "b =")
        .replace("(t0)", "(a)")
    )
    levels = "\n".join(
        f'<domain: "l", opset_import: ["":17, "l":1]> f{level} (a) => (b) '
        f"{{ {calls.format(next=level + 1)} }}"
        for level in range(12)
    )
    last = '<domain: "l", opset_import: ["":17, "l":1]> f12 (a) => (b) { b = Relu(a) }'
    text = f"g (float[2] x) => (float[2] y) {{ y = l.f0(x) }}\n{levels}\n{last}"
    with pytest.raises(ModelError, match="refused as unsafe"):
        load(write(parse(text, header='<ir_version: 8, opset_import: ["":17, "l":1]>')))


def test_payloads_that_do_not_fit_their_dims_are_refused(parse, write):
    for change in (
        lambda t: t.dims.append(2),
        lambda t: t.dims.__setitem__(0, 10**12),
        lambda t: t.dims.insert(0, -1),
    ):
        model = parse(CONV, w=(4, 3, 3, 3))
        change(model.graph.initializer[0])
        with pytest.raises(ModelError, match="'w'"):
            load(write(model))


def test_an_initializer_must_agree_with_its_input(parse, write):
    model = parse("g (float[2] x, float[3] w) => (float[2] y) { y = Add(x, w) }", w=(2,))
    with pytest.raises(ModelError, match="'w'"):
        load(write(model))


@pytest.mark.parametrize("where", ["name", "place of a node"])
def test_names_must_be_text(where, parse, write, tmp_path):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    if where == "name":
        model.graph.node[0].name = "marker"
    else:
        model.graph.node[0].device_configurations.add(configuration_id="marker")
    data = model.SerializeToString()
    path = tmp_path / "bytes.onnx"
    path.write_bytes(data.replace(b"marker", b"\xb5\xfe\xff\x80ab"))
    with pytest.raises(ModelError, match="UTF-8"):
        load(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_loads_or_is_refused(position, value, parse, tmp_path):
    data = bytearray(parse(CONV, w=(4, 3, 3, 3)).SerializeToString())
    data[position % len(data)] = value
    path = tmp_path / "changed.onnx"
    path.write_bytes(data)
    try:
        model = load(path)
    except (ModelError, UnsupportedError):
        return
    onnx.checker.check_model(model)


def test_weights_of_every_type_load(write):
    kinds = [
        TensorProto.FLOAT,
        TensorProto.INT64,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.BOOL,
    ]
    nodes, initializers, outputs = [], [], []
    for kind in kinds:
        name = f"t{kind}"
        array = np.ones((2, 3)).astype(helper.tensor_dtype_to_np_dtype(kind))
        initializers.append(numpy_helper.from_array(array, name))
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"]))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", kind, [2, 3]))
    graph = helper.make_graph(nodes, "g", [], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert len(load(write(model)).graph.initializer) == len(kinds)


def test_a_graph_without_a_name_gets_one(parse, write):
    model = parse(CONV, w=(4, 3, 3, 3))
    model.graph.ClearField("name")
    assert load(write(model)).graph.name == "graph"


VERSIONS = {
    "opset 0": ({"": 0}, ModelError, "version 0 of operator set 'ai.onnx': versions begin with 1"),
    "opset -1": ({"": -1}, ModelError, "version -1 of operator set 'ai.onnx'"),
    "opset 999": ({"": 999}, UnsupportedError, "version 999 of operator set 'ai.onnx', newer than"),
    "ml 77": (
        {"": 17, "ai.onnx.ml": 77},
        UnsupportedError,
        "version 77 of operator set 'ai.onnx.ml', newer than",
    ),
    "both spellings": ({"": 17, "ai.onnx": 11}, ModelError, "'ai.onnx' twice, versions 17 and 11"),
    "a domain without a version": (
        {"": 17, "com.acme": 0},
        ModelError,
        "version 0 of operator set 'com.acme'",
    ),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_versions_that_mean_nothing_are_refused_by_name(name, parse, write):
    imports, error, message = VERSIONS[name]
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in imports.items())
    with pytest.raises(error, match=message):
        load(write(model))


def test_an_operator_set_declared_twice_is_refused(parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.opset_import.add(version=11)
    with pytest.raises(ModelError, match=r"'ai\.onnx' twice, versions 17 and 11"):
        load(write(model))
    model.opset_import[1].version = 17  # said twice, and the same
    assert load(write(model)).graph.node


def test_a_function_declares_versions_too(parse, write):
    text = (
        "g (float[2] x) => (float[2] y) { y = l.f(x) }\n"
        '<domain: "l", opset_import: ["":17, "ai.onnx":9]> f (a) => (b) { b = Relu(a) }'
    )
    with pytest.raises(ModelError, match=r"function 'f' declares operator set 'ai\.onnx' twice"):
        load(write(parse(text, header='<ir_version: 8, opset_import: ["":17, "l":1]>')))


@pytest.mark.parametrize(
    ("version", "error"), [(2, ModelError), (999, UnsupportedError), (2**62, UnsupportedError)]
)
def test_an_ir_version_that_is_not_known_is_refused(version, error, parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.ir_version = version
    with pytest.raises(error, match=f"IR version {version} is"):
        load(write(model))


def test_a_negative_size_is_an_open_one(parse, write):
    """Paddle writes -1 for a batch; 0 is a size."""
    model = parse("g (float[7,0] x, seq(float[2]) s) => (float[8,0] y) { y = Relu(x) }")
    for value in (*model.graph.input[:1], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    model.graph.input[1].type.sequence_type.elem_type.tensor_type.shape.dim[0].dim_value = -7
    loaded = load(write(model)).graph
    for value in (loaded.input[0], loaded.output[0]):
        first, second = value.type.tensor_type.shape.dim
        assert first.WhichOneof("value") is None
        assert (second.HasField("dim_value"), second.dim_value) == (True, 0)
    assert loaded.input[1].type.sequence_type.elem_type.tensor_type.shape.dim[0].WhichOneof("value") is None
