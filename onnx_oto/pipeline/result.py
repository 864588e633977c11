"""What `train` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_oto.pipeline.summary import SCHEMA, Summary
from onnx_oto.training import History, Score


@dataclass(frozen=True)
class Gain:
    """Full against compact model, after training.

    scores: of the full model and of the compact one.
    """

    summary: Summary
    scores: tuple[Score, Score]

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their public names."""
        full, small = self.scores
        return {
            **self.summary.as_json(),
            "metric": _metric(full.metric, full.value, small.value),
            "metrics": [_metric(name, value, small.further[name]) for name, value in full.further.items()],
        }


def _metric(name: str, full: float, compact: float) -> dict[str, Any]:
    """Return one metric under its public names; JSON knows no number that is not finite (psnr of equal images)."""
    return {"name": name, "full": _finite(full), "compact": _finite(compact)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Trained:
    """The result of a run. target, achieved: shares of groups that are zero. `gain` is None when it was stopped."""

    run: Path
    target: float
    achieved: float
    seconds: float
    history: History
    gain: Gain | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result under its public names."""
        result = self.gain.as_json() if self.gain is not None else {"schema": SCHEMA, "stopped": True}
        return {
            **result,
            "sparsity": {"target": self.target, "achieved": self.achieved},
            "seconds": round(self.seconds, 2),
            "run": str(self.run),
        }
