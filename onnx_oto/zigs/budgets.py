"""What a compact model may cost at most, and saying so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.settings.amounts import quantity
from onnx_oto.zigs.terms import Terms

Amount = float | str
"""The share that is kept, or a quantity with its unit: 0.5, "300M", "2MB", "3.5ms"."""
WORDS = {"params": "parameters", "macs": "MACs", "bytes": "bytes", "latency": "latency"}
_LEAST = 1e-9
"""What is left of a budget that is used up: not 0, because costs are divided by it."""


class OutOfReach(UsageError):
    """No choice keeps a budget. drop: bool [lanes], what goes when all goes that may go."""

    def __init__(self, message: str, drop: BoolArray) -> None:
        super().__init__(message)
        self.drop = drop


@dataclass(frozen=True, eq=False)
class Budget:
    """What a model may cost at most in one currency, the name of which is that of the setting.

    asked: as the user wrote it. most: that, counted. full: what the full model costs. terms: what a model costs by the
    lanes that stay, to which `fixed` is added, which no lane changes. curve: points (counted, real), both ascending, by
    which what is counted so is told, where it is known to be off; () where it is what it is.
    """

    name: str
    asked: Amount
    most: float
    full: float
    terms: Terms
    fixed: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()

    def cost(self, drop: BoolArray) -> float:
        """Return what the model costs without these lanes: bool [lanes]."""
        counted = self.terms.at(~drop) + self.fixed
        return _along(self.curve, counted) if self.curve else counted

    def allows(self, cost: float) -> bool:
        """Return whether a cost is at or under the budget, as the solver takes it (`solving.fits`)."""
        return cost <= self.most * (1 + 1e-9)

    def counted(self) -> tuple[Terms, float]:
        """Return terms, and what they may be at most."""
        most = self.most
        if self.curve:
            most = _along(tuple((real, counted) for counted, real in self.curve), most)
        return self.terms, max(most - self.fixed, _LEAST)

    def tightened(self, measured: float, predicted: float) -> Budget:
        """Return the budget for a model that turned out to cost `measured` where `predicted` was counted."""
        return replace(self, fixed=self.fixed + measured - predicted)

    def scaled(self, off: float) -> Budget:
        """Return the budget for models that turned out to cost `off` times what was told."""
        return replace(self, curve=tuple((counted, real * off) for counted, real in self.curve))

    def with_curve(self, curve: tuple[tuple[float, float], ...]) -> Budget:
        """Return the budget told by a curve."""
        return replace(self, curve=curve)

    def told(self, cost: float) -> str:
        """Return a cost as people read it, and what share of the full model's it is."""
        share = cost / self.full if self.full else 1.0
        return f"{share:.1%} of the {WORDS[self.name]} ({shown(self.name, cost)})"


def _along(curve: tuple[tuple[float, float], ...], x: float) -> float:
    """Return the value of a curve through points and the origin, straight between them and beyond the last one."""
    xs, ys = (np.array([0.0, *each]) for each in zip(*curve, strict=True))
    return float(np.interp(x, xs, ys)) if x <= xs[-1] else float(x * ys[-1] / xs[-1])


def budget(name: str, asked: Amount, full: float, terms: Terms, fixed: float = 0.0) -> Budget:
    """Return the budget that a user asked for; a bare number is a share of `full`."""
    most = quantity(name, asked) if isinstance(asked, str) else round(asked * full, 6)  # 0.58 * 200 < 116
    return Budget(name, asked, float(most), float(full), terms, float(fixed))


def shown(name: str, cost: float) -> str:
    """Return a cost with its unit, to three digits or more.

    >>> shown("macs", 1_814_073_344), shown("latency", 3.5041), shown("bytes", 46_850_048), shown("params", 960)
    ('1.81G', '3.50 ms', '46.9 MB', '960')
    """
    if name == "latency":
        return f"{cost:.3g} ms" if cost >= 100 else f"{cost:#.3g} ms"
    size, prefix = cost, ""
    for prefix in ("", "k", "M", "G", "T"):
        if size < 999.5 or prefix == "T":
            break
        size /= 1000
    number = f"{size:.0f}" if not prefix else f"{size:#.3g}".rstrip(".")
    return f"{number} {prefix}B" if name == "bytes" else f"{number}{prefix}"
