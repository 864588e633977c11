"""Small graphs of operators that a build may lack, tried in the process where they can do no harm."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_oto.errors import CrashedError, LimitError
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.gradient_jobs import run_once
from onnx_oto.runtime.limits import generous
from onnx_oto.runtime.worker import JobFailed, shared

Array = NDArray[Any]

_OPSET, _IR = 15, 8


@cache
def functions_are_ready() -> bool:
    """Return whether functions of ours can be compiled; they are then, without the limits of the other process."""
    if not has_compiler():
        return False
    door = importlib.import_module("onnx_oto.runtime.door")
    if not door.takes_functions():
        importlib.import_module("onnx_oto.runtime.own_operator")
    return True


def computed(graph: onnx.GraphProto, domain: str, feeds: Mapping[str, Array]) -> list[Array] | None:
    """Return what a graph with operators of `domain` makes of `feeds`, None where the runtime fails at it."""
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(domain, 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()
    try:
        return shared().call(generous(weights=0, fed=0), run_once, content, feeds)
    except (JobFailed, CrashedError, LimitError):
        return None
