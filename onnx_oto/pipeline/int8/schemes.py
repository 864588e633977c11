"""What runtimes want of int8 models, by the name of who serves them (`--int8-for`)."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_oto.pipeline.int8_options import AUTO
from onnx_oto.runtime.schemes import Scheme

SCHEMES: Mapping[str, Scheme] = {
    "vnni": Scheme(),
    "avx2": Scheme(reduced=True),
    "tensorrt": Scheme("int8", symmetric=True, biases=False),
}
"""vnni: x86 with VNNI or AMX, and ARM; ONNX Runtime and OpenVINO. avx2: other x86. tensorrt: GPUs of NVIDIA."""


def scheme_for(target: str) -> tuple[str, Scheme]:
    """Return the name and the scheme of a target; `auto` asks the processor. Raises LimitError, CrashedError."""
    from onnx_oto.runtime.quantizing import adds_up_in_16_bits  # loads what quantizes

    name = target if target != AUTO else "avx2" if adds_up_in_16_bits() else "vnni"
    return name, SCHEMES[name]
