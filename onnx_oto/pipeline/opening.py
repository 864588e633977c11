"""Opening a model: load, normalise, analyse, and say plainly when there is nothing to prune."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from onnx_oto.errors import UnsupportedError
from onnx_oto.lanes.quantized import is_quantized, quantized_weights
from onnx_oto.machine import without_collecting
from onnx_oto.model import load, normal_form, stored_bytes
from onnx_oto.model.files.finite import count_not_finite, told_not_finite
from onnx_oto.model.files.loading import DEFAULT_MAX_BYTES
from onnx_oto.model.graph.constants import constants
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.graph.tensors import is_located
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.training_mode import told_training
from onnx_oto.model.normal.widen import HALVES, in_float32, uses
from onnx_oto.ops.rules import rule_of
from onnx_oto.zigs import Analysis, AnalysisOptions, analyse, reason

UNREAD_BYTES = 1 << 50
"""The size cap where weights are not read: none to speak of."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A model file and what analysis says of it.

    file_bytes: its size on disk, external data included. origins: which tensor of the file every parameter was;
    shapes: of its initializers. notes: what a person should know of the file, in sentences.
    """

    path: Path
    file_bytes: int
    analysis: Analysis
    origins: Origins = field(default_factory=Origins)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> onnx.ModelProto:
        """The model in normal form."""
        return self.analysis.model

    @cached_property
    def is_streamed(self) -> bool:
        """Whether weights lie beside the model and are read when they are looked at."""
        return any(map(is_located, self.model.graph.initializer))

    @cached_property
    def master(self) -> onnx.ModelProto:
        """The model as it is trained: with float32 in place of half precision, itself where it has none."""
        return in_float32(self.model) if uses(self.model, HALVES) else self.model


def open_model(
    path: str | os.PathLike[str],
    options: AnalysisOptions | None = None,
    *,
    weights: bool = True,
    stream_above: float = math.inf,
    payloads: Payloads | None = None,
) -> Opened:
    """Return the model at `path`, analysed.

    weights: False leaves external data where they are, which is enough to look at a model of any size. stream_above:
    bytes of external data from which on weights are read when they are looked at, and never held together. payloads:
    get to know where large ones lie, to spare copies until they are released. Raises ModelError, StorageError, and
    UsageError for a pattern that matches nothing.
    """
    loaded = load(
        path,
        weights=weights,
        max_bytes=DEFAULT_MAX_BYTES if weights else UNREAD_BYTES,
        stream_above=stream_above,
        payloads=payloads,
    )
    size = stored_bytes(path, loaded)
    origins = Origins()
    shapes = {tensor.name: tuple(tensor.dims) for tensor in constants(loaded.graph)}
    notes = told_not_finite(count_not_finite(loaded))
    switched: Counter[str] = Counter()
    with without_collecting():
        normal = normal_form(loaded, in_place=True, origins=origins, switched=switched)
        analysis = analyse(normal.model, options, normal.knowledge, payloads=payloads)
    notes = (*told_training(switched), *notes)
    return Opened(Path(path), size, analysis, origins, shapes, notes)


def require_prunable(opened: Opened) -> None:
    """Raise UnsupportedError with the reasons when no lane of the model can be removed."""
    if any(d.size > 1 for d in opened.analysis.prunable):
        return
    view = opened.analysis.graph
    weights = [name for name in quantized_weights(view) if name not in opened.analysis.trace.codes]
    if weights or any(is_quantized(node) and rule_of(node) is None for node in view.nodes):
        what = "it is quantized"
        if weights:
            others = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
            what = f"its weights are quantized ('{weights[0]}'{others})"
        raise UnsupportedError(
            f"nothing in '{opened.path.name}' can be pruned: {what}; prune the float model first, "
            "then quantize the compact one"
        )
    raise UnsupportedError(f"nothing in '{opened.path.name}' can be pruned: {'; '.join(reasons(opened))}")


def reasons(opened: Opened, most: int = 3) -> list[str]:
    """Return why lanes are frozen, the reason of most dimensions first.

    That the last layer makes the output is said only where there is nothing else to say.
    """
    analysis = opened.analysis
    counted = Counter(reason(analysis, d) for d in analysis.dimensions if d.reason)
    if not counted:
        counted = Counter(f.reason for f in analysis.trace.frozen)
    if not counted:
        return ["it has no weights that produce channels"]
    empty = {f"it is part of the model's output '{name}'" for name in analysis.graph.outputs}
    telling = Counter({text: count for text, count in counted.items() if text not in empty}) or counted
    listed = [text for text, _ in telling.most_common(most)]
    rest = len(telling) - len(listed)
    return [*listed, f"and {rest} more reasons, see `onnx-oto inspect`"] if rest > 0 else listed
