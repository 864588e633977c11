"""The operator of `joining` for a runtime that has none: a structure of its C interface, `OrtCustomOp`.

It is the door (`door`) for such runtimes. What it computes is compiled, and takes no lock of the interpreter's; what
the runtime asks when it opens a session is answered in Python.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numba import carray

from onnx_oto.runtime.c_api import CApi, c_api
from onnx_oto.runtime.compiled import ask_2, ask_3, call, copy, native, pointer
from onnx_oto.runtime.door import FIRST_IN_A_ROOM, run
from onnx_oto.runtime.joining import DOMAIN, OPERATOR
from onnx_oto.runtime.rooms import DESK, DESK_WORDS, give, let_go, place_of

_VERSION = 16
_VARIADIC, _ANY_KIND, _STANDARD_MEMORY = 2, 0, 0
_WORD = ctypes.c_size_t
_FIELDS = (
    "CreateKernel",
    "GetName",
    "GetExecutionProviderType",
    "GetInputType",
    "GetInputTypeCount",
    "GetOutputType",
    "GetOutputTypeCount",
    "KernelCompute",
    "KernelDestroy",
    "GetInputCharacteristic",
    "GetOutputCharacteristic",
    "GetInputMemoryType",
    "GetVariadicInputMinArity",
    "GetVariadicInputHomogeneity",
    "GetVariadicOutputMinArity",
    "GetVariadicOutputHomogeneity",
    "CreateKernelV2",
    "KernelComputeV2",
)
"""Behind the version, addresses of functions."""
_NEEDED = (
    "KernelContext_GetInputCount",
    "KernelContext_GetInput",
    "KernelContext_GetOutputCount",
    "KernelContext_GetOutput",
    "GetTensorMutableData",
    "GetTensorTypeAndShape",
    "GetTensorShapeElementCount",
    "ReleaseTensorTypeAndShapeInfo",
)
"""Functions of the interface that a kernel calls: an int64 array of which function of ours it is, and these."""
_COUNT_IN, _IN, _COUNT_OUT, _OUT, _DATA, _SHAPE, _ELEMENTS, _RELEASE = range(1, 9)
_STRUCTURE = 10
"""Words of an input as `door` reads it: of a DLManagedTensor 8, its number of elements as its only size, and room."""
_kept: list[Any] = []
_kernels: dict[str, Any] = {}


@cache
def domain() -> int:
    """Return the domain with the operator, to be added to options of sessions."""
    api = c_api()
    made = api.make("CreateCustomOpDomain", DOMAIN.encode())
    operator = _structure(api)
    _kept.append(operator)
    api.call("CustomOpDomain_Add", made, ctypes.addressof(operator))
    return made


def _structure(api: CApi) -> Any:
    """Return the operator: any number of inputs and outputs of any kind, on the CPU."""
    name = ctypes.create_string_buffer(OPERATOR.encode())
    _kept.append(name)
    fixed = {
        "GetName": ctypes.addressof(name),
        "GetExecutionProviderType": 0,
        "GetInputType": _ANY_KIND,
        "GetInputTypeCount": 1,
        "GetOutputType": _ANY_KIND,
        "GetOutputTypeCount": 1,
        "GetInputCharacteristic": _VARIADIC,
        "GetOutputCharacteristic": _VARIADIC,
        "GetInputMemoryType": _STANDARD_MEMORY,
        "GetVariadicInputMinArity": 1,
        "GetVariadicInputHomogeneity": 0,
        "GetVariadicOutputMinArity": 1,
        "GetVariadicOutputHomogeneity": 0,
    }
    answer = ctypes.CFUNCTYPE(_WORD, _WORD, _WORD)
    functions = {field: answer(lambda _, __, value=value: value) for field, value in fixed.items()}
    create = ctypes.CFUNCTYPE(_WORD, _WORD, _WORD, _WORD, ctypes.POINTER(_WORD))

    def kernel(_: int, __: int, info: int, made: Any) -> int:
        made[0] = _kernel(api, info)
        return 0

    functions["CreateKernelV2"] = create(kernel)
    _kept.append(functions)
    addresses = {field: ctypes.cast(each, ctypes.c_void_p).value for field, each in functions.items()}
    addresses |= {"KernelComputeV2": _compute.address, "KernelDestroy": _destroy.address}
    return (_WORD * (1 + len(_FIELDS)))(_VERSION, *(addresses.get(field) or 0 for field in _FIELDS))


def _kernel(api: CApi, info: int) -> int:
    """Return a kernel for a node: which function it calls is an attribute."""
    text, size = ctypes.create_string_buffer(8), _WORD(8)
    api.call("KernelInfoGetAttribute_string", info, b"overload_name", text, ctypes.byref(size))
    name = text.value.decode()
    if name not in _kernels:
        _kernels[name] = np.array([ord(name) - ord("0"), *map(api.address, _NEEDED)], np.int64)
    place: int = _kernels[name].ctypes.data
    return place


@native()
def _describe(needed: Any, context: int, index: int, place: int) -> int:
    """Write an input as `door` reads it; return a status."""
    words, value = carray(pointer(place), (_STRUCTURE,), np.int64), np.zeros(2, np.int64)
    at = value.ctypes.data
    status: int = ask_3(needed[_IN], context, index, at)
    if status == 0:
        status = ask_2(needed[_DATA], value[0], place)
    if status == 0 and needed[0] < FIRST_IN_A_ROOM:  # these ask how long it is
        status = ask_2(needed[_SHAPE], value[0], at + 8)
        if status == 0:
            status = ask_2(needed[_ELEMENTS], value[1], place + 64)
            call(needed[_RELEASE], value[1])
    words[3] = place + 64
    return status


@native()
def _hand_over(desk: int, structure: int) -> None:
    """Let the runtime have a copy of a vector."""
    words = carray(pointer(structure), (8,), np.int64)
    place = give(desk, words[3], 1)
    if place != 0:
        copy(place, place_of(structure), 4 * carray(pointer(words[3]), (1,), np.int64)[0])


@native("void(intp)", callback=True)
def _destroy(kernel: int) -> None:
    pass


@native("intp(intp, intp)", callback=True)
def _compute(kernel: int, context: int) -> int:
    """Compute a node; return a status, 0 where all went well."""
    needed = carray(pointer(kernel), (9,), np.int64)
    found = np.zeros(2, np.int64)
    at = found.ctypes.data
    status: int = ask_2(needed[_COUNT_IN], context, at)
    if status == 0:
        status = ask_2(needed[_COUNT_OUT], context, at + 8)
    if status != 0:
        return status
    structures, wanted = np.zeros((found[0], _STRUCTURE), np.int64), np.zeros(found[1], np.int64)
    given = np.empty(len(structures), np.int64)
    for index in range(len(structures)):
        given[index] = structures[index].ctypes.data
        status = _describe(needed, context, index, given[index])
        if status != 0:
            return status
    desk = np.zeros(DESK_WORDS, np.int64)
    desk[0], desk[1], desk[2] = context, needed[_OUT], needed[_DATA]
    if needed[0] < FIRST_IN_A_ROOM:
        run(needed[0], given, wanted)
        for each in wanted:
            _hand_over(desk.ctypes.data, each)
    else:
        room = carray(pointer(place_of(given[0])), (DESK + 1,), np.int64)
        room[DESK] = desk.ctypes.data
        run(needed[0], given, wanted)
        room[DESK] = 0
    for each in wanted:
        let_go(each)
    structures[0, 0] = 0  # it is read until here
    failed: int = desk[4]
    return failed
