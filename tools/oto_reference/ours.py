"""Our optimizers over a flat copy of a network's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from onnx_oto.optim import GroupIndex, Stretch

Parameters = Mapping[str, torch.nn.Parameter]


class Flat:
    """Parameters of a network in one array, and where each of them lies."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        sizes = [parameter.numel() for parameter in parameters.values()]
        self.offsets = dict(zip(parameters, np.cumsum([0, *sizes]).tolist(), strict=False))
        self.size = sum(sizes)

    def values(self) -> np.ndarray:
        """Return a flat copy of the parameters."""
        return np.concatenate([p.detach().numpy().ravel() for p in self.parameters.values()])

    def gradients(self) -> np.ndarray:
        """Return a flat copy of the gradients."""
        found = [p.grad.numpy().ravel() for p in self.parameters.values() if p.grad is not None]
        return np.concatenate(found)

    def put(self, values: np.ndarray) -> None:
        """Set the parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                part = values[self.offsets[name] : self.offsets[name] + parameter.numel()]
                parameter.copy_(torch.from_numpy(part).view_as(parameter))

    def index(self, parts: Iterable[Any]) -> GroupIndex:
        """Return where the groups lie, numbered part by part. parts: see `network.Part`."""
        labels: dict[str, np.ndarray] = {}
        count = 0
        for part in parts:
            for name, first in part.parameters.items():
                rows = labels.setdefault(name, np.full(self.parameters[name].shape[0], -1, np.int32))
                rows[first : first + part.size] = np.arange(count, count + part.size)
            count += part.size
        blocks = []
        for name, rows in labels.items():
            inner = self.parameters[name].numel() // len(rows)
            blocks.append(Stretch(self.offsets[name], 1, len(rows), inner, rows))
        return GroupIndex(tuple(blocks), count)


def lowest(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a choice of this share of the groups, rounded down as the package does it."""

    def select(scores: np.ndarray) -> np.ndarray:
        chosen = np.zeros(scores.size, np.bool_)
        chosen[np.argsort(scores, kind="stable")[: int(scores.size * share)]] = True
        return chosen

    return select
