"""ONNX Runtime's C interface, by ctypes: of the library that comes with the package, beside the module for Python.

That module hides its C interface, and takes operators of others by compiled libraries alone. The C interface, whose
layout is kept from version to version (`onnxruntime_c_api.h`), takes them as structures of addresses.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

_VERSION = 16
"""Of the interface: ONNX Runtime 1.16, since when operators may return what went wrong."""
_PLACES = {
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "DisableTelemetryEvents": 6,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "DisableMemPattern": 17,
    "SetSessionLogSeverityLevel": 22,
    "SetIntraOpNumThreads": 24,
    "SetInterOpNumThreads": 25,
    "CreateCustomOpDomain": 26,
    "CustomOpDomain_Add": 27,
    "AddCustomOpDomain": 28,
    "CreateTensorWithDataAsOrtValue": 49,
    "GetTensorMutableData": 51,
    "GetTensorElementType": 60,
    "GetDimensionsCount": 61,
    "GetDimensions": 62,
    "GetTensorShapeElementCount": 64,
    "GetTensorTypeAndShape": 65,
    "CreateCpuMemoryInfo": 69,
    "KernelInfoGetAttribute_string": 87,
    "KernelContext_GetInputCount": 88,
    "KernelContext_GetOutputCount": 89,
    "KernelContext_GetInput": 90,
    "KernelContext_GetOutput": 91,
    "ReleaseStatus": 93,
    "ReleaseSession": 95,
    "ReleaseValue": 96,
    "ReleaseTensorTypeAndShapeInfo": 99,
    "ReleaseSessionOptions": 100,
    "AddSessionConfigEntry": 130,
}
"""Of functions in the table of the interface."""
_LIBRARIES = {"win32": "onnxruntime.dll", "darwin": "libonnxruntime.*.dylib"}


class CApi:
    """The functions of the interface. What they take are addresses, sizes and texts (bytes), each one machine word."""

    def __init__(self, library: Path) -> None:
        base = ctypes.CDLL(str(library)).OrtGetApiBase
        base.restype = ctypes.POINTER(ctypes.c_void_p)
        get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(base()[0] or 0)
        table = get(_VERSION)
        if not table:
            raise OSError(f"{library.name} does not have version {_VERSION} of the interface")
        self._table = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        self._functions: dict[tuple[str, int], Any] = {}

    def address(self, name: str) -> int:
        """Return where a function lies."""
        return self._table[_PLACES[name]] or 0

    def call(self, name: str, *given: Any) -> None:
        """Call a function that returns a status. Raises RuntimeError in the words of the runtime."""
        status = self._call(name, *given)
        if status:
            text = ctypes.string_at(self._call("GetErrorMessage", status)).decode(errors="replace")
            self._call("ReleaseStatus", status)
            raise RuntimeError(text)

    def make(self, name: str, *given: Any) -> int:
        """Call such a function whose last argument is where it writes an address or a size; return that."""
        made = ctypes.c_size_t()
        self.call(name, *given, ctypes.byref(made))
        return made.value

    def release(self, kind: str, address: int) -> None:
        """Give something back."""
        self._call(f"Release{kind}", address)

    def _call(self, name: str, *given: Any) -> int:
        kind = name, len(given)
        if kind not in self._functions:
            shape = ctypes.CFUNCTYPE(ctypes.c_size_t, *[ctypes.c_void_p] * len(given))
            self._functions[kind] = shape(self.address(name))
        found: int = self._functions[kind](*given)
        return 0 if name.startswith("Release") else found


@cache
def c_api() -> CApi:
    """Return the interface of the ONNX Runtime that is installed. Raises OSError where it comes without one."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(folder.glob(_LIBRARIES.get(sys.platform, "libonnxruntime.so.*")))
    if not found:
        raise OSError("this ONNX Runtime comes without its C library")
    return CApi(found[0])
