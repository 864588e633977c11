"""The 25 torchvision models that other pruning tools were measured on."""

from __future__ import annotations

from pathlib import Path

from zoo_factory import set_torchvision
from zoo_factory.options import Options

NAMES = [
    "resnet50",
    "shufflenet_v2_x1_0",
    "swin_t",
    "vit_b_32",
    "convnext_tiny",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "resnext50_32x4d",
    "googlenet",
    "alexnet",
    "vgg16_bn",
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v2",
    "mnasnet1_0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "regnet_x_400mf",
    "inception_v3",
    "swin_v2_t",
    "maxvit_t",
    "fcn_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
]


def names() -> list[str]:
    """Return the names, those of the most different structure first."""
    return list(NAMES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model."""
    return set_torchvision.make(name, path, options)
