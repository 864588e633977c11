"""The pieces of the study: a way, a budget, a seed; and the commands that each takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WAYS = {
    "dense": "the full network",
    "dhspg": "groups driven to zero while it trains",
    "magnitude": "trained in full, cut by magnitude, trained on",
    "refit": "trained in full, cut by activations with a refit, trained on",
    "hesso": "HESSO",
    "hspg": "HSPG",
    "proximal": "proximal group lasso",
    "scratch": "the widths that dhspg found, from scratch",
    "taught": "dhspg, taught by the full network besides",
    "averaged": "dhspg, the mean of the last weights",
    "brought": "the full network, trained, is brought: trained as long again, as `train` does by default",
}
BUDGETS = [0.5, 0.25, 0.12]
"""Shares of the MACs that are kept."""
AVERAGED = "0.998"
"""Share of the mean that stays in a step."""
HALVES = ("refit",)
"""Ways whose first half is a training of the full network, which all of them share."""


@dataclass(frozen=True)
class Piece:
    """One training. budget: None for the full network. first: whether it is the first half that others go on from."""

    way: str
    budget: float | None
    seed: int
    first: bool = False

    @property
    def name(self) -> str:
        """The folder of its run."""
        if self.first:
            return f"half-{self.seed}"
        return f"{self.way}-{'' if self.budget is None else f'{self.budget:g}-'}{self.seed}"

    @property
    def needs(self) -> Piece | None:
        """The piece that has to be done before."""
        if self.way == "scratch":
            return Piece("dhspg", self.budget, self.seed)
        if self.way in ("taught", "brought"):
            return Piece("dense", None, self.seed)
        if self.way in HALVES and not self.first:
            return Piece("dense", None, self.seed, first=True)
        return None

    def options(self, epochs: int, runs: Path) -> list[str]:
        """Return the options of `onnx-oto train` that make it what it is."""
        halved = self.first or self.way in HALVES
        length = ["--epochs", str(epochs // 2 if halved else epochs)]
        if self.way in ("dense", "scratch") or self.first:
            return [*length, "--optimizer", "dense", "--from", "scratch"]
        if self.way == "brought":
            return [*length, "--from", "trained", *self._budget]
        start = "trained" if self.way in HALVES else "scratch"
        further = {
            "taught": ["--teacher", str(runs / f"dense-{self.seed}" / "trained.onnx")],
            "averaged": ["--ema", AVERAGED],
        }
        return [
            *length,
            *("--optimizer", "dhspg" if self.way in further else self.way, "--from", start),
            *further.get(self.way, []),
            *self._budget,
        ]

    @property
    def _budget(self) -> list[str]:
        return ["--macs", f"{self.budget:g}", "--round-to", "1", "--scope", "global"]

    def model(self, runs: Path, arch: str) -> Path:
        """Return the model that it starts with."""
        if self.needs is None or self.way == "taught":
            return runs / f"{arch}-{self.seed}.onnx"
        if self.way == "scratch":
            return runs / f"{self.name}.onnx"
        return runs / self.needs.name / "trained.onnx"


def pieces(ways: list[str], budgets: list[float], seeds: list[int]) -> Iterator[Piece]:
    """Yield all pieces, each behind what it needs; those of the first seed first."""
    seen = set()
    for seed in seeds:
        for budget in budgets:
            for way in ways:
                piece = Piece(way, None if way == "dense" else budget, seed)
                for each in (piece.needs, piece):
                    if each is not None and each not in seen:
                        seen.add(each)
                        yield each
