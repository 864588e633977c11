"""A small residual network, as one writes it in PyTorch. Widths are arguments, so that a smaller one can be made."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions beside a connection around them."""

    def __init__(self, outer: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(outer, inner, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class Network(nn.Module):
    """Images [N, 3, 32, 32] to scores [N, classes]."""

    def __init__(self, outer: int = 48, inner: tuple[int, ...] = (64, 64), classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, outer, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.blocks = nn.Sequential(*(Block(outer, width) for width in inner))
        self.head = nn.Linear(outer, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(image))))
        return self.head(x.mean((2, 3)))
