"""Sequences of open length: raw audio, token decoders, recurrent nets, and axes that are merged and split again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory.open_attention import FEATURES, WIDTH, Block
from zoo_factory.open_case import VOCABULARY


class Gpt(nn.Module):
    """Embeddings, two blocks, scores. tied: the scores use the token embedding."""

    def __init__(self, form: str, *, tied: bool = False, longest: int = 64) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(longest, WIDTH)
        self.blocks = nn.Sequential(Block(form=form, longest=longest), Block(form=form, longest=longest))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return token scores [N, T, 50] of ids int64 [N, T]."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
        result: torch.Tensor = self.head(self.norm(self.blocks(x)))
        return result


class Recurrent(nn.Module):
    """Linear, recurrent layers, linear. kind: "LSTM" or "GRU"."""

    def __init__(self, kind: str, *, bidirectional: bool = False, layers: int = 1) -> None:
        super().__init__()
        self.front = nn.Linear(FEATURES, 20)
        self.recurrent = getattr(nn, kind)(20, 16, layers, batch_first=True, bidirectional=bidirectional)
        self.back = nn.Linear(32 if bidirectional else 16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [N, T, 7] of features [N, T, 24]."""
        result: torch.Tensor = self.back(torch.tanh(self.recurrent(F.relu(self.front(x)))[0]))
        return result


class FlattenUnflatten(nn.Module):
    """Batch and length are merged, the channels are split into groups, and both are undone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(12, 24), nn.Linear(6, 16), nn.Linear(64, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, T, 9] of x [N, T, 12]."""
        n, t, _ = x.shape
        y = F.gelu(self.one(x)).flatten(0, 1).unflatten(1, (4, 6))
        y = torch.tanh(self.two(y)).flatten(1)
        result: torch.Tensor = self.three(y).unflatten(0, (n, t))
        return result


class Wav2Vec(nn.Module):
    """Seven convolutions of total stride 320 over raw audio, a positional convolution, a transformer block.

    norm: "group" (one GroupNorm behind the first convolution) or "layer" (a LayerNorm behind each).
    """

    LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))

    def __init__(self, norm: str, width: int = 24) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(width if i else 1, width, kernel, stride, bias=norm == "layer")
            for i, (kernel, stride) in enumerate(self.LAYERS)
        )
        layered = norm == "layer"
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in self.LAYERS] if layered else [])
        self.first = nn.Identity() if layered else nn.GroupNorm(width, width)
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, WIDTH)
        self.place = nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=4)
        self.block, self.head = Block(), nn.Linear(WIDTH, 12)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """Return scores [N, T, 12] of wave [N, samples]."""
        x = wave[:, None]
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms:
                x = self.norms[i](x.transpose(1, 2)).transpose(1, 2)
            elif i == 0:
                x = self.first(x)
            x = F.gelu(x)
        x = self.project(self.norm(x.transpose(1, 2)))
        x = x + F.gelu(self.place(x.transpose(1, 2))).transpose(1, 2)
        result: torch.Tensor = self.head(self.block(x))
        return result


class Mel(nn.Module):
    """A short-time Fourier transform as a convolution, mel filters, logarithm, normalisation over time, a small CNN."""

    basis: torch.Tensor
    mel: torch.Tensor

    def __init__(self, window: int = 256, hop: int = 128, mels: int = 20) -> None:
        super().__init__()
        bins = window // 2 + 1
        turn = 2 * torch.pi * torch.arange(bins)[:, None] * torch.arange(window) / window
        basis = torch.cat([torch.cos(turn), -torch.sin(turn)]) * torch.hann_window(window)
        self.register_buffer("basis", basis[:, None].float())
        centre = torch.linspace(3, bins - 4, mels)[:, None]
        self.register_buffer("mel", F.relu(1 - (torch.arange(bins) - centre).abs() / 6) + 0.001)
        self.hop, self.bins = hop, bins
        self.one, self.two = nn.Conv1d(mels, 32, 3, padding=1), nn.Conv1d(32, 24, 3, 2, 1)
        self.norm, self.head = nn.GroupNorm(4, 32), nn.Linear(24, 8)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """Return scores [N, 8] of wave [N, samples]."""
        spectrum = F.conv1d(wave[:, None], self.basis, stride=self.hop)
        real, imaginary = spectrum[:, : self.bins], spectrum[:, self.bins :]
        m = torch.log(self.mel @ (real * real + imaginary * imaginary) + 1e-3)
        m = (m - m.mean(2, keepdim=True)) / (m.var(2, keepdim=True, unbiased=False) + 1e-2).sqrt()
        x = F.relu(self.two(F.relu(self.norm(self.one(m)))))
        result: torch.Tensor = self.head(x.mean(2))
        return result
