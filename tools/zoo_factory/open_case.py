"""What the set `open` says of a model: how to build it, what it takes, and the sizes it is tried at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 50
FEEDS = 3
EXAMPLE = {"batch": 2, "length": 7, "source": 10, "height": 64, "width": 96, "samples": 4800}
"""Sizes of the open axes while a model is exported."""

Sizes = Mapping[str, tuple[int, ...]]


class Input(NamedTuple):
    """One input of a graph.

    shape: numbers, and names of open axes. kind: "normal" (float32), "padding" (bool, True is ignored, never the
    first two), "added" (float32 mask, added to attention scores), "ids" (int64 below VOCABULARY).
    """

    name: str
    shape: tuple[int | str, ...]
    kind: str = "normal"


@dataclass(frozen=True)
class Case:
    """A module and its inputs.

    sizes: of every open axis in the three feeds. ways: exporters, "ts" for TorchScript and "dyn" for dynamo.
    kept: BatchNormalization stays. as_traced: attention is exported as the exporter writes it today, which makes
    constants of the sizes it saw.
    """

    build: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    sizes: Sizes = field(default_factory=dict)
    ways: tuple[str, ...] = ("ts", "dyn")
    kept: bool = False
    as_traced: bool = False


def draw(value: Input, sizes: Mapping[str, int], rng: np.random.Generator) -> Any:
    """Return random contents of an input at the given sizes of the open axes."""
    shape = [sizes[d] if isinstance(d, str) else d for d in value.shape]
    if value.kind == "ids":
        return rng.integers(0, VOCABULARY, shape)
    if value.kind == "padding":
        mask = rng.random(shape) < 0.3
        mask[:, :2] = False
        return mask
    normal = rng.standard_normal(shape).astype(np.float32)
    if value.kind == "added":
        return np.where(rng.random(shape) < 0.3, np.float32(-1.5), np.float32(0.5) * normal)
    return normal


def feeds(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """Return the contents of the feeds file: "i|name" -> array of input `name` in feed i."""
    result = {}
    for i in range(FEEDS):
        sizes = {axis: of_feed[i] for axis, of_feed in case.sizes.items()}
        result.update({f"{i}|{value.name}": draw(value, sizes, rng) for value in case.inputs})
    return result
