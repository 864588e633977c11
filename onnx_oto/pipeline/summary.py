"""What was gained: the figures that every verb reports under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.zigs import Analysis, analyse
from onnx_oto.zigs.cost import count_macs

if TYPE_CHECKING:  # looking at a model needs no runtime
    from onnx_oto.runtime.comparing import Verdict
    from onnx_oto.runtime.timing import Latencies, Untimed

SCHEMA = 1


@dataclass(frozen=True)
class Change:
    """A figure of the full and of the compact model."""

    before: int
    after: int

    @property
    def kept(self) -> float:
        """The share that is left, 1.0 when there was nothing."""
        return self.after / self.before if self.before else 1.0


@dataclass(frozen=True)
class Width:
    """How many lanes of a dimension there were and are."""

    name: str
    lanes: Change

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        return {"name": self.name, "before": self.lanes.before, "after": self.lanes.after}


@dataclass(frozen=True)
class Summary:
    """Full against compact model. size: of the files, in bytes, external data included. widths: of every dimension.

    macs_at: the open sizes that MACs were counted at, by name. latency: None where nobody wants it. warnings: what a
    user should do something about, in sentences.
    """

    params: Change
    macs: Change
    size: Change
    prunable: int
    removed: int
    verdict: Verdict
    macs_at: Mapping[str, int] = field(default_factory=dict)
    latency: Latencies | Untimed | None = None
    warnings: tuple[str, ...] = ()
    widths: tuple[Width, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their public names."""
        return {
            "schema": SCHEMA,
            "params": {"before": self.params.before, "after": self.params.after},
            "macs": {"before": self.macs.before, "after": self.macs.after, "at": dict(self.macs_at)},
            "bytes": {"before": self.size.before, "after": self.size.after},
            "lanes": {"prunable": self.prunable, "removed": self.removed},
            "latency_ms": None if self.latency is None else self.latency.as_json(),
            "verify": self.verdict.as_json(),
            "warnings": list(self.warnings),
            "dimensions": [each.as_json() for each in self.widths],
        }


def summarise(
    full: Analysis, compact: onnx.ModelProto, drop: BoolArray, verdict: Verdict, size: Change
) -> Summary:
    """Return the figures; the compact model's are read from its own analysis, not computed from the full one's.

    drop: the lanes that were cut out, bool [lanes].
    """
    small = analyse(compact)
    before = count_macs(full)
    after = count_macs(small, before.at)
    return Summary(
        Change(full.params, small.params),
        Change(before.count, after.count),
        size,
        sum(d.size for d in full.prunable),
        int(drop.sum()),
        verdict,
        before.at,
        widths=tuple(Width(d.name, Change(d.size, int((~drop[d.lanes]).sum()))) for d in full.dimensions),
    )
