"""What ONNX Runtime calls at the node that leads out of it (see `joining`): compiled functions, by the node's overload.

They take no lock of the interpreter's. Tensors come and go as DLPack structures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from onnx_oto.runtime import adding, divided, norms, stacked
from onnx_oto.runtime.compiled import native, pointer
from onnx_oto.runtime.joining import SETTINGS
from onnx_oto.runtime.meeting import ask
from onnx_oto.runtime.rooms import let_go, place_of

FIRST_IN_A_ROOM = 2
"""The number of the first function that makes tensors in a room; those before it make vectors of their own."""


def takes_functions() -> bool:
    """Return whether the runtime of this process has the operator that calls functions by their address."""
    from onnxruntime.capi import _pybind_state as binding

    return hasattr(binding, "register_aten_op_executor")


def make_ready() -> None:
    """Give the runtime of this process the functions. Raises AttributeError where it takes none."""
    from onnxruntime.capi import _pybind_state as binding

    binding.register_aten_op_executor(str(_on_cpu.address), str(_execute.address))


@native()
def run(which: int, given: Any, wanted: Any) -> None:
    """Compute a function, by its number. given: addresses of tensors; wanted: where those of new ones are written."""
    if which < FIRST_IN_A_ROOM:
        ask(which, given, wanted)
        return
    room = place_of(given[0])
    settings = carray(pointer(place_of(given[1])), (SETTINGS,), np.int64)
    if which == 2:
        wanted[0] = stacked.convolve(room, settings, given[2:])
    elif which == 3:
        wanted[0] = stacked.slopes(room, settings, given[2:])
    elif which == 4:
        stacked.pool(room, settings, given[2:], wanted)
    elif which == 5:
        wanted[0] = stacked.unpool(room, settings, given[2:])
    elif which == 6:
        norms.normalise(room, settings, given[2:], wanted)
    elif which == 7:
        norms.denormalise(room, settings, given[2:], wanted)
    elif which == 8:
        wanted[0] = adding.add(room, settings, given[2:])
    elif which == 9:
        wanted[0] = divided.convolve(room, settings, given[2:])
    else:
        divided.slopes(room, settings, given[2:], wanted)


@native("void(intp, intp, intp, intp, intp, intp)", callback=True)
def _execute(name: int, function: int, count: int, inputs: int, made: int, outputs: int) -> None:
    given = carray(pointer(inputs), (count,), np.int64)
    wanted = carray(pointer(outputs), (made,), np.int64)
    run(carray(pointer(function), (1,), np.uint8)[0] - 48, given, wanted)  # "0"
    for each in range(count):
        let_go(given[each])


@native("boolean(intp, intp, intp, boolean)", callback=True)
def _on_cpu(name: int, function: int, index: int, is_input: bool) -> bool:
    return True
