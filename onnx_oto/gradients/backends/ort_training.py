"""Gradient graphs from ONNX Runtime's training build, 1.19.2.

`import onnxruntime.training` would need torch, so the gradient builder is taken from the C binding (see
`runtime.installed`), in the process that models run in.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnx_oto.errors import RuntimeMissingError, UnsupportedError
from onnx_oto.gradients.backends import ort_covers
from onnx_oto.gradients.backends.copies import without_copies
from onnx_oto.gradients.backends.functions import Shapes, call_functions, can_call, complete
from onnx_oto.gradients.backends.ort_blocked import block_size
from onnx_oto.gradients.backends.ort_products import join_products
from onnx_oto.gradients.backends.ort_rewrites import tune
from onnx_oto.gradients.backends.ort_statistics import can_join, join_statistics
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.gradient_jobs import build_gradient
from onnx_oto.runtime.installed import require_training
from onnx_oto.runtime.limits import generous
from onnx_oto.runtime.runner import first_line
from onnx_oto.runtime.worker import JobFailed, shared


class OrtTraining:
    """A backend (see `backend.Backend`) on onnxruntime-training(-cpu)."""

    name = "ort-training"

    def on(self, device: Device) -> OrtTraining | None:
        """See `Backend.on`."""
        return self if device.is_cpu else None

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        try:
            require_training()
        except RuntimeMissingError as error:
            return str(error)
        return None

    def covers(self, node: onnx.NodeProto, facts: Facts) -> str | None:
        """See `Backend.covers`."""
        return ort_covers.covers(node, facts)

    def joins_statistics(self) -> bool:
        """See `Backend.joins_statistics`."""
        return can_join()

    def uses_threads(self) -> bool:
        """See `Backend.uses_threads`: most kernels for training use one thread."""
        return False

    def differentiate(
        self,
        graph: onnx.ModelProto,
        wanted: Sequence[str],
        *,
        joint: bool = False,
        scale: float = 1.0,
        even: bool = True,
        adding: bool = False,
        samples: int = 0,
        again: bool = False,
    ) -> onnx.ModelProto:
        """See `Backend.differentiate`."""
        content, loss = graph.SerializeToString(), graph.graph.output[0].name
        try:
            built = shared().call(
                generous(weights=len(content), fed=0), build_gradient, content, sorted(wanted), loss
            )
        except JobFailed as error:
            raise UnsupportedError(
                f"ONNX Runtime cannot build the gradient of this model: {first_line(error)}; train with "
                "--backend plain, which writes gradients of its own"
            ) from error
        gradient = onnx.load_from_string(built)
        shapes: Shapes = {n: kind.static for n, kind in types(graph).items() if kind.static is not None}
        if can_call():
            without_copies(gradient.graph)
            shapes = call_functions(
                gradient, shapes, wanted, joint=joint, even=even, adding=adding, samples=samples
            )
        tune(gradient, shapes, wanted if has_compiler() else (), block_size(), scale)
        join_products(gradient, shapes)
        if joint:
            join_statistics(gradient, shapes)
        complete(gradient, graph, shapes, wanted, adding=adding and can_call(), again=again)
        return gradient
