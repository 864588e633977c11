"""Hand-written image classifiers: one structural idea each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory.extra_blocks import (
    ChannelShuffle,
    Gate,
    LayerNorm2d,
    Residual,
    activation,
    conv_bn,
    head,
    squeeze_excite,
)


def convnext(width: int = 32) -> nn.Module:
    """Return ConvNeXt with channels-last LayerNorm, layer scale, and two stages."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 4),
        LayerNorm2d(width),
        ConvNextBlock(width),
        ConvNextBlock(width),
        LayerNorm2d(width),
        nn.Conv2d(width, 2 * width, 2, 2),
        ConvNextBlock(2 * width),
        ConvNextBlock(2 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(2 * width),
        nn.Linear(2 * width, 10),
    )


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm and MLP on the last axis, layer scale, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image after one block."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.shrink(F.gelu(self.grow(y)))
        return x + y.permute(0, 3, 1, 2)


def efficientnet(width: int = 16) -> nn.Module:
    """Return inverted residuals with SiLU and squeeze-and-excitation."""

    def block(cin: int, cout: int, stride: int) -> nn.Module:
        inner = 4 * cin
        body = nn.Sequential(
            conv_bn(cin, inner, 1, act="silu"),
            conv_bn(inner, inner, 3, stride, groups=inner, act="silu"),
            squeeze_excite(inner),
            conv_bn(inner, cout, 1, act=""),
        )
        return Residual(body) if stride == 1 and cin == cout else body

    return nn.Sequential(
        conv_bn(3, width, 3, 2, act="silu"),
        block(width, 24, 2),
        block(24, 24, 1),
        block(24, 40, 2),
        block(40, 40, 1),
        conv_bn(40, 128, 1, act="silu"),
        head(128),
    )


def mlp_mixer(width: int = 48, patch: int = 8, size: int = 64) -> nn.Module:
    """Return an MLP-Mixer with two blocks."""
    tokens = (size // patch) ** 2
    return nn.Sequential(
        _Patches(width, patch),
        _Mixer(tokens, width),
        _Mixer(tokens, width),
        nn.LayerNorm(width),
        _TokenMean(),
        nn.Linear(width, 10),
    )


class _Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens [N, T, C]."""
        return self.embed(x).flatten(2).transpose(1, 2)


class _TokenMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean over tokens."""
        return x.mean(1)


class _Mixer(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.tokens = nn.Sequential(nn.Linear(tokens, 40), nn.GELU(), nn.Linear(40, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens after mixing over tokens and over channels."""
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        result: torch.Tensor = x + self.channels(self.norms[1](x))
        return result


def shufflenet_v1(width: int = 48, groups: int = 3) -> nn.Module:
    """Return ShuffleNet v1 units: grouped convolution, shuffle, depthwise, grouped convolution."""

    def unit() -> nn.Module:
        inner = width // 2
        return nn.Sequential(
            Residual(
                nn.Sequential(
                    conv_bn(width, inner, 1, groups=groups),
                    ChannelShuffle(groups),
                    conv_bn(inner, inner, 3, groups=inner, act=""),
                    conv_bn(inner, width, 1, groups=groups, act=""),
                )
            ),
            nn.ReLU(),
        )

    return nn.Sequential(conv_bn(3, width, 3, 2), unit(), unit(), unit(), head(width))


def resnet_groupnorm(width: int = 32) -> nn.Module:
    """Return a residual network with GroupNorm."""

    def block(channels: int) -> nn.Module:
        return nn.Sequential(
            Residual(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1),
                    nn.GroupNorm(8, channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, 3, padding=1),
                    nn.GroupNorm(8, channels),
                )
            ),
            nn.ReLU(),
        )

    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1),
        nn.GroupNorm(4, width),
        block(width),
        nn.Conv2d(width, 64, 3, 2, 1),
        block(64),
        head(64),
    )


def preact_resnet(width: int = 24) -> nn.Module:
    """Return a pre-activation ResNet: BN and activation before the convolution, BN after the last sum."""

    def block(act: str) -> nn.Module:
        return Residual(
            nn.Sequential(
                nn.BatchNorm2d(width),
                activation(act),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                activation(act),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
            )
        )

    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1),
        block("relu"),
        block("leaky"),
        block("elu"),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        head(width),
    )


def prelu_face(width: int = 24) -> nn.Module:
    """Return a face-embedding network: PReLU, flatten into a linear layer, BatchNorm1d, L2 norm."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1),
        nn.PReLU(width),
        Residual(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.PReLU(width),
                nn.Conv2d(width, width, 3, padding=1),
                nn.PReLU(width),
            )
        ),
        nn.Conv2d(width, 32, 3, 4, 1),
        nn.PReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 64),
        nn.BatchNorm1d(64),
        _UnitLength(),
    )


class _UnitLength(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x / ||x||."""
        return F.normalize(x)


def repvgg_open(width: int = 24) -> nn.Module:
    """Return RepVGG in its training form: 3x3 + 1x1 + BN branches summed."""
    return nn.Sequential(conv_bn(3, width, 3, 2), _Branches(width), _Branches(width), head(width))


class _Branches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.three = conv_bn(width, width, 3, act="")
        self.one = conv_bn(width, width, 1, act="")
        self.identity = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu of the three branches' sum."""
        return F.relu(self.three(x) + self.one(x) + self.identity(x))


def densenet(width: int = 16, growth: int = 12) -> nn.Module:
    """Return a dense block with bottlenecks and a transition."""
    layers: list[nn.Module] = [conv_bn(3, width, 3, 2)]
    for _ in range(4):
        layers.append(_Dense(width, growth))
        width += growth
    return nn.Sequential(*layers, nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2), head(width // 2))


class _Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv_bn(width, 4 * growth, 1),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x with `growth` new channels."""
        return torch.cat([x, self.body(x)], 1)


def cbam(width: int = 32) -> nn.Module:
    """Return channel attention (average and maximum pooling, shared MLP) and spatial attention."""
    return nn.Sequential(conv_bn(3, width, 3, 2), _Cbam(width), conv_bn(width, 48), _Cbam(48), head(48))


class _Cbam(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image weighted by channel, then by place."""
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = x * gate.sigmoid()[:, :, None, None]
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.spatial(both).sigmoid()


def eca_coordinate(width: int = 32) -> nn.Module:
    """Return efficient channel attention (a 1-D convolution over channels) and coordinate attention."""
    return nn.Sequential(
        conv_bn(3, width, 3, 2), Gate(_Eca()), conv_bn(width, 48, act="hswish"), _Coordinate(48), head(48)
    )


class _Eca(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a weight per channel [N, C, 1, 1]."""
        y = self.conv(x.mean((2, 3))[:, None])
        return y.sigmoid().transpose(1, 2)[..., None]


class _Coordinate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = conv_bn(width, 8, 1, act="hswish")
        self.rows = nn.Conv2d(8, width, 1)
        self.columns = nn.Conv2d(8, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image weighted by row and by column."""
        high = x.shape[2]
        both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = self.squeeze(both).split([high, x.shape[3]], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()


def non_local(width: int = 32) -> nn.Module:
    """Return a non-local block (attention over places with 1x1 convolutions)."""
    return nn.Sequential(conv_bn(3, width, 3, 4), _NonLocal(width), head(width))


class _NonLocal(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(width, width // 2, 1) for _ in range(3))
        self.out = nn.Conv2d(width // 2, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x + attention(x)."""
        n, _, h, w = x.shape
        q, k, v = (f(x).flatten(2) for f in (self.query, self.key, self.value))
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        y = (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w)
        result: torch.Tensor = x + self.out(y)
        return result


def maxout(width: int = 32) -> nn.Module:
    """Return layers whose channels are the larger of two."""
    return nn.Sequential(
        nn.Conv2d(3, 2 * width, 3, 2, 1), _Maxout(), nn.Conv2d(width, 64, 3, 2, 1), _Maxout(), head(32)
    )


class _Maxout(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the elementwise maximum of the two halves of the channels."""
        a, b = x.chunk(2, 1)
        return torch.maximum(a, b)


def siamese(width: int = 24) -> nn.Module:
    """Return one branch applied to two halves of a six-channel image, and their difference."""
    return _Siamese(width)


class _Siamese(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv_bn(3, width, 3, 2), conv_bn(width, 48, 3, 2), head(48, 32))
        self.last = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a similarity [N, 1] of x[:, :3] and x[:, 3:]."""
        result: torch.Tensor = self.last((self.branch(x[:, :3]) - self.branch(x[:, 3:])).abs())
        return result


def ghost(width: int = 32) -> nn.Module:
    """Return ghost modules: half of the channels are cheap depthwise copies of the other half."""
    return nn.Sequential(
        conv_bn(3, width, 3, 2), _Ghost(width, 48), _Ghost(48, 64), squeeze_excite(64), head(64)
    )


class _Ghost(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.primary = conv_bn(cin, cout // 2, 1)
        self.cheap = conv_bn(cout // 2, cout // 2, 3, groups=cout // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both halves side by side."""
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


def split_attention(width: int = 32, radix: int = 2) -> nn.Module:
    """Return ResNeSt-like split attention: softmax over splits of the channels."""
    return nn.Sequential(conv_bn(3, width, 3, 2), _Split(width, radix), head(width))


class _Split(nn.Module):
    def __init__(self, width: int, radix: int) -> None:
        super().__init__()
        self.radix = radix
        self.conv = conv_bn(width, width * radix, 3, groups=radix)
        self.one = nn.Conv2d(width, 16, 1)
        self.two = nn.Conv2d(16, width * radix, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the splits summed with weights that add up to one."""
        n, c, h, w = x.shape
        y = self.conv(x).reshape(n, self.radix, c, h, w)
        gate = self.two(F.relu(self.one(y.sum(1).mean((2, 3), keepdim=True))))
        return (y * gate.reshape(n, self.radix, c, 1, 1).softmax(1)).sum(1)
