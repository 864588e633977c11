"""The analysis of a model: dimensions, what is frozen and why, parameters and MACs."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import onnx

from onnx_oto import ops
from onnx_oto.errors import UsageError
from onnx_oto.lanes.constraints import Rectangle
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray, Lanes, distinct, solve
from onnx_oto.lanes.trace import Role, Trace
from onnx_oto.machine import without_collecting
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.inference import Knowledge
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.model.view import Graph, graph
from onnx_oto.settings import AnalysisOptions
from onnx_oto.zigs.families import families, meetings, members, runs_of
from onnx_oto.zigs.ties import Ties

_PRODUCER = Role.PRODUCER.value


class Use(NamedTuple):
    """One axis of a parameter that carries lanes of a dimension."""

    param: str
    axis: int
    role: str


@dataclass(frozen=True, eq=False)
class Dimension:
    """A family of lanes that share the same axes.

    lanes: int64 [size], lane numbers in the order of the producing axis. `reason` says why it is frozen, ""
    when it is prunable.
    """

    name: str
    lanes: IntArray
    reason: str
    constraints: tuple[str, ...]
    uses: tuple[Use, ...]

    @property
    def size(self) -> int:
        return int(self.lanes.size)

    @property
    def prunable(self) -> bool:
        return not self.reason


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is known of a normalised model before anything is changed."""

    model: onnx.ModelProto
    graph: Graph
    trace: Trace
    lanes: Lanes
    dimensions: tuple[Dimension, ...]
    uses: tuple[tuple[Use, IntArray], ...]
    """Every labelled parameter axis that has a role, with its labels."""

    @cached_property
    def prunable(self) -> tuple[Dimension, ...]:
        """Return the dimensions from which lanes can be removed."""
        return tuple(d for d in self.dimensions if d.prunable)

    @property
    def macs(self) -> int:
        """Return multiply-accumulates of one sample (unknown sizes counted as 1)."""
        return self.macs_at({})

    def macs_at(self, sizes: Mapping[str, int]) -> int:
        """Return multiply-accumulates where open sizes are the given ones, by symbol; others count as 1."""
        return sum(self.macs_of_nodes(sizes).values())

    def macs_of_nodes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return what `macs_at` adds up, by the name of the node that makes it."""
        at = Estimated(sizes, self.graph.about)
        return {
            node: sum(
                max(value_at(each.size, at), 0)
                * math.prod(labels.size for labels in (*each.counted, *each.repeated))
                * math.prod(labels.shape[1] for labels in each.per_group)
                for each in products
                if each.size is not None
            )
            for node, products in self.trace.macs.items()
        }

    @cached_property
    def params(self) -> int:
        """Return the number of elements of all parameters, see `counted_parameters`."""
        return sum(_elements(self.graph.initializers[name]) for name in self.counted_parameters)

    @cached_property
    def counted_parameters(self) -> tuple[str, ...]:
        """The floating-point initializers but running statistics, and integers that stand for floats."""
        return tuple(
            name
            for name, tensor in self.graph.initializers.items()
            if (tensor.data_type in FLOATS or name in self.trace.codes) and name not in self.statistics
        )

    @cached_property
    def statistics(self) -> frozenset[str]:
        """The names of running statistics, which are no parameters."""
        return frozenset(param for (param, _), role in self.trace.roles.items() if role is Role.BUFFER)

    @cached_property
    def ties(self) -> Ties:
        """Return which operators tie labels."""
        return Ties(self.trace, self.lanes.of_label)

    @cached_property
    def produced(self) -> dict[str, list[int]]:
        """Return the axes of every parameter that make channels."""
        found: dict[str, list[int]] = {}
        for (name, axis), role in self.trace.roles.items():
            if role is Role.PRODUCER:
                found.setdefault(name, []).append(axis)
        return found

    @cached_property
    def frozen_by_lane(self) -> tuple[IntArray, IntArray, IntArray]:
        """Lane, label and entry of `trace.frozen` of all labels that were frozen, by lane: int64 [labels] each."""
        frozen = [each.labels for each in self.trace.frozen]
        labels = np.concatenate([np.zeros(0, np.int64), *frozen])
        entries = np.repeat(np.arange(len(frozen)), [each.size for each in frozen])
        lanes = self.lanes.of_label[labels]
        order = np.argsort(lanes, kind="stable")
        return lanes[order], labels[order], entries[order]

    @cached_property
    def nonempty(self) -> tuple[IntArray, ...]:
        """Return sets of lanes of which one must stay so that no axis gets empty: parts of dimensions (splits)."""
        of_dimension = np.full(self.lanes.count, -1, np.int64)
        for i, dimension in enumerate(self.prunable):
            of_dimension[dimension.lanes] = i
        sizes = np.array([d.size for d in self.prunable] or [0])
        found: dict[bytes, IntArray] = {}
        seen: set[int] = set()
        told: set[bytes] = set()
        for layout in self.trace.layouts.values():
            for block in layout.blocks if layout is not None else ():
                if id(block.labels) in seen:
                    continue
                seen.add(id(block.labels))
                lanes = self.lanes.of_label[block.labels]
                text = lanes.tobytes()  # most axes have the lanes of another one
                if text in told:
                    continue
                told.add(text)
                if not lanes.size or of_dimension[lanes].min() < 0:
                    continue
                members = distinct(lanes)
                counts = np.bincount(of_dimension[members])
                if ((counts == 0) | (counts < sizes[: counts.size])).all():
                    found[members.tobytes()] = members
        return tuple(found.values())

    @cached_property
    def can_go(self) -> BoolArray:
        """Which lanes are in a prunable dimension: bool [lanes]."""
        result = np.zeros(self.lanes.count, bool)
        for dimension in self.prunable:
            result[dimension.lanes] = True
        return result

    @cached_property
    def prunable_params(self) -> int:
        """Return how many parameter elements lie in at least one prunable lane."""
        return sum(
            _elements(self.graph.initializers[p]) - kept
            for p, kept in kept_elements(self, ~self.can_go).items()
            if p not in self.statistics
        )


def _elements(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def kept_elements(analysis: Analysis, keep: BoolArray) -> dict[str, int]:
    """Return how many elements of every labelled parameter stay. keep: bool [lanes]."""
    result = {}
    for param, axes in analysis.trace.parameters.items():
        count = _elements(analysis.graph.initializers[param])
        for axis, labels in axes.items():
            if (param, axis) in analysis.trace.padded:
                continue
            grouped = analysis.trace.grouped.get(param) if axis == 1 else None
            rows = labels[None] if grouped is None else grouped
            kept = keep[analysis.lanes.of_label[rows]].sum(1)  # of a group that stays; none of one that goes
            count = count // rows.shape[1] * int(kept.max())
        result[param] = count
    return result


@without_collecting()
def analyse(
    model: onnx.ModelProto,
    options: AnalysisOptions | None = None,
    knowledge: Knowledge | None = None,
    *,
    payloads: Payloads | None = None,
) -> Analysis:
    """Return the analysis of a normalised model (see `onnx_oto.model.normal_form`). Nothing is modified.

    knowledge: what its shapes are, where that is known; otherwise it is inferred. payloads: of its weights, where
    they were kept when it was loaded (and normalised in place), to spare copies.

    Raises UsageError for a pattern of `options.keep` that matches nothing.
    """
    options = options or AnalysisOptions()
    view = graph(model, knowledge, laid_out=True, payloads=payloads)
    trace = Trace(view, through_norms=not options.fixed_norms, head_dims=options.head_dims)
    for node in view.nodes:
        ops.apply(node, trace)
    for name in view.outputs:
        layout = trace.layout(name)
        if layout is not None:
            trace.freeze(layout.blocks, f"it is part of the model's output '{name}'")
            trace.rectangles.extend(Rectangle(b.labels, name) for b in layout.joint())
    for pattern in options.keep:
        _pin(trace, pattern)
    lanes = solve(trace)
    uses = _uses(trace)
    return Analysis(model, view, trace, lanes, _dimensions(trace, lanes, uses), uses)


def _pin(trace: Trace, pattern: str) -> None:
    """Freeze the lanes that a parameter, a node's outputs or a tensor matching `pattern` carries."""
    reason = f"pinned by --keep '{pattern}'"
    names = {n for n in (*trace.layouts, *trace.graph.inputs) if fnmatch.fnmatchcase(n, pattern)}
    for node in trace.graph.nodes:
        if fnmatch.fnmatchcase(node.name, pattern):
            names |= set(node.outputs)
    found = False
    for name in names:
        producing = {a for (p, a), role in trace.roles.items() if p == name and role is Role.PRODUCER}
        layout = trace.layouts.get(name)
        if name in trace.parameters:
            for axis in producing:
                labels = trace.labels_of(name, axis)
                if labels is not None:
                    trace.freeze(labels, reason)
            found = True
        elif layout is not None:
            trace.freeze(layout.blocks, reason)
            found = True
    if not found:
        known = sorted({*trace.parameters, *(n.name for n in trace.graph.nodes)})
        near = difflib.get_close_matches(pattern, known, 3, 0.5)
        hint = f"; did you mean {', '.join(repr(n) for n in near)}?" if near else ""
        raise UsageError(f"--keep '{pattern}' matches no parameter, node or tensor of the model{hint}")


def _uses(trace: Trace) -> tuple[tuple[Use, IntArray], ...]:
    """Return every labelled parameter axis that has a role, with its labels."""
    result = []
    told = {id(role): role.value for role in Role}  # a hash of an Enum takes longer than all the rest
    for (param, axis), role in trace.roles.items():
        labels = trace.labels_of(param, axis)
        if labels is not None:
            result.append((Use(param, axis, told[id(role)]), labels))
    return tuple(result)


def _dimensions(trace: Trace, lanes: Lanes, every: Sequence[tuple[Use, IntArray]]) -> tuple[Dimension, ...]:
    """Group lanes by the set of parameter axes that produce them, and by why they are frozen."""
    runs = runs_of([labels for _, labels in every], lanes.of_label)
    producing = np.array([use.role == _PRODUCER for use, _ in every], bool)
    of_lane = families(runs, producing, lanes.reason, len(lanes.reasons))
    groups = members(of_lane)
    by_family: list[list[Use]] = [[] for _ in groups]
    for use, index in meetings(runs, of_lane, len(groups)):
        by_family[index].append(every[use][0])
    balanced: list[list[tuple[IntArray, str]]] = [[] for _ in groups]
    for rows, node in lanes.balanced:
        for index in distinct(of_lane[rows]):
            if index >= 0:
                balanced[index].append((rows, node))
    names: dict[str, int] = {}
    size_of = cache(lambda param: _elements(trace.graph.initializers[param]))
    ties = Ties(trace, lanes.of_label)
    return tuple(
        _dimension(trace, lanes, group, tuple(its_uses), its_rows, names, ties, size_of)
        for group, its_uses, its_rows in zip(groups, by_family, balanced, strict=True)
    )


def _dimension(
    trace: Trace,
    lanes: Lanes,
    members: IntArray,
    its_uses: Sequence[Use],
    balanced: Sequence[tuple[IntArray, str]],
    names: dict[str, int],
    ties: Ties,
    size_of: Callable[[str], int],
) -> Dimension:
    producers = [u for u in its_uses if u.role == _PRODUCER]
    weights = [u for u in producers if u.param in trace.weights] or producers
    name = max(weights, key=lambda u: size_of(u.param)).param
    names[name] = names.get(name, 0) + 1
    if names[name] > 1:
        name = f"{name}#{names[name]}"
    reason_index = int(lanes.reason[members[0]])
    reason = (
        lanes.reasons[reason_index]
        if reason_index >= 0
        else _immovable(trace, lanes, members, its_uses, balanced, ties)
    )
    constraints = []
    if not reason:
        constraints.append("keep at least 1")
        constraints += [f"balanced over the {len(rows)} groups of '{node}'" for rows, node in balanced]
    return Dimension(name, members, reason, tuple(constraints), tuple(its_uses))


def _immovable(
    trace: Trace,
    lanes: Lanes,
    members: IntArray,
    its_uses: Sequence[Use],
    balanced: Sequence[tuple[IntArray, str]],
    ties: Ties,
) -> str:
    """Return why no lane of a dimension can go although none is frozen, "" if one can.

    A dimension keeps a lane, and one of every balanced cell (see `choose`).
    """
    cells = lanes.cells[members]
    if (cells == cells[0]).all():
        if members.size > 1:
            return ""
    elif np.unique(cells, return_counts=True)[1].min() > 1:
        return ""
    if members.size > 1:
        nodes = [f"'{node}'" for _, node in balanced]
        return f"every group of {' and '.join(nodes)} keeps a channel, and one of them has only one"
    lane, most = int(members[0]), np.zeros(0, np.int64)
    for use in its_uses:
        labels = trace.labels_of(use.param, use.axis)
        if use.role == _PRODUCER and labels is not None:
            inside = labels.reshape(-1)[lanes.of_label[labels.reshape(-1)] == lane]
            most = inside if inside.size > most.size else most
    if most.size < 2:
        return "it is a single channel, and one must stay"
    chain = ties.chain(lane, [int(most[0])], [int(most[-1])])
    by = f", tied together by {ties.told(chain)}" if chain else ""
    return f"its {most.size} channels are one lane, which must stay{by}"
