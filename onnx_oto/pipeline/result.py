"""What `train` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.int8.result import Int8
from onnx_oto.pipeline.summary import SCHEMA, Summary
from onnx_oto.runtime.timing import Latencies
from onnx_oto.training import History, Score
from onnx_oto.zigs.budgets import Budget


@dataclass(frozen=True)
class Gain:
    """Full against compact model, after training.

    scores: of the full model and of the compact one. original: of the model as it was brought, None where that could
    not be judged. whole: whether they are of whole images, where samples were patches.
    """

    summary: Summary
    scores: tuple[Score, Score]
    original: Score | None = None
    whole: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their public names."""
        first, *rest = [
            {
                "name": name,
                **{who: None if value is None else _finite(value) for who, value in values.items()},
            }
            for name, values in self.metrics().items()
        ]
        return {**self.summary.as_json(), "metric": first, "metrics": rest, "whole_images": self.whole}

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Return the metrics by name, the first one that was asked for first: original, full and compact."""
        full, small = self.scores
        known = {"original": self.original, "full": full, "compact": small}
        first = {full.metric: {who: None if score is None else score.value for who, score in known.items()}}
        return first | {
            name: {who: None if score is None else score.further[name] for who, score in known.items()}
            for name in full.further
        }


def _kept(history: History) -> dict[str, Any]:
    """Return whose parameters were handed back, and by what they were chosen."""
    kept = history.kept
    if kept is None:
        return {"epoch": len(history.epochs), "split": None, "value": None, "averaged": False, "early": False}
    return {
        "epoch": kept.epoch,
        "split": kept.split,
        "value": None if kept.value is None else _finite(kept.value),
        "averaged": kept.averaged,
        "early": kept.early,
    }


def _finite(value: float) -> float | None:
    """Return a number as JSON knows it: none that is not finite (psnr of equal images)."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Trained:
    """The result of a run. target, achieved: shares of groups that are zero. `gain` is None when it was stopped.

    target: None where budgets said how many. chosen: groups that the optimizer drove to zero; what is zero besides was
    so before, or became so by itself.
    """

    run: Path
    target: float | None
    achieved: float
    seconds: float
    history: History
    gain: Gain | None = None
    chosen: int = 0
    goal: Goal = field(default_factory=Goal)
    int8: Int8 | None = None

    @property
    def besides(self) -> int:
        """How many groups were removed that the optimizer did not choose: they were zero all the same."""
        return 0 if self.gain is None else max(self.gain.summary.removed - self.chosen, 0)

    def costs(self) -> list[tuple[Budget, float]]:
        """Return what the compact model costs in the currency of every budget."""
        if self.gain is None:
            return []
        summary = self.gain.summary
        found: dict[str, float] = {
            "params": summary.params.after,
            "macs": summary.macs.after,
            "bytes": summary.size.after,
        }
        if isinstance(
            summary.latency, Latencies
        ):  # in turn with the full model, whose time the budget is a share of
            found["latency"] = summary.latency.left
        return [
            (each, float(found[each.name]) * (each.full if each.name == "latency" else 1.0))
            for each in self.goal.budgets
            if each.name in found
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the result under its public names."""
        result = self.gain.as_json() if self.gain is not None else {"schema": SCHEMA, "stopped": True}
        return {
            **result,
            "sparsity": {"target": self.target, "achieved": self.achieved},
            "budgets": {
                each.name: {"asked": each.asked, "most": each.most, "compact": cost}
                for each, cost in self.costs()
            },
            "round_to": self.goal.rounding.block,
            "zeros": {"besides": self.besides},
            "kept": _kept(self.history),
            "waited": round(self.history.waited, 3),
            **({} if self.int8 is None else {"int8": self.int8.as_json()}),
            "seconds": round(self.seconds, 2),
            "run": str(self.run),
        }
