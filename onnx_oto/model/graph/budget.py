"""How much analysis may write out in memory: the one place that decides.

A file of some hundred bytes can ask for any amount: a ConstantOfShape of 10^12 elements, a tensor joined with itself
forty times. So the size of whatever is not in the file itself is known before it is made, and comes out of a budget.
What the budget does not allow is not made: a value stays unknown, an axis carries no lanes, a tensor stays shared. None
of that is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_BYTES = 2**28
"""What one pass of analysis may make and keep: 256 MiB, so that all passes together stay below 2 GB."""
MAX_AXIS = 2**20
"""The longest axis that carries lanes. No layer has as many channels; a vocabulary has 2^18."""
LANE_BYTES = 3 * 2**29
"""What lanes may take until they are solved: 1.5 GiB, far above what they take in models of billions of parameters."""
EVALUATION = 2**12
"""What computing one node with onnx's reference implementation counts as, in bytes: 2**16 of them take some seconds."""


@dataclass
class Budget:
    """Bytes that may still be made."""

    left: int = MAX_BYTES

    def take(self, size: int) -> bool:
        """Return whether so many more bytes may be made, and count them if so."""
        allowed = 0 <= size <= self.left
        self.left -= size if allowed else 0
        return allowed


def elements(shape: Iterable[object]) -> int | None:
    """Return how many elements a shape has, None where a size is not a number, or negative."""
    total = 1
    for size in shape:
        if not isinstance(size, int) or size < 0:
            return None
        total *= size
    return total
