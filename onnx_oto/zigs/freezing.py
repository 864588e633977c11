"""Parameters that do not train: those that the user freezes, and those that have to go with a group all the same."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Sequence

from onnx_oto.errors import UsageError
from onnx_oto.model.view import Graph
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.groups import group_slices
from onnx_oto.zigs.learning import TRAINED


def frozen(
    analysis: Analysis,
    patterns: Sequence[str],
    names: Collection[str],
    *,
    origin: Callable[[str], str] = str,
) -> frozenset[str]:
    """Return those of the parameters `names` that a pattern (shell wildcards) matches.

    By their own name, by that of the tensor they were in the file (`origin`), or by that of a node that reads them,
    directly or through what is computed from parameters alone. Raises UsageError for a pattern that matches none.
    """
    found: set[str] = set()
    read = _read(analysis.graph) if patterns else {}
    for pattern in patterns:
        matched = {n for n in names if any(fnmatch.fnmatchcase(each, pattern) for each in (n, origin(n)))}
        for node, parameters in read.items():
            if fnmatch.fnmatchcase(node, pattern):
                matched |= parameters & set(names)
        if not matched:
            near = difflib.get_close_matches(pattern, sorted({*names, *map(origin, names), *read}), 3, 0.5)
            hint = f"; did you mean {', '.join(repr(n) for n in near)}?" if near else ""
            raise UsageError(
                f"--freeze '{pattern}' matches no parameter that trains, and no node that reads one{hint}"
            )
        found |= matched
    return frozenset(found)


def held(analysis: Analysis, trained: Collection[str]) -> tuple[str, ...]:
    """Return the floating-point parameters that do not train but lie in prunable groups, in graph order.

    They get zero with their group, or the group could never go.
    """
    inside = _inside(analysis)
    return tuple(
        name
        for name, tensor in analysis.graph.initializers.items()
        if name in inside and name not in trained and tensor.data_type in TRAINED
    )


def coded(analysis: Analysis) -> tuple[str, ...]:
    """Return the integers that stand for floats and lie in prunable groups: no training drives those to zero."""
    inside = _inside(analysis)
    return tuple(name for name in analysis.trace.codes if name in inside)


def _inside(analysis: Analysis) -> set[str]:
    """Return the parameters of which prunable groups hold something."""
    return {piece.param for piece in group_slices(analysis) if analysis.can_go[piece.lanes].any()}


def _read(view: Graph) -> dict[str, set[str]]:
    """Return the parameters that every named node reads, directly or through nodes that see no data."""
    through: dict[str, set[str]] = {name: {name} for name in view.initializers}
    found: dict[str, set[str]] = {}
    for node in view.nodes:
        sources = [name for name in (*node.inputs, *node.captured) if name]
        own = set().union(*(through.get(name, set()) for name in sources))
        found.setdefault(node.name, set()).update(own)
        if all(name in through for name in sources):
            through.update(dict.fromkeys(node.outputs, own))
    return found
