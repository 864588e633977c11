"""Gradient graphs as plain ONNX, which any runtime computes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnx_oto.gradients.backends.copies import name_outputs, without_copies
from onnx_oto.gradients.backends.functions import Shapes, call_functions, can_call, complete
from onnx_oto.gradients.backends.ort_blocked import block_size
from onnx_oto.gradients.backends.ort_rewrites import tune
from onnx_oto.gradients.backends.ort_statistics import can_join, join_statistics
from onnx_oto.gradients.backends.plain import table
from onnx_oto.gradients.backends.plain.kernels import shapes_with_kernels, write_out
from onnx_oto.gradients.backends.plain.reverse import differentiate
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.machine import has_compiler
from onnx_oto.model.graph.node import opset_of
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
        """See `Backend.joins_statistics`."""
        return self.on_cpu and can_join()

    def uses_threads(self) -> bool:
        """See `Backend.uses_threads`: kernels do, functions of ours compute on one."""
        return not (self.on_cpu and can_call())

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
        calls = self.on_cpu and can_call()
        gradient, made = differentiate(graph, wanted, on_cpu=self.on_cpu, kernels=calls or joint)
        if not (self.on_cpu or again):
            return gradient
        shapes: Shapes = shapes_with_kernels(gradient, made)
        if calls or joint:
            without_copies(gradient.graph)
            shapes = {**shapes, **{new: shapes[old] for old, new in name_outputs(gradient.graph).items()}}
        if calls:
            shapes = call_functions(
                gradient, shapes, wanted, joint=joint, even=even, adding=adding, samples=samples
            )
        if joint:
            join_statistics(gradient, shapes)
        write_out(gradient, shapes, opset_of(gradient))
        if self.on_cpu:
            tune(gradient, shapes, wanted if has_compiler() else (), block_size(), scale)
        complete(gradient, graph, shapes, wanted, adding=adding and calls, again=again)
        return gradient
