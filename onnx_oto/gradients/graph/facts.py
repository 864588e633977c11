"""What is known of a graph where one of its nodes is judged: by a backend (`covers`) and by a lowering."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """What holds for the tensors of one graph, by name.

    shapes     static shapes, of those that have one
    dtypes     element types (onnx.TensorProto)
    constants  values that no run changes
    carried    tensors that gradient flows into
    read       tensors that a node or a graph output reads
    ranks      how many axes, of those of which it is known
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    carried: Collection[str] = frozenset()
    read: Collection[str] = frozenset()
    ranks: Mapping[str, int] = field(default_factory=dict)


Covers = Callable[[onnx.NodeProto, Facts], str | None]
"""A backend's word on a node: None when it differentiates it rightly as it stands, else the reason."""
