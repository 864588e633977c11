"""PyTorch's side of `check`: runs where torch and torchvision are.

python -m paper_six.modules NETWORK small|large|28 FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from zoo_factory.torch_export import define_missing_ops

_LIBRARY = define_missing_ops()

import torchvision  # noqa: E402  (needs what was defined above)

CONSTANTS = ("dropout.", "every_second.", "sub_mean", "add_mean")
ENDS = (".shortcut.pads",)
LEAST = 2000


def main(name: str, size: str, folder: str) -> None:
    """Print a line of JSON: largest difference of the largest output, numbers of parameters, difference of spreads."""
    torch.manual_seed(0)
    place = Path(folder)
    with np.load(place / "ours.npz") as file:
        ours = {
            key.removeprefix("p|"): torch.from_numpy(file[key]) for key in file.files if key.startswith("p|")
        }
        x, y = torch.from_numpy(file["x"]), file["y"]
    ours = {k: v for k, v in ours.items() if not k.startswith(CONSTANTS) and not k.endswith(ENDS)}
    module = made(name, size).eval()
    first = json.loads((place / "first.json").read_text(encoding="utf-8"))
    state = module.state_dict()
    spread = max(
        (abs(first[key] / float(state[key].std()) - 1) for key in ours if is_drawn(state[key])), default=None
    )
    for key, value in ours.items():
        if value.ndim == 2 and value.shape != state[key].shape:  # MatMul reads [in, out]
            ours[key] = value.T
    count = sum(p.numel() for p in module.parameters())
    own = sum(value.numel() for key, value in ours.items() if "running" not in key)
    missing = module.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys, missing
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys), missing
    with torch.no_grad():
        error = float(np.abs(module(x).numpy() - y).max() / np.abs(y).max())
    print(json.dumps({"error": error, "parameters": [own, count], "spread": spread}))


def is_drawn(parameter: torch.Tensor) -> bool:
    """Say whether a parameter begins with so many random numbers that their spread tells the distribution."""
    return parameter.ndim > 1 and parameter.numel() >= LEAST


def made(name: str, size: str) -> nn.Module:
    """Return a network as its authors' code makes it."""
    large = size == "large"
    if name in OWN:
        return OWN[name](large, 1 if size == "28" else 3)
    theirs = {"convnext_t": "convnext_tiny"}.get(name, name)
    module = torchvision.models.get_model(theirs, weights=None, num_classes=1000 if large else 10)
    return module if large else for_small_images(module, name)


def for_small_images(module: nn.Module, name: str) -> nn.Module:
    """Return the network with the first and last layers that OTO's experiments on CIFAR have."""
    if name.startswith("resnet"):
        module.conv1, module.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.reset_parameters()
    elif name.startswith("vgg"):
        module.avgpool = nn.AdaptiveAvgPool2d(1)
        for place, (cin, cout) in {0: (512, 512), 3: (512, 512), 6: (512, 10)}.items():
            module.classifier[place] = nn.Linear(cin, cout)
    elif name.startswith("densenet"):
        module.features.conv0 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(module.features.conv0.weight)
        module.features.pool0 = nn.Identity()
    else:
        module.features[0][0] = nn.Conv2d(3, 96, 2, 2)
        nn.init.trunc_normal_(module.features[0][0].weight, std=0.02)
    return module


class Residual(nn.Module):
    """A block of ResNet for CIFAR; the shortcut has no parameters."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.stride, self.new = stride, cout - cin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(block(x) + shortcut(x))."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet of 6 n + 2 layers."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        cin = 16
        for stage, width in enumerate((16, 32, 64), 1):
            blocks = [
                Residual(cin if not i else width, width, 2 if stage > 1 and not i else 1) for i in range(n)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            cin = width
        self.linear = nn.Linear(64, 10)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def unit(*layers: nn.Module) -> nn.Module:
    """Return layers under the name that CARN's code gives them."""
    module = nn.Module()
    module.body = nn.Sequential(*layers)
    return module


class Cascade(nn.Module):
    """What CARN joins: three blocks, or one that runs three times, and 1x1 convolutions over all so far."""

    def __init__(self, blocks: list[nn.Module], width: int = 64) -> None:
        super().__init__()
        for index, block in enumerate(blocks, 1):
            self.add_module(f"b{index}", block)
        for index in (1, 2, 3):
            self.add_module(f"c{index}", unit(nn.Conv2d((index + 1) * width, width, 1), nn.ReLU()))
        self.count = len(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last 1x1 convolution."""
        joined = y = x
        for index in (1, 2, 3):
            block = self.get_submodule(f"b{min(index, self.count)}")
            new = block(y) if isinstance(block, Cascade) else F.relu(block.body(y) + y)
            joined = torch.cat([joined, new], 1)
            y = self.get_submodule(f"c{index}").body(joined)
        return y


class Carn(Cascade):
    """CARN x2 with sub-pixel convolution."""

    def __init__(self, groups: int) -> None:
        super().__init__(
            [Cascade([self.block(groups) for _ in range(3 if groups == 1 else 1)]) for _ in range(3)]
        )
        self.entry, self.exit = nn.Conv2d(3, 64, 3, 1, 1), nn.Conv2d(64, 3, 3, 1, 1)
        self.upsample = nn.Module()
        up = unit(nn.Conv2d(64, 256, 3, 1, 1, groups=groups), nn.ReLU(), nn.PixelShuffle(2))
        self.upsample.add_module("up", up)

    @staticmethod
    def block(groups: int) -> nn.Module:
        """Return a residual block."""
        layers = [
            nn.Conv2d(64, 64, 3, 1, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1, groups=groups),
        ]
        return unit(*layers) if groups == 1 else unit(*layers, nn.ReLU(), nn.Conv2d(64, 64, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the enlarged image."""
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(3, 1, 1)
        return self.exit(self.upsample.up.body(super().forward(self.entry(x - mean)))) + mean


def ready(name: str, channels: int) -> list[tuple[str, nn.Module]]:
    """Return BatchNormalization and ReLU."""
    return [(f"bn{name}", nn.BatchNorm2d(channels)), (f"relu{name}", nn.ReLU())]


def named(layers: list[tuple[str, nn.Module]]) -> nn.Sequential:
    """Return layers one after another, by name."""
    module = nn.Sequential()
    for name, layer in layers:
        module.add_module(name, layer)
    return module


class UNet(nn.Module):
    """A U-Net of SUNet."""

    def __init__(self, cin: int, width: int, levels: int, size: int, f: int = 64) -> None:
        super().__init__()
        self.widens = cin != width
        if self.widens:
            self.bn = named(ready("0", cin))
            self.upsample = named([("conv0", nn.Conv2d(cin, width, 1))])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            first = [("conv0", nn.Conv2d(cin, f, 1))] if not level else []
            if first and not self.widens:
                first = ready("0", cin) + first
            down = [*first, *ready("1", f), ("conv1", nn.Conv2d(f, f, 3, 2, 1)), *ready("2", f)]
            self.down.append(named([*down, ("conv2", nn.Conv2d(f, f, 3, 1, 1))]))
            below = f if level == levels - 1 else 2 * f
            back = nn.ConvTranspose2d(below, f, 3, 2, 1, output_padding=1 - size % 2)
            up = [
                *ready("0", below),
                ("deconv0", back),
                *ready("1", f),
                ("deconv1", nn.Conv2d(f, f, 3, 1, 1)),
            ]
            last = [] if level else [*ready("2", f), ("conv2", nn.Conv2d(f, width, 1))]
            self.up.append(named(up + last))
            size = -(-size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x + what went down and up."""
        seen = [self.bn(x) if self.widens else x]
        for down in self.down:
            seen.append(down(seen[-1]))
        y = seen[-1]
        for level in reversed(range(len(self.up))):
            y = self.up[level](y)
            if level:
                y = torch.cat([y, seen[level]], 1)
        return y + (self.upsample(seen[0]) if self.widens else seen[0])


class Halving(nn.Module):
    """SUNet's first residual block."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.bn = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU())
        first, second = nn.Conv2d(cin, cout, 3, 2, 1), nn.Conv2d(cout, cout, 3, 1, 1)
        self.conv = nn.Sequential(first, nn.Identity(), nn.BatchNorm2d(cout), nn.ReLU(), second)
        self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half of the pixels."""
        x = self.bn(x)
        return self.conv(x) + self.shortcut(x)


def sunet(large: bool, channels: int) -> nn.Module:
    """Return SUNet-64."""
    size = 224 if large else {1: 28, 3: 32}[channels]
    layers: list[tuple[str, nn.Module]] = [("conv1", nn.Conv2d(channels, 64, 3, 1, 1))]
    if large:
        layers, size = [("conv1", nn.Conv2d(channels, 64, 7, 2, 3))], size // 2
    layers.append(("residual1", Halving(64, 128)))
    size, cin = size // 2, 128
    for stage, (depth, width) in enumerate(zip((2, 4, 4, 1), (256, 512, 768, 1024), strict=True), 1):
        for index in range(depth):
            layers.append((f"unet{stage}_{index}", UNet(cin, width, 1 if stage == 4 else 2, size)))
            cin = width
        if stage < 4:
            layers.append((f"avgpool{stage}", nn.AvgPool2d(2)))
            size //= 2
    layers += [*ready("2", 1024), ("mean", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten())]
    module = nn.Module()
    module.features, module.linear = named(layers), nn.Linear(1024, 1000 if large else 10)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
    nn.init.normal_(module.linear.weight, std=1e-3)
    module.forward = lambda x: module.linear(module.features(x))  # type: ignore[method-assign]
    return module


OWN = {
    "resnet20": lambda large, channels: CifarResNet(3),
    "resnet56": lambda large, channels: CifarResNet(9),
    "carn": lambda large, channels: Carn(1),
    "carn_m": lambda large, channels: Carn(4),
    "stacked_unets": sunet,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
