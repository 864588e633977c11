"""Both sides in turns, and the table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
OURS, PLAIN, THEIRS, COMPILED, FLOOR = "ours", "plain", "theirs", "compiled", "floor"


@dataclass
class Side:
    """A process that takes steps when asked; see the package."""

    name: str
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)
    ms: list[float] = field(default_factory=list)
    optimizer_ms: list[float] = field(default_factory=list)
    peak: int = 0

    def ready(self) -> bool:
        """Wait for the first step; False if there was none."""
        self.facts = self._line()
        return bool(self.facts)

    def take(self, steps: int) -> None:
        """Take steps and note their times."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        found = self._line()
        self.ms += found.get("ms", [])
        self.optimizer_ms += found.get("optimizer_ms", [])
        self.peak = found.get("peak_mib", 0)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return dict(json.loads(line)) if line.startswith("{") else {}

    @property
    def median(self) -> float | None:
        """The median step in milliseconds; None where there was none."""
        return statistics.median(self.ms) if self.ms else None


@contextmanager
def started(name: str, command: Sequence[str], threads: int) -> Iterator[Side]:
    """Start a side on the first `threads` cores, and end it."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TOOLS}{os.pathsep}{TOOLS.parent}",
        "PYTHONWARNINGS": "ignore",
    }

    def pinned() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))

    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=pinned,
    ) as process:
        try:
            yield Side(name, process)
        finally:
            process.kill()


def compare(
    network: str,
    folder: Path,
    pythons: Mapping[str, str],
    *,
    threads: int,
    rounds: int,
    steps: int,
) -> dict[str, Any]:
    """Return a row: medians, peaks and the ratio of paired rounds. pythons: by side; those that are missing are out."""
    place = folder / network
    commands = {
        THEIRS: ("step_bench.theirs", network, str(place), str(threads)),
        OURS: ("step_bench.ours", str(place), str(threads)),
        PLAIN: ("step_bench.ours", str(place), str(threads), "plain"),
        COMPILED: ("step_bench.theirs", network, str(place), str(threads), "compile"),
        FLOOR: ("step_bench.floor", str(place), str(threads)),
    }
    with ExitStack() as stack:
        sides: list[Side] = []
        for name, command in commands.items():
            if name in pythons:
                side = stack.enter_context(started(name, [pythons[name], "-m", *command], threads))
                if side.ready():  # PyTorch's writes the files that ours reads
                    sides.append(side)
        pairs: list[float] = []
        plain: list[float] = []
        for _ in range(rounds):
            before = {side.name: len(side.ms) for side in sides}
            for side in sides:
                side.take(steps)
            round_of = {
                side.name: statistics.median(side.ms[before[side.name] :]) for side in sides if side.ms
            }
            if {OURS, THEIRS} <= round_of.keys():
                pairs.append(round_of[OURS] / round_of[THEIRS])
            if {OURS, PLAIN} <= round_of.keys():
                plain.append(round_of[PLAIN] / round_of[OURS])
        row: dict[str, Any] = {"network": network, "threads": threads}
        row |= {side.name: side.median for side in sides}
        row |= {f"{side.name} MiB": side.peak for side in sides}
        row |= {f"{side.name} optimizer": statistics.median(side.optimizer_ms) for side in sides if side.ms}
        row["shards"] = next((side.facts.get("shards") for side in sides if side.name == OURS), None)
        if pairs:
            row["ratio"] = statistics.median(pairs)
        if plain:
            row["plain ratio"] = statistics.median(plain)
        return row


HEAD = (
    "network", "threads", "ours, ms", "PyTorch, ms", "ratio", "compiled, ms", "floor, ms",
    "optimizer, ours / PyTorch, ms", "memory, ours / PyTorch",
)  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in Markdown.

    >>> print(table([{"network": "a", "threads": 2, "ours": 8.0, "theirs": 10.0, "ratio": 0.8, "ours MiB": 3,
    ...               "theirs MiB": 2, "ours optimizer": 1.0, "theirs optimizer": 2.0}]).splitlines()[2])
    | a | 2 | 8.0 | 10.0 | **0.80** |  |  | 1.0 / 2.0 | 1.50 |
    """
    lines = [f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
    for row in rows:
        times = [_shown(row.get(name)) for name in (OURS, THEIRS, COMPILED, FLOOR)]
        both = OURS in row and THEIRS in row
        memory = f"{row['ours MiB'] / row['theirs MiB']:.2f}" if both else ""
        optimizer = (
            " / ".join(_shown(row.get(f"{side} optimizer")) for side in (OURS, THEIRS)) if both else ""
        )
        ratio = f"**{row['ratio']:.2f}**" if "ratio" in row else ""
        cells = [row["network"], row["threads"], *times[:2], ratio, *times[2:], optimizer, memory]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    ratios = {row["network"]: row["ratio"] for row in rows if "ratio" in row}
    if ratios:
        worst = max(ratios, key=lambda name: ratios[name])
        lines += [
            "",
            f"Median ratio {statistics.median(ratios.values()):.2f}, largest {ratios[worst]:.2f} ({worst}).",
        ]
    return "\n".join(lines)


def beside(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in Markdown: the plain backend beside the first one.

    >>> print(beside([{"network": "a", "threads": 2, "ours": 8.0, "plain": 10.0, "plain ratio": 1.25, "ours MiB": 2,
    ...                "plain MiB": 3}]).splitlines()[2])
    | a | 2 | 8.0 | 10.0 | **1.25** | 1.50 |
    """
    lines = [
        "| network | threads | first backend, ms | plain, ms | ratio | memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row["network"], row["threads"], _shown(row.get(OURS)), _shown(row.get(PLAIN))]
        memory = f"{row['plain MiB'] / row['ours MiB']:.2f}" if {OURS, PLAIN} <= row.keys() else ""
        ratio = f"**{row['plain ratio']:.2f}**" if "plain ratio" in row else ""
        lines.append(f"| {' | '.join(map(str, [*cells, ratio, memory]))} |")
    return "\n".join(lines)


def _shown(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.1f}"
