"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "note", "warning", "broken"]
"""Fine; something that only some need is missing; works, but badly or not for long; nothing trains with it."""


@dataclass(frozen=True)
class Finding:
    """What was found, in a sentence. remedy: the command that mends it, "" where there is nothing to mend."""

    name: str
    state: State
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        return {"name": self.name, "state": self.state, "text": self.text, "remedy": self.remedy or None}


@dataclass(frozen=True)
class Examined:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def trains(self) -> bool:
        """Whether nothing makes training impossible."""
        return all(each.state != "broken" for each in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        return {"schema": 1, "trains": self.trains, "findings": [each.as_json() for each in self.findings]}


def told(error: BaseException | str) -> str:
    """Return what an error says in one short line."""
    text = error if isinstance(error, str) else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
