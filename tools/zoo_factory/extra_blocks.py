"""Building blocks that several hand-written networks share."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn(
    cin: int, cout: int, k: int = 3, stride: int = 1, groups: int = 1, act: str = "relu"
) -> nn.Sequential:
    """Return convolution without bias, BatchNorm, activation ("" for none)."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    if act:
        layers.append(activation(act))
    return nn.Sequential(*layers)


def activation(name: str) -> nn.Module:
    """Return an activation layer by its short name."""
    layers: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "silu": nn.SiLU(),
        "gelu": nn.GELU(),
        "hswish": nn.Hardswish(),
        "leaky": nn.LeakyReLU(0.1),
        "mish": nn.Mish(),
        "elu": nn.ELU(),
    }
    return layers[name]


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        result: torch.Tensor = x + self.inner(x)
        return result


class Gate(nn.Module):
    """x * gate(x): squeeze-and-excitation and its relatives."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product."""
        result: torch.Tensor = x * self.gate(x)
        return result


def squeeze_excite(width: int, reduce: int = 4) -> Gate:
    """Return a squeeze-and-excitation block with convolutions of size 1."""
    return Gate(
        nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduce, 1),
            nn.ReLU(),
            nn.Conv2d(width // reduce, width, 1),
            nn.Sigmoid(),
        )
    )


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x float32 [N, C, H, W] with channel g * C/G + i at i * G + g."""
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of an image, written out as it is in many restoration networks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised image."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight * (x - mean) / (variance + 1e-6).sqrt() + self.bias


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tokens."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def head(width: int, classes: int = 10) -> nn.Sequential:
    """Return global pooling and a linear classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
