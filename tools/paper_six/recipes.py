"""Recipes: samples/NETWORK-DATASET.toml, files that `onnx-oto train --config` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_oto.optim import OPTIMIZERS
from paper_six.form import Form
from paper_six.networks import NETWORKS

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
FORMS = {
    "cifar10": Form(3, 32, 10),
    "cifar100": Form(3, 32, 100),
    "fashion_mnist": Form(1, 28, 10),
    "svhn": Form(3, 32, 10),
    "imagenet": Form(3, 224, 1000),
    "div2k": Form(3, 0, 0),
}
"""What the images of the data sets are."""
DENSE, SPARSE = "dense", "dhspg"

Settings = dict[str, Any]


def recipes() -> dict[str, tuple[str, str]]:
    """Return network and data set of every recipe, by the name of its file."""
    found = {}
    for path in sorted(SAMPLES.glob("*-*.toml")):
        network, _, dataset = path.stem.rpartition("-")
        if network in NETWORKS and dataset in FORMS:
            found[path.stem] = (network, dataset)
    return found


def settings(recipe: str) -> Settings:
    """Return what a recipe says of training."""
    with (SAMPLES / f"{recipe}.toml").open("rb") as file:
        content: Settings = tomllib.load(file)["train"]
    return content


def arm(content: Mapping[str, Any], optimizer: str) -> Settings:
    """Return settings for an optimizer, without what only others read: dense ones have no share and no plan."""
    others = {
        field.name.replace("_", "-")
        for name, made in OPTIMIZERS.items()
        if name != optimizer
        for field in dataclasses.fields(made)
    }
    own = {field.name.replace("_", "-") for field in dataclasses.fields(OPTIMIZERS[optimizer])}
    without = others - own | ({"sparsity"} if optimizer == DENSE else set())
    return {key: value for key, value in content.items() if key not in without} | {"optimizer": optimizer}
