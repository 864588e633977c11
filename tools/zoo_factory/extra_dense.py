"""Hand-written networks with dense outputs: segmentation, restoration, generation, detection necks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory.extra_blocks import LayerNorm2d, Residual, conv_bn


def _double(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(cin, cout), conv_bn(cout, cout))


class UNet(nn.Module):
    """U-Net of three levels; up by ConvTranspose ("transpose") or by bilinear Resize ("bilinear")."""

    def __init__(self, up: str = "transpose", width: int = 16, cin: int = 3, cout: int = 2) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(_double(a, b) for a, b in zip((cin, *widths), widths, strict=False))
        self.middle = _double(widths[-1], 8 * width)
        pairs = list(zip((8 * width, *widths[:0:-1]), widths[::-1], strict=True))
        if up == "transpose":
            self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        else:
            self.up = nn.ModuleList(
                nn.Sequential(
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(a, b, 1)
                )
                for a, b in pairs
            )
        self.join = nn.ModuleList(_double(2 * b, b) for _, b in pairs)
        self.out = nn.Conv2d(width, cout, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one map per class at the input's size."""
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([kept.pop(), up(x)], 1))
        result: torch.Tensor = self.out(x)
        return result


class StackedUnets(nn.Module):
    """Two U-Nets one after the other, the second reads the image and the first's answer; both answers leave."""

    def __init__(self) -> None:
        super().__init__()
        self.first = UNet("transpose", 12, 3, 4)
        self.second = UNet("bilinear", 12, 7, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps of both."""
        a = self.first(x)
        return a, self.second(torch.cat([x, a], 1))


class UNet3d(nn.Module):
    """U-Net for volumes with InstanceNorm and LeakyReLU."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def block(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv3d(cin, cout, 3, padding=1), nn.InstanceNorm3d(cout, affine=True), nn.LeakyReLU(0.01)
            )

        self.one, self.two = block(1, width), block(width, 2 * width)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.join = block(2 * width, width)
        self.out = nn.Conv3d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class maps of a volume."""
        a = self.one(x)
        b = self.two(F.max_pool3d(a, 2))
        result: torch.Tensor = self.out(self.join(torch.cat([self.up(b), a], 1)))
        return result


class Carn(nn.Module):
    """Cascading residual network for super-resolution: concatenations of all earlier answers, pixel shuffle."""

    def __init__(self, width: int = 24, blocks: int = 3, scale: int = 2) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Cascade(width) for _ in range(blocks))
        self.joins = nn.ModuleList(nn.Conv2d(width * (i + 2), width, 1) for i in range(blocks))
        self.up = nn.Sequential(
            nn.Conv2d(width, width * scale**2, 3, padding=1), nn.ReLU(), nn.PixelShuffle(scale)
        )
        self.exit = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image at twice the size."""
        x = y = kept = self.entry(x)
        for block, join in zip(self.blocks, self.joins, strict=True):
            kept = torch.cat([kept, block(y)], 1)
            y = join(kept)
        result: torch.Tensor = self.exit(self.up(y + x))
        return result


class _Cascade(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Residual(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1, groups=4),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 1),
                )
            )
            for _ in range(2)
        )
        self.joins = nn.ModuleList(nn.Conv2d(width * (i + 2), width, 1) for i in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the cascade's answer."""
        kept = x
        for block, join in zip(self.blocks, self.joins, strict=True):
            kept = torch.cat([kept, F.relu(block(x))], 1)
            x = join(kept)
        return x


class NafNet(nn.Module):
    """Restoration blocks with LayerNorm over channels, chunk gates and simple channel attention."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(_NafBlock(width), nn.Conv2d(width, 2 * width, 2, 2), _NafBlock(2 * width))
        self.up = nn.Sequential(
            nn.Conv2d(2 * width, 4 * width, 1, bias=False), nn.PixelShuffle(2), _NafBlock(width)
        )
        self.exit = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the restored image."""
        y = self.entry(x)
        result: torch.Tensor = x + self.exit(self.up(self.blocks(y)) + y)
        return result


class _NafBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.grow = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attend = nn.Conv2d(width, width, 1)
        self.shrink = nn.Conv2d(width, width, 1)
        self.grow2, self.shrink2 = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image after one block."""
        a, b = self.depthwise(self.grow(self.norm1(x))).chunk(2, 1)
        y = a * b
        y = self.shrink(y * self.attend(y.mean((2, 3), keepdim=True)))
        x = x + y * self.beta
        a, b = self.grow2(self.norm2(x)).chunk(2, 1)
        result: torch.Tensor = x + self.shrink2(a * b) * self.gamma
        return result


def generator(noise: int = 32, width: int = 16) -> nn.Module:
    """Return a DCGAN generator: ConvTranspose, BN, ReLU, Tanh."""
    return nn.Sequential(
        nn.ConvTranspose2d(noise, 4 * width, 4, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, 2 * width, 4, 2, 1, groups=2 * width),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, groups=2),
        nn.ReLU(),
        nn.Conv2d(width, 3, 3, padding=1),
        nn.Tanh(),
    )


def style_transfer(width: int = 16) -> nn.Module:
    """Return a style network: reflection padding, InstanceNorm, residuals, nearest upsampling."""

    def conv(cin: int, cout: int, k: int, stride: int = 1) -> list[nn.Module]:
        return [
            nn.ReflectionPad2d(k // 2),
            nn.Conv2d(cin, cout, k, stride),
            nn.InstanceNorm2d(cout, affine=True),
        ]

    def block(channels: int) -> nn.Module:
        return Residual(nn.Sequential(*conv(channels, channels, 3), nn.ReLU(), *conv(channels, channels, 3)))

    return nn.Sequential(
        *conv(3, width, 9),
        nn.ReLU(),
        *conv(width, 2 * width, 3, 2),
        nn.ReLU(),
        block(2 * width),
        block(2 * width),
        nn.Upsample(scale_factor=2, mode="nearest"),
        *conv(2 * width, width, 3),
        nn.ReLU(),
        nn.ReflectionPad2d(4),
        nn.Conv2d(width, 3, 9),
    )


class Vae(nn.Module):
    """Convolutional autoencoder: flatten to a code, unflatten, ConvTranspose."""

    def __init__(self, width: int = 16, code: int = 24) -> None:
        super().__init__()
        self.width = width
        self.encoder = nn.Sequential(conv_bn(3, width, 3, 4), conv_bn(width, 2 * width, 3, 4), nn.Flatten())
        self.mean = nn.Linear(2 * width * 16, code)
        self.grow = nn.Linear(code, 2 * width * 16)
        self.decoder = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 4),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, 4),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image and its code."""
        code = self.mean(self.encoder(x))
        return self.decoder(self.grow(code).view(-1, 2 * self.width, 4, 4)), code


class Hourglass(nn.Module):
    """A recursive hourglass with sums over skipped branches and pixel unshuffle at the entry."""

    def __init__(self, width: int = 24, depth: int = 3) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.PixelUnshuffle(2), conv_bn(12, width))
        self.sides = nn.ModuleList(conv_bn(width, width) for _ in range(depth))
        self.downs = nn.ModuleList(conv_bn(width, width, 3, 2) for _ in range(depth))
        self.ups = nn.ModuleList(conv_bn(width, width) for _ in range(depth))
        self.out = nn.Conv2d(width, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return five heat maps at half of the input's size."""
        x = self.entry(x)
        kept = []
        for side, down in zip(self.sides, self.downs, strict=True):
            kept.append(side(x))
            x = down(x)
        for up in self.ups:
            x = kept.pop() + F.interpolate(up(x), scale_factor=2, mode="nearest")
        result: torch.Tensor = self.out(x)
        return result


class _C3(nn.Module):
    """Cross-stage partial block with SiLU: split by two convolutions (v5) or by chunk (v8)."""

    def __init__(self, cin: int, cout: int, *, chunk: bool, shortcut: bool) -> None:
        super().__init__()
        half = cout // 2
        self.chunk = chunk
        self.one = conv_bn(cin, cout if chunk else half, 1, act="silu")
        self.side = nn.Identity() if chunk else conv_bn(cin, half, 1, act="silu")
        block = nn.Sequential(conv_bn(half, half, act="silu"), conv_bn(half, half, act="silu"))
        self.block = Residual(block) if shortcut else block
        self.two = conv_bn((3 if chunk else 2) * half, cout, 1, act="silu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's answer."""
        if self.chunk:
            a, b = self.one(x).chunk(2, 1)
            parts = [a, b, self.block(b)]
        else:
            parts = [self.block(self.one(x)), self.side(x)]
        result: torch.Tensor = self.two(torch.cat(parts, 1))
        return result


class Yolo(nn.Module):
    """Backbone, pooling pyramid, feature pyramid with path aggregation, and a dense head per level."""

    def __init__(self, *, chunk: bool, width: int = 16, anchors: int = 3, decode: bool = False) -> None:
        super().__init__()
        w = width
        self.decode, self.anchors = decode, anchors
        self.stem = nn.Sequential(conv_bn(3, w, 3, 2, act="silu"), conv_bn(w, 2 * w, 3, 2, act="silu"))
        self.b3 = nn.Sequential(
            conv_bn(2 * w, 4 * w, 3, 2, act="silu"), self._block(4 * w, 4 * w, chunk, True)
        )
        self.b4 = nn.Sequential(
            conv_bn(4 * w, 8 * w, 3, 2, act="silu"), self._block(8 * w, 8 * w, chunk, True)
        )
        self.b5 = nn.Sequential(conv_bn(8 * w, 8 * w, 3, 2, act="silu"), _Pyramid(8 * w))
        self.n4 = self._block(16 * w, 4 * w, chunk, False)
        self.n3 = self._block(8 * w, 4 * w, chunk, False)
        self.d3 = conv_bn(4 * w, 4 * w, 3, 2, act="silu")
        self.p4 = self._block(8 * w, 4 * w, chunk, False)
        self.d4 = conv_bn(4 * w, 4 * w, 3, 2, act="silu")
        self.p5 = self._block(12 * w, 8 * w, chunk, False)
        self.heads = nn.ModuleList(nn.Conv2d(c, anchors * 9, 1) for c in (4 * w, 4 * w, 8 * w))

    @staticmethod
    def _block(cin: int, cout: int, chunk: bool, shortcut: bool) -> nn.Module:
        return _C3(cin, cout, chunk=chunk, shortcut=shortcut)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return raw maps per level, or with `decode` all boxes of all levels in one tensor."""
        c3 = self.b3(self.stem(x))
        c4 = self.b4(c3)
        c5 = self.b5(c4)
        n4 = self.n4(torch.cat([F.interpolate(c5, scale_factor=2.0), c4], 1))
        n3 = self.n3(torch.cat([F.interpolate(n4, scale_factor=2.0), c3], 1))
        p4 = self.p4(torch.cat([self.d3(n3), n4], 1))
        p5 = self.p5(torch.cat([self.d4(p4), c5], 1))
        maps = [head(p) for head, p in zip(self.heads, (n3, p4, p5), strict=True)]
        if not self.decode:
            return maps
        n = x.shape[0]
        boxes = [m.reshape(n, self.anchors, 9, -1).permute(0, 1, 3, 2).reshape(n, -1, 9) for m in maps]
        return [torch.cat(boxes, 1).sigmoid()]


class _Pyramid(nn.Module):
    """Spatial pyramid pooling, fast: three max pools in a row, concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = conv_bn(width, width // 2, 1, act="silu")
        self.two = conv_bn(2 * width, width, 1, act="silu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image seen at four scales."""
        parts = [self.one(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        result: torch.Tensor = self.two(torch.cat(parts, 1))
        return result


class BiFpn(nn.Module):
    """Two rounds of weighted feature fusion with depthwise separable convolutions, as in EfficientDet."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.backbone = nn.ModuleList(
            conv_bn(a, b, 3, 2, act="silu") for a, b in ((3, 16), (16, 32), (32, 48))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (16, 32, 48))
        self.fuse = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1, groups=width),
                conv_bn(width, width, 1, act=""),
            )
            for _ in range(4)
        )
        self.weights = nn.Parameter(torch.ones(4, 2))
        self.out = nn.Conv2d(width, 8, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return one map per level."""
        levels = []
        for block, lateral in zip(self.backbone, self.lateral, strict=True):
            x = block(x)
            levels.append(lateral(x))
        weights = F.relu(self.weights)
        weights = weights / (weights.sum(1, keepdim=True) + 1e-4)
        p3, p4, p5 = levels
        p4 = self.fuse[0](weights[0, 0] * p4 + weights[0, 1] * F.interpolate(p5, scale_factor=2.0))
        p3 = self.fuse[1](weights[1, 0] * p3 + weights[1, 1] * F.interpolate(p4, scale_factor=2.0))
        p4 = self.fuse[2](weights[2, 0] * p4 + weights[2, 1] * F.max_pool2d(p3, 2))
        p5 = self.fuse[3](weights[3, 0] * p5 + weights[3, 1] * F.max_pool2d(p4, 2))
        return [self.out(p) for p in (p3, p4, p5)]
