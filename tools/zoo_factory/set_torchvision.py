"""torchvision: classification, segmentation, video and optical flow; of detection models all but the box logic."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from zoo_factory.options import Options
from zoo_factory.torch_export import Example, define_missing_ops, export, image

_LIBRARY = define_missing_ops()

import torchvision  # noqa: E402  (needs the two operators above)
from torchvision.models import detection, optical_flow, segmentation, video  # noqa: E402

VIDEO = {"s3d": (3, 16, 224, 224), "mvit_v1_b": (3, 16, 224, 224), "mvit_v2_s": (3, 16, 224, 224)}
SMALL_VIDEO = (3, 8, 112, 112)
SIZES = {"inception_v3": 299, "ssd300_vgg16": 300, "vit_h_14": 224, "maxvit_t": 224}
SEGMENTATION_SIZE = 128
DETECTION_SIZE = 256


def names() -> list[str]:
    """Return all architectures but the quantized ones; small variants come before large ones."""
    every = [n for n in torchvision.models.list_models() if not n.startswith("quantized_")]
    large = ("_l", "_32gf", "_128gf", "_16gf", "_b6", "_b7", "_large", "_h_14", "152", "_64x4d", "_32x8d")
    return sorted(every, key=lambda n: (n.endswith(large), n))


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model with random weights."""
    torch.manual_seed(options.seed)
    return export(_example(name), path, options)


def _example(name: str) -> Example:
    if name in torchvision.models.list_models(module=detection):
        return Example(_Detector(_bare(name)), (image(*[SIZES.get(name, DETECTION_SIZE)] * 2),))
    if name in torchvision.models.list_models(module=segmentation):
        return Example(_Only(_bare(name), "out"), (image(SEGMENTATION_SIZE, SEGMENTATION_SIZE),))
    if name in torchvision.models.list_models(module=video):
        return Example(_bare(name), (torch.randn(2, *VIDEO.get(name, SMALL_VIDEO)),))
    if name in torchvision.models.list_models(module=optical_flow):
        names = ("first", "second")
        axes = ({0: "batch"}, {0: "batch"})
        return Example(_Flow(_bare(name)), (image(128, 128), image(128, 128)), names, axes)
    size = SIZES.get(name, 224)
    return Example(_bare(name), (image(size, size),))


def _bare(name: str) -> nn.Module:
    """Return the model with random weights and without auxiliary classifiers where there is a choice."""
    attempts = (
        {"weights": None, "weights_backbone": None},
        {"weights": None, "init_weights": False, "aux_logits": False},
        {"weights": None},
    )
    for keywords in attempts:
        try:
            return torchvision.models.get_model(name, **keywords)
        except TypeError:
            continue
    return torchvision.models.get_model(name)


class _Only(nn.Module):
    """One entry of a module's dictionary of outputs."""

    def __init__(self, inner: nn.Module, key: str) -> None:
        super().__init__()
        self.inner = inner
        self.key = key

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return inner(x)[key]."""
        result: torch.Tensor = self.inner(x)[self.key]
        return result


class _Flow(nn.Module):
    """The last flow of an iterative estimator, three rounds."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return flow float32 [batch, 2, height, width]."""
        result: torch.Tensor = self.inner(a, b, num_flow_updates=3)[-1]
        return result


class _Detector(nn.Module):
    """Backbone, neck and dense head of a detector: everything before boxes are picked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        rpn = getattr(model, "rpn", None)
        self.head = model.head if rpn is None else rpn.head

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the raw predictions of every level."""
        features = self.backbone(x)
        levels = [features] if isinstance(features, torch.Tensor) else list(features.values())
        found = self.head(levels)
        if isinstance(found, dict):
            return list(found.values())
        return [t for part in found for t in part]
