"""The networks, in PyTorch, and what they are trained on. Runs where torch is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from zoo_factory.torch_export import define_missing_ops

_MISSING = define_missing_ops()
import timm  # noqa: E402
import torchvision  # noqa: E402


@dataclass(frozen=True)
class Network:
    """make: the module; sample: shape of an input; loss: by its name. classes: of an input of integers."""

    make: Callable[[], nn.Module]
    batch: int
    sample: tuple[int, ...]
    loss: str = "cross-entropy"
    classes: int | None = None

    def draw(self, batch: int) -> torch.Tensor:
        """Return random inputs."""
        shape = (batch, *self.sample)
        return torch.randn(shape) if self.classes is None else torch.randint(0, self.classes, shape)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.down: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.down = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.down(x))


class ResNet20(nn.Module):
    """He et al. 2016, section 4.2, with projections."""

    def __init__(self) -> None:
        super().__init__()
        blocks, before = [], 16
        for stage, channels in enumerate((16, 32, 64)):
            for index in range(3):
                blocks.append(Basic(before, channels, 2 if stage and not index else 1))
                before = channels
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        self.body = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Vgg16(nn.Module):
    """VGG16 with BatchNorm for 32x32 images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16_bn().features
        self.head = nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).flatten(1))


class Encoder(nn.Module):
    """A Transformer encoder of two layers over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.table(x)).mean(1))


class Residual(nn.Module):
    """CARN's block of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(64, 64, 3, 1, 1), nn.Conv2d(64, 64, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + x)


class Cascade(nn.Module):
    """Three blocks, each read together with all before it."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(make() for _ in range(3))
        self.joins = nn.ModuleList(nn.Conv2d(64 * (i + 2), 64, 1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for block, join in zip(self.blocks, self.joins, strict=True):
            seen.append(block(x))
            x = F.relu(join(torch.cat(seen, 1)))
        return x


class Carn(nn.Module):
    """Ahn et al. 2018, twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 64, 3, 1, 1)
        self.body = Cascade(lambda: Cascade(Residual))
        self.up = nn.Sequential(nn.Conv2d(64, 256, 3, 1, 1), nn.ReLU(), nn.PixelShuffle(2))
        self.exit = nn.Conv2d(64, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.up(self.body(self.entry(x))))


def _vision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)()


def _vit() -> nn.Module:
    return timm.create_model("vit_small_patch16_224", pretrained=False)


NETWORKS = {
    "resnet20": Network(ResNet20, 64, (3, 32, 32)),
    "resnet18": Network(_vision("resnet18"), 64, (3, 64, 64)),
    "resnet18-8": Network(_vision("resnet18"), 8, (3, 64, 64)),
    "resnet50": Network(_vision("resnet50"), 8, (3, 96, 96)),
    "vgg16_bn": Network(Vgg16, 32, (3, 32, 32)),
    "mobilenet_v2": Network(_vision("mobilenet_v2"), 8, (3, 64, 64)),
    "efficientnet_b0": Network(_vision("efficientnet_b0"), 8, (3, 64, 64)),
    "densenet121": Network(_vision("densenet121"), 8, (3, 64, 64)),
    "convnext_tiny": Network(_vision("convnext_tiny"), 8, (3, 64, 64)),
    "vit_small": Network(_vit, 4, (3, 224, 224)),
    "encoder": Network(Encoder, 32, (128,), classes=1000),
    "carn": Network(Carn, 8, (3, 48, 48), loss="l1"),
}


def without_chance(module: nn.Module) -> nn.Module:
    """Switch Dropout and the dropping of whole paths off, and return the module."""
    for part in module.modules():
        for key in ("p", "drop_prob", "drop_path_prob", "dropout"):
            if isinstance(getattr(part, key, None), float):
                setattr(part, key, 0.0)
    return module


def loss_of(name: str) -> Any:
    """Return the loss as a function of output and target."""
    return {"cross-entropy": F.cross_entropy, "l1": F.l1_loss}[name]
