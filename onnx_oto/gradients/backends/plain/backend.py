"""Gradient graphs as plain ONNX, which any runtime computes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnx_oto.gradients.backends.ort_blocked import block_size
from onnx_oto.gradients.backends.ort_rewrites import tune
from onnx_oto.gradients.backends.plain import table
from onnx_oto.gradients.backends.plain.reverse import differentiate
from onnx_oto.gradients.backends.recompute import recompute
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.machine import has_compiler
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.installed import problem


class Plain:
    """A backend (see `gradients.backends.Backend`) on any ONNX Runtime.

    on_cpu: whether graphs run on processors, where convolutions have faster forms than the standard's
    (`backends/ort_rewrites.py`); without it they are operators of the standard alone, which every provider has.
    """

    name = "plain"

    def __init__(self, *, on_cpu: bool = True) -> None:
        self.on_cpu = on_cpu

    def on(self, device: Device) -> Plain:
        """See `Backend.on`."""
        return Plain(on_cpu=device.is_cpu)

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        return problem()

    def covers(self, node: onnx.NodeProto, facts: Facts) -> str | None:
        """See `Backend.covers`."""
        return table.covers(node, facts)

    def joins_statistics(self) -> bool:
        """See `Backend.joins_statistics`: the node that asks is one of the training build alone."""
        return False

    def uses_threads(self) -> bool:
        """See `Backend.uses_threads`."""
        return True

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
        gradient = differentiate(graph, wanted, on_cpu=self.on_cpu)
        if not (self.on_cpu or again):
            return gradient
        shapes = {name: kind.static for name, kind in types(gradient).items() if kind.static is not None}
        if again:
            shapes = recompute(gradient, shapes, [value.name for value in graph.graph.output])
        if not self.on_cpu:
            return gradient
        tune(gradient, shapes, wanted if has_compiler() else (), block_size(), scale)
        return gradient
