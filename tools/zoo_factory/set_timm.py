"""timm: some 140 architectures, every family of the library at least once, small variants.

`timm_architectures.txt` lists them, convolutional and attention families in turn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from zoo_factory.options import Options
from zoo_factory.torch_export import Example, define_missing_ops, export, image

_LIBRARY = define_missing_ops()

import timm  # noqa: E402  (imports torchvision, which needs the two operators above)

LIST = Path(__file__).with_name("timm_architectures.txt")
SMALL = 128


def names() -> list[str]:
    """Return the listed names that this timm knows."""
    known = set(timm.list_models())
    return [name for name in LIST.read_text(encoding="utf-8").split() if name in known]


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model with random weights."""
    torch.manual_seed(options.seed)
    model = timm.create_model(name, pretrained=False).eval()
    return export(Example(model, (_smallest(model),)), path, options)


def _smallest(model: nn.Module) -> torch.Tensor:
    """Return images of side 128 if the model takes them, else of the side it was made for."""
    channels, height, width = model.pretrained_cfg["input_size"]
    small = image(min(height, SMALL), min(width, SMALL), channels=channels)
    try:
        with torch.no_grad():
            model(small)
    except (RuntimeError, AssertionError, ValueError):
        return image(height, width, channels=channels)
    return small
