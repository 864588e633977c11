"""Attention over open axes: torch's layers between two linear ones, over a map, and a block to build on."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, HIDDEN = 32, 4, 64
FEATURES, SOURCE_FEATURES, CLASSES = 24, 20, 10


def encoder_layer(batch_first: bool, **more: Any) -> nn.TransformerEncoderLayer:
    """Return torch's encoder layer."""
    return nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=batch_first, **more)


def decoder_layer(batch_first: bool, **more: Any) -> nn.TransformerDecoderLayer:
    """Return torch's decoder layer."""
    return nn.TransformerDecoderLayer(WIDTH, HEADS, HIDDEN, batch_first=batch_first, **more)


class Framed(nn.Module):
    """Linear, layer, linear. keys: what the layer calls the masks that follow the sequence."""

    def __init__(self, layer: nn.Module, *keys: str) -> None:
        super().__init__()
        self.front = nn.Linear(FEATURES, WIDTH)
        self.layer = layer
        self.back = nn.Linear(WIDTH, CLASSES)
        self.keys = keys

    def forward(self, x: torch.Tensor, one: Any = None, two: Any = None) -> torch.Tensor:
        """Return scores [N, T, 10] (or [T, N, 10]) of features x."""
        masks = dict(zip(self.keys, (one, two), strict=False))
        result: torch.Tensor = self.back(self.layer(self.front(x), **masks))
        return result


class FramedTwo(nn.Module):
    """A layer over two sequences, a linear layer in front of each and one behind."""

    def __init__(self, layer: nn.Module, *keys: str) -> None:
        super().__init__()
        self.front = nn.Linear(FEATURES, WIDTH)
        self.front_two = nn.Linear(SOURCE_FEATURES, WIDTH)
        self.layer = layer
        self.back = nn.Linear(WIDTH, CLASSES)
        self.keys = keys

    def forward(self, x: torch.Tensor, y: torch.Tensor, one: Any = None, two: Any = None) -> torch.Tensor:
        """Return scores of the layer called with both sequences."""
        masks = dict(zip(self.keys, (one, two), strict=False))
        result: torch.Tensor = self.back(self.layer(self.front(x), self.front_two(y), **masks))
        return result


class SelfAttention(nn.Module):
    """nn.MultiheadAttention of one sequence. weights: the attention weights are computed too."""

    def __init__(self, batch_first: bool, *keys: str, weights: bool = False) -> None:
        super().__init__()
        self.front = nn.Linear(FEATURES, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        self.back = nn.Linear(WIDTH, CLASSES)
        self.keys, self.weights = keys, weights

    def forward(self, x: torch.Tensor, one: Any = None, two: Any = None) -> torch.Tensor:
        """Return scores of the attended sequence."""
        masks = dict(zip(self.keys, (one, two), strict=False))
        x = self.front(x)
        y, _ = self.attention(x, x, x, need_weights=self.weights, **masks)
        result: torch.Tensor = self.back(y)
        return result


class CrossAttention(nn.Module):
    """nn.MultiheadAttention whose keys and values have widths of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(FEATURES, WIDTH)
        self.keys, self.values = nn.Linear(SOURCE_FEATURES, 28), nn.Linear(SOURCE_FEATURES, 36)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=28, vdim=36)
        self.back = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return scores [T, N, 10] of x [T, N, 24] that looks at memory [S, N, 20]."""
        y, _ = self.attention(self.front(x), self.keys(memory), self.values(memory), need_weights=False)
        result: torch.Tensor = self.back(y)
        return result


class MapAttention(nn.Module):
    """Attention over the H * W places of a map.

    form: "sdpa" (scaled_dot_product_attention), "mha" (nn.MultiheadAttention) or "view" (written out, channels
    in front of places).
    """

    def __init__(self, form: str, width: int = WIDTH) -> None:
        super().__init__()
        self.front, self.norm = nn.Conv2d(3, width, 3, 2, 1), nn.GroupNorm(4, width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True) if form == "mha" else None
        self.q, self.k, self.v, self.o = (
            nn.Identity() if form == "mha" else nn.Conv2d(width, width, 1) for _ in range(4)
        )
        self.back, self.form = nn.Conv2d(width, 5, 3, padding=1), form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map [N, 5, H/2, W/2]."""
        x = F.relu(self.front(x))
        attend = {"sdpa": self._sdpa, "mha": self._mha, "view": self._view}[self.form]
        result: torch.Tensor = self.back(x + attend(self.norm(x)))
        return result

    def _sdpa(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        q, k, v = (
            f(x).flatten(2).transpose(1, 2).reshape(n, h * w, HEADS, c // HEADS).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        result: torch.Tensor = self.o(y.transpose(1, 2).reshape(n, c, h, w))
        return result

    def _mha(self, x: torch.Tensor) -> torch.Tensor:
        assert self.attention is not None
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        y, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        result: torch.Tensor = y.transpose(1, 2).reshape(n, c, h, w)
        return result

    def _view(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        q, k, v = (f(x).view(n, HEADS, c // HEADS, h * w) for f in (self.q, self.k, self.v))
        weights = (q.transpose(-1, -2) @ k * (c // HEADS) ** -0.5).softmax(-1)
        result: torch.Tensor = self.o((v @ weights.transpose(-1, -2)).reshape(n, c, h, w))
        return result


class Block(nn.Module):
    """A transformer block. form: "full", "causal" (by a flag) or "tril" (by a stored mask, cut to the length)."""

    mask: torch.Tensor

    def __init__(self, width: int = WIDTH, form: str = "full", longest: int = 64) -> None:
        super().__init__()
        self.norm, self.norm_two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.form = form
        if form == "tril":
            self.register_buffer("mask", torch.tril(torch.ones(1, 1, longest, longest)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [N, T, C] after attention and MLP."""
        n, t, c = x.shape
        q, k, v = (
            part.view(n, t, HEADS, c // HEADS).transpose(1, 2) for part in self.qkv(self.norm(x)).split(c, 2)
        )
        if self.form == "tril":
            scores = q @ k.transpose(-2, -1) * (c // HEADS) ** -0.5
            y = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf")).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.form == "causal")
        x = x + self.out(y.transpose(1, 2).contiguous().view(n, t, c))
        result: torch.Tensor = x + self.mlp(self.norm_two(x))
        return result
