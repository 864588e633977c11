"""A small network with every kind of group that the package knows: alone, joined by an addition, by a concatenation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Two residual convolutions, one that is joined to their sum, and a norm and a layer over all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.last, self.last_norm = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.side = nn.Conv2d(8, 6, 1)
        self.joined_norm = nn.BatchNorm2d(14)
        self.head = nn.Linear(14, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first_norm(self.first(x))
        b = self.last_norm(self.last(F.relu(self.inner_norm(self.inner(F.relu(a))))))
        total = a + b
        joined = self.joined_norm(torch.cat([total, self.side(F.relu(total))], 1))
        logits: torch.Tensor = self.head(F.relu(joined).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Part:
    """Groups that are the rows of parameters: `size` of them. parameters: names, with the first row that is theirs."""

    size: int
    parameters: dict[str, int]


PARTS = (
    Part(
        8,
        {
            "first.weight": 0,
            "first_norm.weight": 0,
            "first_norm.bias": 0,
            "last.weight": 0,
            "last_norm.weight": 0,
            "last_norm.bias": 0,
            "joined_norm.weight": 0,
            "joined_norm.bias": 0,
        },
    ),
    Part(12, {"inner.weight": 0, "inner.bias": 0, "inner_norm.weight": 0, "inner_norm.bias": 0}),
    Part(6, {"side.weight": 0, "side.bias": 0, "joined_norm.weight": 8, "joined_norm.bias": 8}),
)
GROUPS = sum(part.size for part in PARTS)


def network(kind: torch.dtype) -> Net:
    """Return the network, the same weights each time; scales of norms differ, so that groups do."""
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    return net.to(kind)


class Batches:
    """Ten classes of noisy patterns; batch `step` is a function of its number."""

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind
        self.patterns = np.random.default_rng(0).standard_normal((10, 3, 8, 8))

    def loss(self, net: nn.Module, step: int) -> torch.Tensor:
        """Return the loss of a network on a batch of 32, with its gradients in its parameters."""
        rng = np.random.default_rng(1000 + step)
        labels = rng.integers(0, 10, 32)
        images = self.patterns[labels] + rng.standard_normal((32, 3, 8, 8))
        net.zero_grad()
        loss = F.cross_entropy(net(torch.from_numpy(images).to(self.kind)), torch.from_numpy(labels))
        loss.backward()
        return loss
