"""The optimizers by name. A new one is one file with its options class, and one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from onnx_oto.optim.base import DenseOptions, OptimizerOptions
from onnx_oto.optim.cut import MagnitudeOptions, OneShotOptions
from onnx_oto.optim.dhspg import DhspgOptions
from onnx_oto.optim.directions import DIRECTIONS, Direction
from onnx_oto.optim.hesso import HessoOptions
from onnx_oto.optim.hspg import HspgOptions
from onnx_oto.optim.proximal import ProximalOptions
from onnx_oto.optim.published import PublishedOptions
from onnx_oto.optim.refit import RefitOptions
from onnx_oto.optim.stated import Option, chosen, configured, listed, require_known, values

OPTIMIZERS: dict[str, type[OptimizerOptions]] = {
    "dense": DenseOptions,
    "dhspg": DhspgOptions,
    "dhspg-published": PublishedOptions,
    "hspg": HspgOptions,
    "hesso": HessoOptions,
    "proximal": ProximalOptions,
    "magnitude": MagnitudeOptions,
    "one-shot": OneShotOptions,
    "refit": RefitOptions,
}
CUT_FIRST = frozenset({"refit"})
"""Those for which groups are chosen, and set to zero, before the first step (`Task.preset`)."""


class Method(NamedTuple):
    """An optimizer and a direction, each with its options."""

    optimizer: OptimizerOptions
    direction: Direction

    def values(self) -> dict[str, Any]:
        """Return all options by name, defaults included."""
        return values(self.optimizer, self.direction)


def options() -> dict[str, Option]:
    """Return what can be set of any registered optimizer or direction, by name."""
    return listed(OPTIMIZERS, DIRECTIONS)


def method(optimizer: str, direction: str, given: Mapping[str, Any]) -> Method:
    """Return an optimizer and a direction by name, with the given options and defaults for the rest.

    Raises UsageError for a name that is not registered, an option of neither, and values out of range.

    >>> method("dense", "sgd", {"momentum": 0.8}).direction
    Sgd(momentum=0.8, nesterov=False, weight_decay=0.0005)
    """
    kinds = chosen("optimizer", OPTIMIZERS, optimizer), chosen("direction", DIRECTIONS, direction)
    require_known(given, options(), optimizer, direction)
    return Method(configured(kinds[0], given), configured(kinds[1], given))
