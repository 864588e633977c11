"""The table of a run: one line per kind, one per failure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hostile_corpus.case import Case


@dataclass(frozen=True)
class Outcome:
    """What one trial did. reasons: the rules it broke."""

    code: int
    seconds: float
    memory: int
    said: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """A case and what became of both its trials."""

    case: Case
    hostile: Outcome
    twin: Outcome

    @property
    def failures(self) -> list[str]:
        """Return one line per rule that was broken."""
        return [f"{part}: {reason}" for part, outcome in self._parts() for reason in outcome.reasons]

    def _parts(self) -> tuple[tuple[str, Outcome], ...]:
        return (("hostile", self.hostile), ("twin", self.twin))

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        parts = {
            part: {
                "code": outcome.code,
                "seconds": round(outcome.seconds, 2),
                "mb": outcome.memory >> 20,
                "said": outcome.said,
                "reasons": list(outcome.reasons),
            }
            for part, outcome in self._parts()
        }
        return {"case": self.case.title, **parts}


def table(results: Iterable[Result]) -> str:
    """Return one line per kind and one for all."""
    kinds: dict[str, list[Result]] = {}
    for result in results:
        kinds.setdefault(result.case.kind, []).append(result)
    lines: list[tuple[str, ...]] = [("kind", "cases", "as expected", "twins accepted", "slowest", "largest")]
    lines += [_row(kind, its) for kind, its in kinds.items()]
    lines.append(_row("all", [result for its in kinds.values() for result in its]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _row(kind: str, results: list[Result]) -> tuple[str, ...]:
    outcomes = [outcome for result in results for outcome in (result.hostile, result.twin)]
    return (
        kind,
        str(len(results)),
        str(sum(not result.hostile.reasons for result in results)),
        str(sum(not result.twin.reasons for result in results)),
        f"{max((o.seconds for o in outcomes), default=0):.1f} s",
        f"{max((o.memory for o in outcomes), default=0) >> 20} MB",
    )


def failure_lines(result: Result) -> str:
    """Return the failures of a case, one line each, and the command to repeat it; "" without failures."""
    lines = [f"FAILED {result.case.title}: {reason}" for reason in result.failures]
    if lines:
        lines.append(f"       tools/hostile --only '{result.case.title}' --keep build/hostile")
    return "\n".join(lines)
