"""Hand-written networks over sequences: recurrent, convolutional and attention, and plain multilayer perceptrons."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory.extra_blocks import Residual, RMSNorm, conv_bn

VOCABULARY = 120


class Tagger(nn.Module):
    """Embedding, recurrent layers, linear. kind: "LSTM", "GRU" or "RNN"."""

    def __init__(self, kind: str, *, bidirectional: bool = False, layers: int = 1, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 24)
        self.recurrent = getattr(nn, kind)(24, width, layers, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(width * (2 if bidirectional else 1), 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return tag scores [N, T, 7] of ids int64 [N, T]."""
        result: torch.Tensor = self.out(self.recurrent(self.embed(ids))[0])
        return result


class LastState(nn.Module):
    """A forecaster that reads the last step of a GRU and of an LSTM."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(8, width, batch_first=True)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a forecast [N, 3] of x [N, T, 8]."""
        y, _ = self.gru(x)
        y, _ = self.lstm(y)
        result: torch.Tensor = self.out(y[:, -1])
        return result


class Crnn(nn.Module):
    """Text recognition: convolutions, columns as a sequence, bidirectional LSTM."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(1, width, 3, 2),
            conv_bn(width, 2 * width, 3, 2),
            nn.MaxPool2d((8, 1)),
            conv_bn(2 * width, 48),
        )
        self.recurrent = nn.LSTM(48, 32, batch_first=True, bidirectional=True)
        self.out = nn.Linear(64, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return character scores per column of an image [N, 1, 32, W]."""
        columns = self.features(x).squeeze(2).transpose(1, 2)
        result: torch.Tensor = self.out(self.recurrent(columns)[0]).log_softmax(-1)
        return result


def tcn(width: int = 32) -> nn.Module:
    """Return dilated causal 1-D convolutions with residuals."""

    def block(dilation: int) -> nn.Module:
        return Residual(
            nn.Sequential(
                nn.ConstantPad1d((2 * dilation, 0), 0.0),
                nn.Conv1d(width, width, 3, dilation=dilation),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Conv1d(width, width, 1),
            )
        )

    return nn.Sequential(
        nn.Conv1d(8, width, 1),
        block(1),
        block(2),
        block(4),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


class WaveNet(nn.Module):
    """Gated convolutions: tanh * sigmoid, sums of skipped branches."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.entry = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(3))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a wave of the same length."""
        x = self.entry(x)
        total = torch.zeros_like(x)
        for gate, skip in zip(self.gates, self.skips, strict=True):
            a, b = gate(x).chunk(2, 1)
            y = skip(torch.tanh(a) * torch.sigmoid(b))
            x, total = x + y, total + y
        result: torch.Tensor = self.out(total)
        return result


class FusedQkv(nn.Module):
    """Attention with one matrix for query, key and value, split by chunk, heads by view."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens [N, T, C]."""
        n, t, c = x.shape
        q, k, v = (
            p.view(n, t, self.heads, c // self.heads).transpose(1, 2) for p in self.qkv(x).chunk(3, -1)
        )
        weights = (q @ k.transpose(-1, -2) / (c // self.heads) ** 0.5).softmax(-1)
        result: torch.Tensor = self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return result


class GroupedRotary(nn.Module):
    """Grouped-query attention with rotary positions (halves swapped), keys and values repeated by expand."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.depth = heads, groups, width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, groups * self.depth, bias=False)
        self.v = nn.Linear(width, groups * self.depth, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens [N, T, C]."""
        n, t, c = x.shape
        q = self._rotate(self.q(x).view(n, t, self.heads, self.depth).transpose(1, 2))
        k = self._rotate(self.k(x).view(n, t, self.groups, self.depth).transpose(1, 2))
        v = self.v(x).view(n, t, self.groups, self.depth).transpose(1, 2)
        k, v = (self._repeat(p, n, t) for p in (k, v))
        weights = (q @ k.transpose(-1, -2) / self.depth**0.5).softmax(-1)
        result: torch.Tensor = self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return result

    def _repeat(self, x: torch.Tensor, n: int, t: int) -> torch.Tensor:
        times = self.heads // self.groups
        return (
            x[:, :, None].expand(n, self.groups, times, t, self.depth).reshape(n, self.heads, t, self.depth)
        )

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        half = self.depth // 2
        speed = 100.0 ** (-torch.arange(half) / half)
        angle = torch.arange(x.shape[2])[:, None] * speed
        angle = torch.cat([angle, angle], 1)
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * angle.cos() + turned * angle.sin()


class SwiGlu(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up in one matrix."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same width."""
        gate, up = self.both(x).chunk(2, -1)
        result: torch.Tensor = self.down(F.silu(gate) * up)
        return result


def modern_decoder(width: int = 48) -> nn.Module:
    """Return two blocks of RMSNorm, grouped-query rotary attention and SwiGLU, with an embedding."""
    blocks: list[nn.Module] = []
    for _ in range(2):
        blocks.append(Residual(nn.Sequential(RMSNorm(width), GroupedRotary(width, 6, 2))))
        blocks.append(Residual(nn.Sequential(RMSNorm(width), SwiGlu(width, 2 * width))))
    return nn.Sequential(
        nn.Embedding(VOCABULARY, width), *blocks, RMSNorm(width), nn.Linear(width, VOCABULARY)
    )


def plain_encoder(width: int = 48) -> nn.Module:
    """Return two pre-norm blocks with fused QKV on features [N, T, 16]."""
    blocks: list[nn.Module] = []
    for _ in range(2):
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(width), FusedQkv(width, 4))))
        blocks.append(
            Residual(
                nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width))
            )
        )
    return nn.Sequential(nn.Linear(16, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 6))


def torch_encoder(width: int = 48) -> nn.Module:
    """Return torch's own TransformerEncoder (post-norm) between two linear layers."""
    layer = nn.TransformerEncoderLayer(width, 4, 96, batch_first=True, activation="gelu")
    return nn.Sequential(
        nn.Linear(16, width), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(width, 6)
    )


class SharedEmbedding(nn.Module):
    """A language model whose output matrix is the embedding, with a GRU between."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return scores of the next id [N, T, VOCABULARY]."""
        return F.linear(self.gru(self.embed(ids))[0], self.embed.weight)


class DeepFm(nn.Module):
    """Recommender: embeddings of eight fields, their pairwise products, a deep part, a linear part."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.linear = nn.Embedding(VOCABULARY, 1)
        self.deep = nn.Sequential(
            nn.Linear(8 * width, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return a click probability [N, 1] of ids int64 [N, 8]."""
        fields = self.embed(ids)
        pairs = 0.1 * (fields.sum(1).square() - fields.square().sum(1))
        total = (
            self.deep(fields.flatten(1)) + 0.5 * pairs.sum(1, keepdim=True) + 0.1 * self.linear(ids).sum(1)
        )
        result: torch.Tensor = total.sigmoid()
        return result


class PointNet(nn.Module):
    """Shared 1-D convolutions over points and a maximum over them, global features repeated per point."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(3, width, 1), nn.BatchNorm1d(width), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.BatchNorm1d(2 * width), nn.ReLU())
        self.out = nn.Sequential(nn.Conv1d(3 * width, width, 1), nn.ReLU(), nn.Conv1d(width, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return part scores per point [N, 4, P]."""
        local = self.local(x)
        whole = self.wide(local).amax(2, keepdim=True).expand(-1, -1, x.shape[2])
        result: torch.Tensor = self.out(torch.cat([local, whole], 1))
        return result


class MixtureOfExperts(nn.Module):
    """Four experts, all computed, weighted by a softmax gate; stacked weights and einsum."""

    def __init__(self, width: int = 24, experts: int = 4, inner: int = 32) -> None:
        super().__init__()
        self.entry = nn.Linear(16, width)
        self.gate = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, inner) / width**0.5)
        self.down = nn.Parameter(torch.randn(experts, inner, width) / inner**0.5)
        self.out = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [N, 5] of x [N, 16]."""
        x = self.entry(x)
        hidden = F.relu(torch.einsum("nc,ech->neh", x, self.up))
        answers = torch.einsum("neh,ehc->nec", hidden, self.down)
        result: torch.Tensor = self.out((self.gate(x).softmax(-1)[..., None] * answers).sum(1))
        return result
