"""How both sides train: known in both environments, so it imports nothing of either."""

from __future__ import annotations

from typing import NamedTuple

EXACT, SINGLE, MOVED = "64", "32", "64m"
"""Labels of runs: PyTorch in float64, both sides in float32, PyTorch in float64 from weights moved by one rounding."""
STEPS = 20
SAMPLES = 8
BATCHES, STEPPED = 5, 3
"""So many batches are differentiated, with so many of them the model also takes steps."""

MODELS = (
    "mobilenet_v3_small",
    "googlenet",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "vit",
    "unet",
    "unet_bilinear",
    "nafnet",
    "densenet",
    "resnet_groupnorm",
    "prelu_face",
    "lstm",
    "bilstm2",
    "gru",
    "last_state",
    "tcn",
    "wavenet",
    "audio",
    "gpt2",
    "modern_decoder",
)
"""Of the networks that `tools/zoo trained` makes, those that are compared unless others are asked for."""
SMOOTH = "+smooth"
"""A name that ends so is the model without kinks: Softplus for ReLU and its kin, average for maximum pooling."""


class Way(NamedTuple):
    """One optimizer: `direction` is its name here. everything: norms and biases are decayed as well."""

    direction: str
    lr: float
    weight_decay: float
    everything: bool = False


WAYS = {
    "SGD": Way("sgd", 0.01, 5e-4),
    "Adam": Way("adam", 1e-3, 5e-4),
    "AdamW": Way("adamw", 1e-3, 1e-2),
    "AdamW, decay of all": Way("adamw", 1e-3, 1e-2, everything=True),
}
FIRST = "SGD"
"""The way after whose steps running statistics are compared, too."""
MOMENTUM = 0.9
