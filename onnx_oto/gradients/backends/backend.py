"""The seam of backends: what turns a training graph into a gradient graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import onnx

from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.runtime.devices import Device


class Backend(Protocol):
    """A way to gradient graphs. Whatever it makes runs in an ordinary session of the ONNX Runtime that is installed."""

    name: str

    def on(self, device: Device) -> Backend | None:
        """Return what writes graphs for sessions on a device, None where it writes none for it."""
        ...

    def why_not(self) -> str | None:
        """Return why it cannot work in this environment, in one line with the remedy; None when it can."""
        ...

    def covers(self, node: onnx.NodeProto, facts: Facts) -> str | None:
        """Return why the gradient of a node as it stands would be missing or wrong, None when it is right.

        Nodes that are not covered are lowered to others, or refused with this reason.
        """
        ...

    def joins_statistics(self) -> bool:
        """Return whether sessions that share a batch can normalise by the statistics of all of it."""
        ...

    def uses_threads(self) -> bool:
        """Return whether what it makes is faster on several threads, so that a session takes those of idle cores."""
        ...

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
        """Return a model with the outputs of `graph` and, behind them, `<name>_grad` for each name in `wanted`.

        joint: the graph is one of several that share a batch, and a BatchNormalization in it asks the others for
        theirs (`runtime/meeting.py`). Only where `joins_statistics`. scale: samples of the largest of these graphs,
        divided by those of this one: all must compute in the same order, so what is chosen by size is chosen by that.
        even: whether all of them have as many samples. A gradient may be written where the input WANTED + name says
        (`runtime/joining.py`), and is no output then. adding: others of this process have the same place for it; each
        may add its own there, in the order of the graphs, where it has the input TURN (`runtime/adding.py`). samples:
        of all graphs of this process then: they may compute for each other's (`runtime/divided.py`), where they have
        the input MEMBER. again: most of what the way forth makes is not kept, but made again (`recompute.py`).

        `graph` has static shapes, every node on the way from `wanted` to its first output, a float32 scalar, is
        covered. It is not modified. Raises UnsupportedError in the words of what refuses it.
        """
        ...
