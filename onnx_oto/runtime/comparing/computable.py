"""Whether a runtime computes what a model computes from constants."""

from __future__ import annotations

import onnx

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError, UnsupportedError
from onnx_oto.runtime.comparing.upcast import upcast, uses_bfloat16
from onnx_oto.runtime.limits import Limits, limited
from onnx_oto.runtime.runner import first_line, in_onnxruntime


def require_computable(computed: onnx.ModelProto | None, limits: Limits) -> None:
    """Raise UnsupportedError when the runtime refuses what a model computes from constants (see `model.normal.folded`).

    bfloat16 is tried as float32: no runtime hands it over. CrashedError and LimitError come through. What the runtime
    has no kernels for, and what is too large to be handed over, proves nothing.
    """
    if computed is None:
        return
    if uses_bfloat16(computed):
        computed = upcast(computed)
    with limited(limits):
        try:
            run = in_onnxruntime(computed, optimise=False)  # which would fold as it opens it
        except (UnsupportedError, RuntimeMissingError):
            return
        try:
            run({})
        except (CrashedError, LimitError):
            raise
        except UnsupportedError:
            return
        except Exception as error:
            raise UnsupportedError(f"the model does not run as it is stored: {first_line(error)}") from None
