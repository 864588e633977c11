"""The settings of an analysis: what may be removed where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_oto.settings import topics
from onnx_oto.settings.base import Settings
from onnx_oto.settings.declare import setting


@dataclass(frozen=True)
class AnalysisOptions(Settings, topic=topics.STAYS):
    """What may be removed where. Without `fixed_norms`, what a norm loses is repaired exactly."""

    keep: Sequence[str] = setting(
        (),
        "Keep every channel of parameters, nodes or tensors whose name matches (shell wildcards, repeatable).",
        metavar="PATTERN",
    )
    fixed_norms: bool = setting(
        False, "Keep axes that a normalisation or a mean runs over (the residual width of a transformer)."
    )
    head_dims: bool = setting(
        False, "Attention keeps its heads and loses positions inside them, the same number in each."
    )
