"""Where the sessions of training run: on the CPU, or on a provider of the runtime that is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from onnx_oto.errors import RuntimeMissingError, UnsupportedError, UsageError
from onnx_oto.runtime.installed import installed
from onnx_oto.runtime.runner import first_line

CPU_PROVIDER = "CPUExecutionProvider"
_SHORT = {
    "cpu": CPU_PROVIDER,
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
_MEMORY = {"CUDAExecutionProvider": "cuda"}
"""Providers in whose memory training stays, and its name in ONNX Runtime. Others are given arrays of the host."""
_WRITTEN = re.compile(r"(?P<name>[A-Za-z0-9]+)(:(?P<which>[A-Za-z0-9.]+))?")
_PRECISE: Mapping[str, Mapping[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
}
"""Options of providers that would else compute in fewer bits than float32 has, or measure before they choose kernels,
so that two runs choose otherwise."""
_REMEDIES = {
    "CUDAExecutionProvider": "pip install 'onnx-oto[gpu]'",
    "OpenVINOExecutionProvider": "pip install onnxruntime-openvino",
}


@dataclass(frozen=True)
class Device:
    """A provider and its options. name: as it is written, "cpu", "cuda:1" or a provider's own name.

    threads: of the CPU that a session may take. memory: where parameters, gradients and the optimizer's state stay in
    training, as ONNX Runtime names it; None: in arrays of numpy.
    """

    name: str = "cpu"
    provider: str = CPU_PROVIDER
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    memory: str | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor, by the kernels and in the memory that are best there."""
        return self.provider == CPU_PROVIDER and self.memory is None


def read_device(text: str) -> Device:
    """Return the device of a text: cpu, cuda, cuda:1, openvino:GPU, or the name of a provider. Raises UsageError.

    The CPU by its provider's own name is a device like any other: standard operators alone, and all that is trained
    stays in its memory. So what is for devices can be tried where there are none.

    >>> read_device("cuda:1").provider
    'CUDAExecutionProvider'
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise UsageError("give cpu, cuda, cuda:1 or the name of a provider")
    name, which = written["name"], written["which"]
    provider = _SHORT.get(name.lower(), name)
    if provider not in _SHORT.values() and not provider.endswith("ExecutionProvider"):
        raise UsageError(
            f"choose one of {', '.join(_SHORT)}, or give the name of a provider, such as CUDAExecutionProvider"
        )
    options = dict(_PRECISE.get(provider, {}))
    if which is not None:
        if provider == CPU_PROVIDER:
            raise UsageError("there is one CPU: write cpu")
        options["device_type" if provider.startswith("OpenVINO") else "device_id"] = which
    memory = "cpu" if name == CPU_PROVIDER else _MEMORY.get(provider)
    return Device(text, provider, options, memory=memory)


def providers() -> list[str]:
    """Return the providers that the runtime which is installed has, the ones it prefers first."""
    import onnxruntime

    return [str(name) for name in onnxruntime.get_available_providers()]


def require_device(device: Device) -> None:
    """Raise RuntimeMissingError, with the remedy, unless the runtime that is installed has this provider."""
    if device.is_cpu:
        return
    import onnxruntime

    found = providers()
    if device.provider not in found:
        raise RuntimeMissingError(
            f"device {device.name!r}: {' and '.join(installed()) or 'onnxruntime'} {onnxruntime.__version__} has no "
            f"{device.provider}, only {', '.join(found)}: {_remedy(device)}"
        )


def _remedy(device: Device) -> str:
    remedy = _REMEDIES.get(device.provider)
    return (
        f"run `{remedy}` in an environment of its own, or use --device cpu" if remedy else "use --device cpu"
    )


def open_on(device: Device, content: bytes, options: Any, disabled: Sequence[str] = ()) -> Any:
    """Return a session of a serialised model on a device. Raises what onnxruntime raises.

    What the provider has no kernel for runs on the CPU. RuntimeMissingError where the provider is there but does not
    start: the runtime would go on without it and say nothing.
    """
    import onnxruntime

    def opened(*providers: Any) -> Any:
        return onnxruntime.InferenceSession(
            bytes(content), options, providers=list(providers), disabled_optimizers=list(disabled)
        )

    if device.is_cpu:
        return opened(CPU_PROVIDER)
    require_device(device)
    if device.provider == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(
            StringIO()
        ):  # it prints what it does not find; whether that is missed is seen below
            onnxruntime.preload_dlls()  # CUDA and cuDNN from their own packages, where they came so
    options.use_deterministic_compute = True
    own = (device.provider, dict(device.options))
    session = opened(own) if device.provider == CPU_PROVIDER else opened(own, CPU_PROVIDER)
    if device.provider not in session.get_providers():
        raise RuntimeMissingError(
            f"device {device.name!r}: {device.provider} does not start here; its libraries or its driver are missing: "
            f"{_remedy(device)}"
        )
    return session


def full(error: Exception, device: Device) -> UnsupportedError | None:
    """Return what to say of an error that tells of a device without memory; None for any other."""
    text = str(error).lower()
    if device.is_cpu or not ("out of memory" in text or "failed to allocate memory" in text):
        return None
    return UnsupportedError(
        f"the memory of device {device.name!r} does not hold a step: give a smaller --batch ({first_line(error)})"
    )
