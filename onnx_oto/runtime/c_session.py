"""Sessions of graphs that call functions of ours, in a runtime that takes these by its C interface alone.

They are used as those of the module for Python are, as far as training goes.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnx_oto.runtime.c_api import CApi, c_api
from onnx_oto.runtime.gradient_jobs import ELEMENTS
from onnx_oto.runtime.own_operator import domain

Array = npt.NDArray[Any]

_NUMBERS = {text: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for text, dtype in ELEMENTS.items()}
_KINDS: dict[int, str] = {number: text for text, number in _NUMBERS.items()}
_QUIET = 4
"""The level of logs that tells of nothing but what ends the process."""


class Value(NamedTuple):
    """An input or an output of a graph. shape: sizes, names of those that are open; type: as the runtime spells it."""

    name: str
    shape: list[Any]
    type: str


class CSession:
    """A session of a serialised model. Raises RuntimeError for what the runtime refuses."""

    def __init__(self, content: bytes, threads: int, disabled: Sequence[str] = ()) -> None:
        self._api = c_api()
        graph = onnx.load_model_from_string(content).graph
        given = {tensor.name for tensor in graph.initializer}
        self._inputs = [_described(value) for value in graph.input if value.name not in given]
        self._outputs = [_described(value) for value in graph.output]
        options = _options(self._api, threads, disabled)
        try:
            self._session = self._api.make(
                "CreateSessionFromArray", _environment(), content, len(content), options
            )
        finally:
            self._api.release("SessionOptions", options)
        weakref.finalize(self, self._api.release, "Session", self._session).atexit = False

    def get_inputs(self) -> list[Value]:
        """Return what the graph reads."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """Return what the graph makes."""
        return self._outputs

    def io_binding(self) -> Binding:
        """Return what says where a run reads and writes."""
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        """Run the graph; it writes the outputs that are bound."""
        self._run(binding.inputs, list(binding.outputs), _addresses(binding.outputs.values()))

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Return outputs, all of them without names."""
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        inputs = {name: _Tensor.of(array) for name, array in arrays.items()}
        wanted = [value.name for value in self._outputs] if names is None else list(names)
        made = (ctypes.c_void_p * len(wanted))()
        self._run(inputs, wanted, made)
        return [self._array(address or 0) for address in made]

    def _run(self, inputs: Mapping[str, _Tensor], wanted: Sequence[str], made: Any) -> None:
        self._api.call(
            "Run",
            self._session,
            None,
            _texts(inputs),
            _addresses(inputs.values()),
            len(inputs),
            _texts(wanted),
            len(wanted),
            made,
        )

    def _array(self, value: int) -> Array:
        """Return a copy of a tensor that the runtime made, which is given back."""
        api = self._api
        info = api.make("GetTensorTypeAndShape", value)
        try:
            rank, kind = api.make("GetDimensionsCount", info), api.make("GetTensorElementType", info)
            shape = (ctypes.c_int64 * rank)()
            api.call("GetDimensions", info, shape, rank)
            dtype = helper.tensor_dtype_to_np_dtype(kind & 0xFFFFFFFF)
            found = np.empty(tuple(shape), dtype)
            ctypes.memmove(found.ctypes.data, api.make("GetTensorMutableData", value), found.nbytes)
            return found
        finally:
            api.release("TensorTypeAndShapeInfo", info)
            api.release("Value", value)


class Binding:
    """Where a run reads and writes: tensors of the module for Python, or what looks like them, by name."""

    def __init__(self) -> None:
        self.inputs: dict[str, _Tensor] = {}
        self.outputs: dict[str, _Tensor] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        """Read a tensor where it lies."""
        self.inputs[name] = _Tensor(value.data_ptr(), value.shape(), value.data_type())

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        """Write into a tensor."""
        self.outputs[name] = _Tensor(value.data_ptr(), value.shape(), value.data_type())


class _Tensor:
    """A tensor of the runtime over memory that is somebody else's."""

    def __init__(self, place: int, shape: Sequence[int], kind: str) -> None:
        number = _NUMBERS[kind]
        size = int(np.prod(shape, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(number).itemsize
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        api = c_api()
        self.address = api.make(
            "CreateTensorWithDataAsOrtValue", _host_memory(), place, size, sizes, len(shape), number
        )
        weakref.finalize(self, api.release, "Value", self.address).atexit = False

    @classmethod
    def of(cls, array: Array) -> _Tensor:
        """Return a tensor over an array, which the caller keeps."""
        return cls(array.ctypes.data, array.shape, _KINDS[helper.np_dtype_to_tensor_dtype(array.dtype)])


def _described(value: onnx.ValueInfoProto) -> Value:
    kind = value.type.tensor_type
    shape = [size.dim_param or size.dim_value for size in kind.shape.dim]
    return Value(value.name, shape, _KINDS.get(kind.elem_type, ""))


def _texts(names: Any) -> Any:
    texts = [name.encode() for name in names]
    return (ctypes.c_char_p * len(texts))(*texts)


def _addresses(tensors: Any) -> Any:
    addresses = [each.address for each in tensors]
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _options(api: CApi, threads: int, disabled: Sequence[str]) -> int:
    """Return options as `gradient_jobs.session_options` has them, and the domain of our functions."""
    options = api.make("CreateSessionOptions")
    api.call("SetIntraOpNumThreads", options, threads)
    api.call("SetInterOpNumThreads", options, 1)
    api.call("DisableMemPattern", options)
    api.call("SetSessionLogSeverityLevel", options, _QUIET)
    api.call("AddSessionConfigEntry", options, b"session.intra_op.allow_spinning", b"0")
    if disabled:
        names = ";".join(disabled).encode()
        api.call("AddSessionConfigEntry", options, b"optimization.disable_specified_optimizers", names)
    api.call("AddCustomOpDomain", options, domain())
    return options


@cache
def _environment() -> int:
    """Return what all sessions of a process share; it lives as long as the process."""
    api = c_api()
    made = api.make("CreateEnv", _QUIET, b"onnx-oto")
    api.call("DisableTelemetryEvents", made)
    return made


@cache
def _host_memory() -> int:
    arena, default = 1, 0
    return c_api().make("CreateCpuMemoryInfo", arena, default)
