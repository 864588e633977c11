"""bfloat16 computed as float32, in both models alike, where the runtime has no kernels for it."""

from __future__ import annotations

from onnx import ModelProto, TensorProto

from onnx_oto.errors import UnsupportedError
from onnx_oto.model.normal.widen import in_float32, uses
from onnx_oto.runtime.runner import in_onnxruntime

BFLOAT16 = frozenset({TensorProto.BFLOAT16})


def alike(full: ModelProto, compact: ModelProto) -> tuple[ModelProto, ModelProto, bool]:
    """Return two models as they are or, if the runtime takes one of them only so, both upcast; and which it is.

    Rounding to bfloat16 between operators is left out then. What surgery puts into a weight (the bias of a layer that
    reads a constant) is rounded as it is stored, so that outputs are compared as those of float16 are. The arguments
    are not modified.
    """
    if not uses_bfloat16(full) or (_runs(full) and _runs(compact)):
        return full, compact, False
    wide = upcast(full), upcast(compact)
    if not all(map(_runs, wide)):
        raise UnsupportedError(
            "the model cannot be run: the runtime lacks kernels, for float32 in its place too"
        )
    return *wide, True


def _runs(model: ModelProto) -> bool:
    """Return whether onnxruntime takes the model: it knows its operators and has kernels for its types."""
    try:
        in_onnxruntime(model, threads=1)
    except UnsupportedError:
        return False
    return True


def uses_bfloat16(model: ModelProto) -> bool:
    """Return whether a tensor of the model is stored or declared as bfloat16, or cast to it."""
    return uses(model, BFLOAT16)


def upcast(model: ModelProto) -> ModelProto:
    """Return a copy of the model with float32 wherever it has bfloat16, inputs and outputs included."""
    return in_float32(model, BFLOAT16)
