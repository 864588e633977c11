"""How both sides train: known in both environments, so it imports nothing of either."""

from __future__ import annotations

from typing import NamedTuple

EXACT, SINGLE = "64", ("32", "32b", "32c")
"""Labels of PyTorch's runs in float64 and in float32."""
STEPS = 20
SAMPLES = 8


class Way(NamedTuple):
    """One optimizer: `direction` is its name here; the decay is of all parameters."""

    direction: str
    lr: float
    weight_decay: float


WAYS = {
    "SGD": Way("sgd", 0.01, 5e-4),
    "Adam": Way("adam", 1e-3, 5e-4),
    "AdamW": Way("adamw", 1e-3, 1e-2),
}
MOMENTUM = 0.9
