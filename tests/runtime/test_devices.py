"""Devices: what may be written, and what a runtime says that has not the provider."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_oto.errors import RuntimeMissingError, UsageError
from onnx_oto.runtime.devices import Device, full, open_on, read_device, require_device
from onnx_oto.runtime.gradient_jobs import session_options

DOUBLED = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Add(x, x) }'
)


@pytest.mark.parametrize(
    ("text", "provider", "option"),
    [
        ("cpu", "CPUExecutionProvider", {}),
        ("cuda", "CUDAExecutionProvider", {}),
        ("CUDA:1", "CUDAExecutionProvider", {"device_id": "1"}),
        ("openvino:GPU.0", "OpenVINOExecutionProvider", {"device_type": "GPU.0"}),
        ("AzureExecutionProvider", "AzureExecutionProvider", {}),
    ],
)
def test_devices_are_providers_with_options(text: str, provider: str, option: dict[str, str]) -> None:
    device = read_device(text)
    assert device.provider == provider
    assert option.items() <= device.options.items()
    assert device.is_cpu == (text == "cpu")


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cpu:1", "cuda:0:1", "/dev/null", "cuda 0"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^(give cpu|choose one of cpu, cuda|there is one CPU)"):
        read_device(text)


def test_a_provider_that_the_runtime_lacks_is_told_with_a_remedy() -> None:
    device = Device("tpu", "TpuExecutionProvider")
    with pytest.raises(
        RuntimeMissingError, match=r"'tpu': onnxruntime.* has no TpuExecutionProvider, only .*CPU"
    ):
        require_device(device)
    with pytest.raises(RuntimeMissingError, match=r"'onnx-oto\[gpu\]'"):
        require_device(Device("cuda", "CUDAExecutionProvider"))


def test_a_provider_that_does_not_start_is_no_silent_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    class Silent:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Silent)
    with pytest.raises(RuntimeMissingError, match="CUDAExecutionProvider does not start here"):
        open_on(read_device("cuda"), DOUBLED.SerializeToString(), session_options(1))


def test_the_cpu_opens_as_ever() -> None:
    session = open_on(Device(), DOUBLED.SerializeToString(), session_options(1))
    assert session.run(None, {"x": np.ones(3, np.float32)})[0].tolist() == [2.0, 2.0, 2.0]


def test_a_full_device_says_to_take_smaller_batches() -> None:
    error = RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 9")
    told = full(error, read_device("cuda"))
    assert told is not None
    assert "give a smaller --batch" in str(told)
    assert told.exit_code == 4
    assert full(error, Device()) is None
    assert full(RuntimeError("shapes"), read_device("cuda")) is None
