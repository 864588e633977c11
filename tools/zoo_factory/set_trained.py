"""Forty small networks to train: of torchvision, of timm, and by hand. Images of 32 to 64 pixels, short sequences.

`tools/trainable` makes each in three exports, and `tools/against_torch` trains some of them in torch, too: `CASES` says
how to build a network and how to draw a batch of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from zoo_factory import extra_dense as dense
from zoo_factory import extra_sequence as sequence
from zoo_factory import extra_vision as vision
from zoo_factory import open_sequence
from zoo_factory.open_case import VOCABULARY as OPEN_VOCABULARY
from zoo_factory.options import Options
from zoo_factory.torch_export import Example, define_missing_ops, export

_LIBRARY = define_missing_ops()

import timm  # noqa: E402  (imports torchvision, which needs the two operators above)
import torchvision  # noqa: E402

CLASSES = 10


class Case(NamedTuple):
    """build: the network, weights from torch's generator. draw: a batch of that many samples, from it too."""

    build: Callable[[], nn.Module]
    draw: Callable[[int], torch.Tensor]


def _normal(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda samples: torch.randn(samples, *shape)


def _ids(length: int, vocabulary: int = sequence.VOCABULARY) -> Callable[[int], torch.Tensor]:
    return lambda samples: torch.randint(0, vocabulary, (samples, length))


def _vision(name: str, side: int = 64, **more: Any) -> Case:
    """Return a torchvision classifier of ten classes."""
    keywords = {"weights": None, "num_classes": CLASSES, **more}
    return Case(lambda: torchvision.models.get_model(name, **keywords), _normal(3, side, side))


def _timm(name: str, side: int = 64, **more: Any) -> Case:
    keywords = {"pretrained": False, "num_classes": CLASSES, **more}
    return Case(lambda: timm.create_model(name, **keywords), _normal(3, side, side))


def _tagger(kind: str, bidirectional: bool = False, layers: int = 1) -> Case:
    return Case(lambda: sequence.Tagger(kind, bidirectional=bidirectional, layers=layers), _ids(9))


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=CLASSES,
    )


class Audio(nn.Module):
    """A classifier of raw audio: strided 1-D convolutions, one of them grouped, BatchNorm, Dropout."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, width, 40, stride=8, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(width, width, 3, stride=2, padding=1, groups=4),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 3, padding=1),
            nn.BatchNorm1d(2 * width),
            nn.ELU(),
            nn.AvgPool1d(2),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * width, CLASSES))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """Return scores [N, 10] of wave [N, 1, samples]."""
        result: torch.Tensor = self.head(self.features(wave).mean(2))
        return result


CASES: dict[str, Case] = {
    "resnet18": _vision("resnet18"),
    "resnext50_32x4d": _vision("resnext50_32x4d", 48),
    "mobilenet_v2": _vision("mobilenet_v2"),
    "mobilenet_v3_small": _vision("mobilenet_v3_small"),
    "efficientnet_b0": _vision("efficientnet_b0"),
    "densenet121": _vision("densenet121"),
    "googlenet": _vision("googlenet", aux_logits=False, init_weights=True),
    "squeezenet1_1": _vision("squeezenet1_1"),
    "shufflenet_v2_x0_5": _vision("shufflenet_v2_x0_5"),
    "regnet_y_400mf": _vision("regnet_y_400mf"),
    "mnasnet0_5": _vision("mnasnet0_5"),
    "convnext_atto": _timm("convnext_atto"),
    "swin_t": _vision("swin_t"),
    "vit": Case(_vit, _normal(3, 32, 32)),
    "r3d_18": _vision("r3d_18", 32)._replace(draw=_normal(3, 8, 32, 32)),
    "ghostnet_050": _timm("ghostnet_050"),
    "repvgg_a0": _timm("repvgg_a0"),
    "mobilenetv4_conv_small": _timm("mobilenetv4_conv_small"),
    "mobilevit_xxs": _timm("mobilevit_xxs"),
    "edgenext_xx_small": _timm("edgenext_xx_small"),
    "poolformer_s12": _timm("poolformer_s12"),
    "deit_tiny": _timm("deit_tiny_patch16_224", img_size=64),
    "unet": Case(dense.UNet, _normal(3, 32, 32)),
    "unet_bilinear": Case(lambda: dense.UNet("bilinear"), _normal(3, 32, 32)),
    "unet3d": Case(dense.UNet3d, _normal(1, 16, 16, 16)),
    "carn": Case(dense.Carn, _normal(3, 24, 24)),
    "stacked_unets": Case(dense.StackedUnets, _normal(3, 32, 32)),
    "nafnet": Case(dense.NafNet, _normal(3, 32, 32)),
    "densenet": Case(vision.densenet, _normal(3, 32, 32)),
    "resnet_groupnorm": Case(vision.resnet_groupnorm, _normal(3, 32, 32)),
    "prelu_face": Case(vision.prelu_face, _normal(3, 64, 64)),
    "lstm": _tagger("LSTM"),
    "bilstm2": _tagger("LSTM", True, 2),
    "gru": _tagger("GRU"),
    "last_state": Case(sequence.LastState, _normal(10, 8)),
    "tcn": Case(sequence.tcn, _normal(8, 40)),
    "wavenet": Case(sequence.WaveNet, _normal(1, 64)),
    "audio": Case(Audio, _normal(1, 2000)),
    "gpt2": Case(lambda: open_sequence.Gpt("causal", tied=True), _ids(12, OPEN_VOCABULARY)),
    "modern_decoder": Case(sequence.modern_decoder, _ids(9)),
}


def names() -> list[str]:
    """Return the names."""
    return list(CASES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one network with random weights, exported in the wanted way or not at all."""
    torch.manual_seed(options.seed)
    case = CASES[name]
    return export(Example(case.build(), (case.draw(2),), exact=True), path, options)
