"""Which indices of which parameters stay: a cut told so that the same model can be sliced where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.files.replace import Replacements
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.surgery import kept_positions
from onnx_oto.surgery.compact import Compacted

Axes = dict[str, list[Any]]
"""The indices that stay, by axis; of a grouped convolution's input axis, one list of them per group."""


def stage_kept(
    opened: Opened,
    drop: BoolArray,
    result: Compacted,
    path: str | os.PathLike[str],
    files: Replacements,
    fitted: Iterable[str] = (),
) -> None:
    """Write what `kept` returns to a JSON file that takes its place together with others. Raises OSError.

    fitted: initializers that have other values than in the file; told as "refitted", by the names of the file.
    """
    found = kept(opened, drop, result)
    if names := sorted({opened.origins.of(name).name for name in fitted}):
        found["refitted"] = names
    payload = json.dumps(found).encode()
    with files.writing(files.claim(path)) as file:
        file.write(payload)


def kept(opened: Opened, drop: BoolArray, result: Compacted) -> dict[str, Any]:
    """Return the indices that stay, per parameter of the model file and axis. drop: bool [lanes].

    They are in the order of the compact model, which is another one where a permutation of channels was folded. Only
    parameters that lose something, or are put into another order, are listed, and of them only the axes that are.
    "axes" maps an axis to the list of indices that stay; of a grouped convolution's input axis, to one list per group.
    A parameter of which several layers lose different positions has them in "copies", with the node that reads them.
    "computed": the model reads what it computes from the parameter (a weight norm); the indices are those of that.
    """
    uses: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    places = kept_positions(opened.analysis, drop, result)
    for name in opened.analysis.trace.parameters:
        origin, entry = _entry(opened, name, drop, places.get(name, {}))
        uses.setdefault(origin, []).append((name, entry))
    parameters = {}
    for origin, entries in uses.items():
        if not any(entry["axes"] for _, entry in entries):
            continue
        entries.sort(key=lambda named: named[0] != origin)
        first = entries[0][1]
        others = [
            {"axes": entry["axes"], "nodes": _readers(opened, name)}
            for name, entry in entries[1:]
            if entry["axes"] != first["axes"]
        ]
        parameters[origin] = {**first, "copies": others} if others else first
    return {"schema": SCHEMA, "parameters": parameters}


def positions(opened: Opened, param: str, axis: int, lanes: np.ndarray) -> list[Any]:
    """Return, for every lane, the index of a parameter's axis that belongs to it: a list of them where it is not one.

    Of a grouped convolution's input axis: positions in the list of all groups, one group after the other.
    """
    trace, of_label = opened.analysis.trace, opened.analysis.lanes.of_label
    grouped = trace.grouped.get(param) if axis == 1 else None
    labels = trace.parameters[param][axis] if grouped is None else grouped.reshape(-1)
    own = of_label[labels]
    order = np.argsort(own, kind="stable")
    begin, end = (np.searchsorted(own[order], lanes, side) for side in ("left", "right"))
    nowhere: list[int] = []
    found: list[Any] = [nowhere] * len(lanes)
    for lane in np.flatnonzero(end > begin).tolist():
        here = order[begin[lane] : end[lane]].tolist()
        found[lane] = here[0] if len(here) == 1 else here
    return found


def _entry(
    opened: Opened, name: str, drop: BoolArray, places: Mapping[int, IntArray]
) -> tuple[str, dict[str, Any]]:
    """Return the tensor of the file that a parameter came from, and what stays of it, by axis in `places`."""
    origin = opened.origins.of(name)
    shape = list(opened.analysis.graph.initializers[name].dims)
    axes = {str(axis): index.tolist() for axis, index in sorted(places.items())}
    name_there, computed = origin.name, {"computed": True} if origin.folded else {}
    if origin.index is not None:
        source = opened.shapes.get(origin.name)
        ordered = all((np.diff(index) > 0).all() for index in places.values())
        back = None
        if source is not None and ordered:
            back = _moved_back(origin.index, _masks(opened, name, drop), source)
        if source is None or back is None:
            name_there, computed = name, {}
        else:
            shape, axes = list(source), back
    return name_there, {"shape": shape, "axes": axes, **computed}


def _masks(opened: Opened, name: str, drop: BoolArray) -> dict[int, BoolArray]:
    """Return which positions stay on the axes that lose some: bool [n], or [groups, n]."""
    trace, of_label = opened.analysis.trace, opened.analysis.lanes.of_label
    axes = dict(trace.parameters[name])
    if name in trace.grouped:
        axes[1] = trace.grouped[name]
    masks = {axis: ~drop[of_label[labels]] for axis, labels in axes.items()}
    return {axis: mask for axis, mask in masks.items() if not mask.all()}


def _indices(mask: BoolArray) -> list[Any]:
    return [_indices(row) for row in mask] if mask.ndim > 1 else np.flatnonzero(mask).tolist()


def _moved_back(index: np.ndarray, masks: dict[int, BoolArray], shape: tuple[int, ...]) -> Axes | None:
    """Return what stays of the axes of the tensor that was moved about, None where that is no product of axes."""
    if any(mask.ndim > 1 for mask in masks.values()):
        return None
    stays = np.ones(index.shape, bool)
    for axis, mask in masks.items():
        stays &= mask.reshape([-1 if a == axis else 1 for a in range(index.ndim)])
    source = np.zeros(int(np.prod(shape)), bool)
    source[index[stays]] = True
    source = source.reshape(shape)
    along = [_any_besides(source, axis) for axis in range(len(shape))]
    whole = np.ones(shape, bool)
    for axis, mask in enumerate(along):
        whole &= mask.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    if not np.array_equal(whole, source):
        return None
    return {str(axis): _indices(mask) for axis, mask in enumerate(along) if not mask.all()}


def _any_besides(array: BoolArray, axis: int) -> BoolArray:
    """Return where anything holds along one axis: bool [n]."""
    return np.asarray(array.any(tuple(a for a in range(array.ndim) if a != axis)))


def _readers(opened: Opened, name: str) -> list[str]:
    return [node.name for node, _ in opened.analysis.graph.consumers.get(name, ())]
