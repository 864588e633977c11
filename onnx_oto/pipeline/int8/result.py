"""What is told of an int8 model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_oto.pipeline.summary import Change
from onnx_oto.runtime.schemes import Scheme
from onnx_oto.runtime.timing import Latencies, Untimed
from onnx_oto.training import Score

PERCENT = 100.0


@dataclass(frozen=True)
class Distance:
    """How far one model is from another: `change` is sum |a - b| / sum |b| over float outputs and samples.

    agreement: of outputs that say a class, the share of places where both say the same; None where none does.
    """

    change: float
    agreement: float | None

    @property
    def points(self) -> float:
        """What is lost, in points: answers of a hundred that are others, or percent that outputs are off."""
        return PERCENT * (self.change if self.agreement is None else 1 - self.agreement)


@dataclass(frozen=True)
class Int8:
    """An int8 model beside the float one (the compact model) that it was made of.

    scores: of both, None without labels. lost: points, of the metric, or of `distance` without labels; allowed: at
    most. size: of the files; weights: bytes of what the files hold as weights. kept: layers in float, those that lost
    most first; layers: how many could be quantized.
    """

    path: Path
    target: str
    scheme: Scheme
    samples: int
    scores: tuple[Score, Score] | None
    distance: Distance
    lost: float
    allowed: float
    size: Change
    weights: Change
    layers: int
    kept: tuple[str, ...] = ()
    latency: Latencies | Untimed | None = None

    def warnings(self) -> tuple[str, ...]:
        """Return what a user should be warned of, in sentences."""
        if not isinstance(self.latency, Latencies) or not self.latency.is_slower:
            return ()
        times = f"{self.latency.full.text} -> {self.latency.compact.text}"
        return (
            f"the int8 model is slower than the float one: {times} in {self.latency.runtime}: this processor or "
            "runtime has no faster kernels for its layers, or they are too small to pay for quantizing what they read",
        )

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the figures of the float and of the int8 model, and what is left, for people."""
        found = [
            (
                "file size",
                f"{self.size.before:,} bytes",
                f"{self.size.after:,} bytes",
                f"{self.size.kept:.1%}",
            ),
            (
                "weights",
                f"{self.weights.before:,} bytes",
                f"{self.weights.after:,} bytes",
                f"{self.weights.kept:.1%}",
            ),
        ]
        if isinstance(self.latency, Latencies):
            took = self.latency.full.text, self.latency.compact.text
            found.append(("latency", *took, f"{self.latency.left:.1%}"))
        if self.scores is not None:
            before, after = self.scores
            values = {before.metric: (before.value, after.value)} | {
                name: (value, after.further[name]) for name, value in before.further.items()
            }
            found += [(f"test {name}", f"{a:.4f}", f"{b:.4f}", "") for name, (a, b) in values.items()]
        return found

    def told(self) -> str:
        """Return how far it is from the float model, in words."""
        agreement = self.distance.agreement
        agreed = "" if agreement is None else f"they agree on {agreement:.2%} of the answers, "
        unit = "points" if self.scores is not None or agreement is not None else "percent"
        return (
            f"float and int8: {agreed}outputs are off by {self.distance.change:.2%}; lost {max(self.lost, 0.0):.2f} "
            f"{unit}, {self.allowed:g} are allowed"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        latency: dict[str, Any] | None = None
        if isinstance(self.latency, Latencies):
            known = self.latency.as_json()
            renamed = {"full": "compact", "compact": "int8"}
            latency = {renamed.get(name, name): value for name, value in known.items()}
            latency["compact_interval"], latency["int8_interval"] = (
                known[f"{name}_interval"] for name in ("full", "compact")
            )
            latency.pop("full_interval")
        elif self.latency is not None:
            latency = {"compact": None, "int8": None, "not_measured": self.latency.reason}
        return {
            "file": self.path.name,
            "for": self.target,
            "activations": self.scheme.activations,
            "weights": "int8",
            "reduced_range": self.scheme.reduced,
            "samples": self.samples,
            "metric": None if self.scores is None else _metric(*self.scores),
            "loss": None
            if self.scores is None
            else {"compact": self.scores[0].loss, "int8": self.scores[1].loss},
            "agreement": self.distance.agreement,
            "output_change": _finite(self.distance.change),
            "lost": _finite(self.lost),
            "allowed": self.allowed,
            "bytes": {"compact": self.size.before, "int8": self.size.after},
            "weight_bytes": {"compact": self.weights.before, "int8": self.weights.after},
            "layers": {"quantized": self.layers - len(self.kept), "float": list(self.kept)},
            "latency_ms": latency,
            "warnings": list(self.warnings()),
        }


def _metric(before: Score, after: Score) -> dict[str, Any]:
    return {"name": before.metric, "compact": _finite(before.value), "int8": _finite(after.value)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
