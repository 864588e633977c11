"""Sessions by the runtime's C interface, where it is the way to functions of ours: in stock runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.typing import NDArray

from onnx_oto.machine import has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs numba")

if has_compiler():
    from onnx_oto.gradients.backends import ort_norms_probe, probing
    from onnx_oto.runtime import c_api, door, gradient_jobs
    from onnx_oto.runtime.c_session import CSession
    from onnx_oto.runtime.joining import DOMAIN

    pytestmark = pytest.mark.skipif(
        door.takes_functions(), reason="this runtime takes functions by its module for Python"
    )

Array = NDArray[Any]

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x, int64[1] at) => (float[N, 3] y, bool[N, 3] big, int64[1] next) <float[3] w = {1, 2, 3}>
{ y = Mul(x, w) c = CastLike(at, x) big = Greater(y, c) next = Add(at, at) }"""


def content(text: str = TEXT) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_it_computes_what_the_other_kind_of_session_does() -> None:
    own = CSession(content(), threads=1)
    other = onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"])
    for theirs, ours in ((other.get_inputs(), own.get_inputs()), (other.get_outputs(), own.get_outputs())):
        assert [(v.name, v.shape, v.type) for v in ours] == [(v.name, v.shape, v.type) for v in theirs]
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(4, 3)[::2], "at": np.array([7])}
    for found, expected in zip(own.run(None, feeds), other.run(None, feeds), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    (y,) = own.run(["y"], feeds)
    np.testing.assert_array_equal(y, feeds["x"] * [1, 2, 3])


def test_what_is_bound_is_read_and_written_where_it_lies() -> None:
    session = CSession(content(), threads=1)
    x, at, y = np.ones((2, 3), np.float32), np.array([1]), np.zeros((2, 3), np.float32)
    binding = session.io_binding()
    for name, array in (("x", x), ("at", at)):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))
    for factor in (1.0, 5.0):
        x[...] = factor
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(y, factor * np.array([[1, 2, 3]] * 2))


def test_what_the_runtime_refuses_is_an_error_in_its_words() -> None:
    with pytest.raises(RuntimeError, match="Nonsense"):
        CSession(content(TEXT.replace("Mul(x, w)", "Nonsense(x, w)")), threads=1)
    session = CSession(content(), threads=1)
    with pytest.raises(RuntimeError, match="rank"):
        session.run(None, {"x": np.ones(3, np.float32), "at": np.array([1])})
    with pytest.raises(RuntimeError, match=r"Missing Input: x"):
        session.run(None, {"at": np.array([1])})


def test_functions_are_called() -> None:
    assert ort_norms_probe._is_right(relu=True)


def test_a_function_whose_output_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is to be written where there is room for another shape: the runtime says so, and the step fails."""
    graphs: list[tuple[onnx.GraphProto, Mapping[str, Array]]] = []

    def computed(graph: onnx.GraphProto, domain: str, feeds: Mapping[str, Array]) -> None:
        graphs.append((graph, feeds))

    with monkeypatch.context() as patch:
        patch.setattr(ort_norms_probe, "computed", computed)
        assert not ort_norms_probe._is_right(relu=False)
    ((graph, feeds),) = graphs
    (y,) = (value for value in graph.output if value.name == "y")
    y.type.tensor_type.shape.dim[0].dim_value = 4  # it makes 5
    opsets = [onnx.helper.make_opsetid("", 15), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = gradient_jobs.open_light(model.SerializeToString())
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    wrong = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((4, 3, 8, 7), np.float32))
    binding.bind_ortvalue_output("y", wrong)
    with pytest.raises(RuntimeError, match="shape"):
        session.run_with_iobinding(binding)


def test_a_runtime_without_the_library_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    c_api.c_api.cache_clear()
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "onnxruntime" / "__init__.py"))
    try:
        with pytest.raises(OSError, match="without its C library"):
            c_api.c_api()
    finally:
        monkeypatch.undo()
        c_api.c_api.cache_clear()


def test_without_functions_nothing_of_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that fails is a runtime that calls none."""
    monkeypatch.setattr(probing, "shared", Lost)
    ort_norms_probe.can_norm.cache_clear()
    assert not ort_norms_probe.can_norm()
    ort_norms_probe.can_norm.cache_clear()


class Lost:
    """A process in which the library is not found."""

    def call(self, *_: object) -> None:
        from onnx_oto.runtime.child import Failure
        from onnx_oto.runtime.worker import JobFailed

        raise JobFailed(Failure("OSError", "this ONNX Runtime comes without its C library"))
