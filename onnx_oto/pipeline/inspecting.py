"""`inspect`: the analysis under its public names."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.lanes.quantized import quantized_weights
from onnx_oto.model.files.loading import stored_files
from onnx_oto.pipeline.curve import End, Point, curve
from onnx_oto.pipeline.judging import judge_on
from onnx_oto.pipeline.kept import positions
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.options import InspectOptions
from onnx_oto.pipeline.places import Output, require_apart
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.settings.base import plain
from onnx_oto.surgery.order import Standing, standing
from onnx_oto.zigs import Analysis, Dimension, Use, reason
from onnx_oto.zigs import why as chain
from onnx_oto.zigs.analysis import kept_elements
from onnx_oto.zigs.choose import choose_all
from onnx_oto.zigs.cost import count_macs
from onnx_oto.zigs.scores import WITHOUT_WEIGHTS


@dataclass(frozen=True)
class InspectedUse:
    """An axis of a parameter that carries lanes of a dimension. role: what it does with them.

    origin: the tensor of the model file, where normal form has renamed, copied or moved it. find: what makes
    `positions`, where the dimension is prunable.
    """

    param: str
    axis: int
    role: str
    origin: str | None = None
    find: Callable[[], list[Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def positions(self) -> tuple[Any, ...] | None:
        """Of a prunable dimension, the index of the axis for each lane, a list of them where it is not one.

        It is made when it is asked for: a dimension with thousands of uses has as many lists of all its lanes.
        """
        return None if self.find is None else tuple(self.find())

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        own = {"param": self.param, "axis": self.axis, "role": plain(self.role)}
        if self.find is not None:
            own["positions"] = self.find()
        return own if self.origin is None else {**own, "origin": self.origin}


@dataclass(frozen=True)
class InspectedDimension:
    """Channels that live and die alike. reason: why they are frozen, None when they are prunable.

    chain: the nodes that tie them to what froze them, where somebody asked why.
    """

    name: str
    size: int
    prunable: bool
    reason: str | None
    constraints: tuple[str, ...]
    uses: tuple[InspectedUse, ...]
    chain: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        own = {name: plain(value) for name, value in vars(self).items()}
        if self.chain is None:
            del own["chain"]
        return {**own, "uses": [use.as_json() for use in self.uses]}


@dataclass(frozen=True)
class Inspected:
    """What can be pruned in a model, and what is frozen and why.

    macs_at: the open sizes that `macs` are counted at, by name. prunable_params: parameters in lanes that may go.
    removable_params: those that go when every dimension loses all it may lose. lanes: prunable ones. quantized: weights
    that are, and are not cut. permutations: of channels, that a cut cannot fold. notes: what a person should know of
    the file.
    curve: what would be left at shares of the groups, and its end, where somebody asked.
    """

    model: str
    params: int
    macs: int
    macs_at: Mapping[str, int]
    prunable_params: int
    removable_params: int
    lanes: int
    dimensions: tuple[InspectedDimension, ...]
    quantized: tuple[str, ...]
    permutations: tuple[Standing, ...]
    notes: tuple[str, ...]
    curve: tuple[Point, ...] | None = None
    end: End | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report under its public names."""
        found = {
            "schema": SCHEMA,
            **{name: plain(value) for name, value in vars(self).items()},
            "macs_at": dict(self.macs_at),
            "dimensions": [dimension.as_json() for dimension in self.dimensions],
            "permutations": [asdict(each) for each in self.permutations],
            "curve": [point.as_json() for point in self.curve or ()],
            "end": self.end and self.end.as_json(),
        }
        if self.curve is None:
            del found["curve"], found["end"]
        return found


def inspect(
    path: str | os.PathLike[str],
    options: InspectOptions | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    look: Callable[[Opened], None] = lambda opened: None,
) -> Inspected:
    """Return what is prunable in the model at `path`, what is frozen and why; a curve where that is asked for.

    External weights are read for the curve only, if its scores or data need them. `say` gets sentences about what is
    done with data, `look` the model once it is opened. Raises ModelError, StorageError, UsageError for a pattern that
    matches nothing, and for data what `train` does.
    """
    options = options or InspectOptions()
    needs_weights = options.data is not None or options.ranking not in WITHOUT_WEIGHTS
    if options.graph is not None:
        reads = dict.fromkeys(stored_files(path), "the input model")
        require_apart(reads, [Output(options.graph)])
    opened = open_model(path, options, weights=options.curve and needs_weights)
    look(opened)
    report = inspection(opened, options.why)
    if not options.curve:
        return report
    judge = None if options.data is None else judge_on(options.data, opened, options, say)
    estimate = None
    if options.table is not None:
        from onnx_oto.pipeline.latency.making import fitting_table, latency_budget  # loads what measures

        estimate = latency_budget(opened, 1.0, fitting_table(opened, options.table)).cost
    points, end = curve(opened, options, judge=judge, estimated_ms=estimate, say=say)
    return replace(report, curve=points, end=end)


def inspection(opened: Opened, why: str | None = None) -> Inspected:
    """Return what is known of an opened model.

    why: only dimensions that match this pattern, each with the chain of nodes that tie it to what froze it.
    """
    analysis = opened.analysis
    shown = [d for d in analysis.dimensions if why is None or _matches(d, why)]
    if why is not None and not shown:
        raise UsageError(f"--why '{why}' matches no dimension or parameter of the model")
    macs = count_macs(analysis)
    return Inspected(
        model=opened.path.name,
        params=analysis.params,
        macs=macs.count,
        macs_at=macs.at,
        prunable_params=analysis.prunable_params,
        removable_params=_removable(analysis),
        lanes=sum(d.size for d in analysis.prunable),
        dimensions=tuple(_dimension(opened, d, with_chain=why is not None) for d in shown),
        quantized=tuple(n for n in quantized_weights(analysis.graph) if n not in analysis.trace.codes),
        permutations=tuple(standing(analysis)),
        notes=opened.notes,
    )


def _removable(analysis: Analysis) -> int:
    """Return how many parameter elements go when every dimension loses all the lanes that it may lose."""
    choice = choose_all(analysis)
    everything = kept_elements(analysis, np.ones(analysis.lanes.count, bool))
    kept = kept_elements(analysis, ~choice.drop)
    return sum(count - kept[name] for name, count in everything.items() if name not in analysis.statistics)


def _matches(dimension: Dimension, pattern: str) -> bool:
    names = (dimension.name, *(use.param for use in dimension.uses))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _dimension(opened: Opened, dimension: Dimension, *, with_chain: bool) -> InspectedDimension:
    return InspectedDimension(
        name=dimension.name,
        size=dimension.size,
        prunable=dimension.prunable,
        reason=reason(opened.analysis, dimension) or None,
        constraints=dimension.constraints,
        uses=tuple(_use(opened, dimension, use) for use in dimension.uses),
        chain=tuple(chain(opened.analysis, dimension)) if with_chain else None,
    )


def _use(opened: Opened, dimension: Dimension, use: Use) -> InspectedUse:
    origin = opened.origins.of(use.param)
    find = partial(positions, opened, use.param, use.axis, dimension.lanes) if dimension.prunable else None
    return InspectedUse(
        use.param, use.axis, use.role, None if origin.name == use.param else origin.name, find
    )
