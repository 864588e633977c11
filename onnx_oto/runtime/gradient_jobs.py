"""Jobs of the process that models run in, for training: gradient graphs are built there, and tried once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.runtime.devices import Device, open_on
from onnx_oto.runtime.installed import require_training
from onnx_oto.runtime.joining import asks

_CPU = Device()
ELEMENTS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
"""Types of elements, as the runtime spells them."""


def session_options(threads: int) -> Any:
    """Return options for a session on `threads` threads, without spinning and without a log.

    Nor with a plan of memory made beforehand: without one steps are as fast, and training ViT-S, ResNet-50 and
    DenseNet-121 takes 1.10, 1.08 and 0.61 instead of 1.56, 1.32 and 0.75 GB.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_light(content: bytes, device: Device = _CPU, disabled: Sequence[str] = ()) -> Any:
    """Return a session of a serialised model on a device. Raises what `open_on` raises.

    disabled: optimizers that are left out.
    """
    if asks(content):
        from onnx_oto.runtime import door  # loads the compiler

        if not door.takes_functions():
            from onnx_oto.runtime.c_session import CSession

            return CSession(content, device.threads, disabled)
        door.make_ready()
    return open_on(device, content, session_options(device.threads), disabled)


def build_gradient(content: bytes, wanted: Sequence[str], loss: str) -> bytes:
    """Return the serialised gradient graph of a serialised model: outputs are the loss and `<name>_grad`.

    Raises RuntimeMissingError, and what the gradient builder raises.
    """
    binding, options, names = require_training(), session_options(1), set(wanted)
    optimised = binding.get_optimized_model(bytes(content), names, options)
    builder = binding.GradientGraphBuilder(optimised, {loss}, names, loss, options)
    builder.build()
    return bytes(builder.get_model())


def try_once(content: bytes, samples: int) -> None:
    """Run a serialised model on made-up values, with `samples` for open sizes. Raises what onnxruntime raises."""
    session = open_light(content)
    rng = np.random.default_rng(0)
    session.run(None, {value.name: _made_up(value, samples, rng) for value in session.get_inputs()})


def run_once(content: bytes, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Return what a serialised model computes. Raises what onnxruntime raises."""
    return list(open_light(content).run(None, dict(feeds)))


def _made_up(value: Any, samples: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return small positive floats, or zeros of any other type."""
    shape = [size if isinstance(size, int) else samples for size in value.shape]
    dtype = np.dtype(ELEMENTS[value.type])
    if dtype.kind == "f":
        return rng.uniform(0.01, 0.02, shape).astype(dtype)
    return np.zeros(shape, dtype)
