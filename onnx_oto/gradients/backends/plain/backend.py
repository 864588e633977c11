"""Gradient graphs as plain ONNX, which any runtime computes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnx_oto.gradients.backends.plain import table
from onnx_oto.gradients.backends.plain.reverse import differentiate
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.runtime.installed import problem


class Plain:
    """A backend (see `gradients.backends.Backend`) on any ONNX Runtime."""

    name = "plain"
    cpu_only = False

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        return problem()

    def covers(self, node: onnx.NodeProto, facts: Facts) -> str | None:
        """See `Backend.covers`."""
        return table.covers(node, facts)

    def joins_statistics(self) -> bool:
        """See `Backend.joins_statistics`: the node that asks is one of the training build alone."""
        return False

    def differentiate(
        self, graph: onnx.ModelProto, wanted: Sequence[str], *, joint: bool = False, scale: float = 1.0
    ) -> onnx.ModelProto:
        """See `Backend.differentiate`."""
        return differentiate(graph, wanted)
