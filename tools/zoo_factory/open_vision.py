"""Networks over images of open height and width: windows, patches, folded and unfolded pixels, skips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory.extra_blocks import conv_bn
from zoo_factory.open_attention import HEADS, WIDTH, Block


class SwinBlock(nn.Module):
    """Attention in windows of a padded (and shifted) map with a bias per pair of places, then an MLP."""

    def __init__(self, width: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm, self.norm_two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.bias = nn.Parameter(torch.randn(HEADS, window * window, window * window))
        self.window, self.shift = window, shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [N, H, W, C] after attention and MLP."""
        n, h, w, c = x.shape
        side = self.window
        y = F.pad(self.norm(x), (0, 0, 0, (side - w % side) % side, 0, (side - h % side) % side))
        high, wide = y.shape[1], y.shape[2]
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = y.view(n, high // side, side, wide // side, side, c).permute(0, 1, 3, 2, 4, 5)
        y = self._attend(y.reshape(-1, side * side, c))
        y = y.view(n, high // side, wide // side, side, side, c).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(n, high, wide, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y[:, :h, :w, :]
        result: torch.Tensor = x + self.mlp(self.norm_two(x))
        return result

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended windows x [windows, places, C]."""
        windows, places, c = x.shape
        qkv = self.qkv(x).reshape(windows, places, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q * (c // HEADS) ** -0.5 @ k.transpose(-2, -1) + self.bias).softmax(-1)
        result: torch.Tensor = self.out((weights @ v).transpose(1, 2).reshape(-1, places, c))
        return result


class Swin(nn.Module):
    """One windowed block, and a shifted one when `shift` is given."""

    def __init__(self, shift: int = 0, width: int = WIDTH, window: int = 4) -> None:
        super().__init__()
        shifts = (0, shift) if shift else (0,)
        self.stem, self.norm, self.head = (
            nn.Conv2d(3, width, 2, 2),
            nn.LayerNorm(width),
            nn.Conv2d(width, 5, 1),
        )
        self.blocks = nn.Sequential(*(SwinBlock(width, window, by) for by in shifts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map [N, 5, H/2, W/2]."""
        y = self.norm(self.blocks(self.stem(x).permute(0, 2, 3, 1)))
        result: torch.Tensor = self.head(y.permute(0, 3, 1, 2))
        return result


class Vit(nn.Module):
    """A vision transformer whose table of positions is interpolated to the patches of the image."""

    def __init__(self, mode: str, width: int = WIDTH, patch: int = 8, grid: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token, self.token_place = (nn.Parameter(torch.randn(1, 1, width)) for _ in range(2))
        self.places = nn.Parameter(torch.randn(1, width, grid, grid))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head, self.mode = nn.LayerNorm(width), nn.Linear(width, 10), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores [N, 10]."""
        x = self.patch(x)
        places = F.interpolate(self.places, size=x.shape[2:], mode=self.mode, align_corners=False)
        x = (x + places).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1) + self.token_place, x], 1)
        result: torch.Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return result


class Unshuffle(nn.Module):
    """Pixel unshuffle by view and permute between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(64, 24, 3, padding=1)
        self.three = nn.Conv2d(24, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map [N, 4, H/2, W/2]."""
        x = F.relu(self.one(x))
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(n, c * 4, h // 2, w // 2)
        result: torch.Tensor = self.three(torch.sigmoid(self.two(x)))
        return result


class Shuffle(nn.Module):
    """Pixel shuffle by view and permute between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 48, 3, padding=1)
        self.three = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an image [N, 3, 2H, 2W]."""
        x = self.two(F.relu(self.one(x)))
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, h * 2, w * 2)
        result: torch.Tensor = self.three(F.silu(x))
        return result


class BlurPool(nn.Module):
    """A blur that is the same for every channel: channels are folded into the batch for it."""

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 24, 3, padding=1)
        self.three = nn.Linear(24, 7)
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16)[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [N, 7]."""
        x = torch.sigmoid(self.one(x))
        n, c, h, w = x.shape
        x = F.conv2d(x.reshape(n * c, 1, h, w), self.kernel, stride=2, padding=1)
        x = F.relu(self.two(x.reshape(n, c, x.shape[2], x.shape[3])))
        result: torch.Tensor = self.three(x.mean(dim=(2, 3)))
        return result


class MeanGate(nn.Module):
    """Squeeze-and-excitation and pooling by means over height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 16, 3, 2, act="silu"), conv_bn(16, 24, act="silu"))
        self.squeeze, self.excite, self.out = nn.Linear(24, 8), nn.Linear(8, 24), nn.Linear(24, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [N, 6]."""
        x = self.body(x)
        gate = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        result: torch.Tensor = self.out((x * gate[:, :, None, None]).mean(dim=(2, 3)))
        return result


class UNet(nn.Module):
    """Two levels; maps are resized to the size of the skip they meet. mode: "nearest" or "bilinear"."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.down, self.down_two = conv_bn(3, 16, act="silu"), conv_bn(16, 24, act="silu")
        self.middle = conv_bn(24, 32, act="silu")
        self.up_two, self.up = conv_bn(32 + 24, 24, act="silu"), conv_bn(24 + 16, 16, act="silu")
        self.out, self.mode = nn.Conv2d(16, 2, 1), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map [N, 2, H, W]."""
        one = self.down(x)
        two = self.down_two(F.max_pool2d(one, 2))
        x = self.middle(F.max_pool2d(two, 2))
        x = self.up_two(self._meet(x, two))
        result: torch.Tensor = self.out(self.up(self._meet(x, one)))
        return result

    def _meet(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        corners = False if self.mode == "bilinear" else None
        resized = F.interpolate(x, size=skip.shape[2:], mode=self.mode, align_corners=corners)
        return torch.cat([resized, skip], 1)
