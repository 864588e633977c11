"""Reduced runs (`--small`): what they are made of, sizes that learn something in minutes on two cores.

Widths are a quarter or more of the published ones, depths are the published ones; the first layer of networks for
CIFAR, and of SUNet, halves the image to save time. Rates fall by a cosine, half of the groups go, and samples are not
mixed: such runs are too short for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crops import write_labelled, write_pairs

from paper_six.form import Form
from paper_six.recipes import Settings, settings

SHORT: Settings = {
    "sparsity": 0.5,
    "batch": 64,
    "schedule": "cosine",
    "milestones": None,
    "lr-factor": None,
    "warm-up": 0.05,
    "mixup": None,
    "plan-observe": None,
    "plan-shrink": None,
}
"""What all of them have in place of the recipe's; None: the default of `train`."""
FASHION, CIFAR, PAIRS = "Fashion-MNIST", "CIFAR-10 (JPEG)", "ImageNet crops x2"
CIFAR_PIXELS: Settings = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
FASHION_PIXELS: Settings = {"mean": [0.286], "std": [0.353]}
FILES = {FASHION: "fashion_mnist.npz", CIFAR: "cifar10_jpegbytes.npz", PAIRS: "imagenet1000_crop224.npz"}


@dataclass(frozen=True)
class Small:
    """recipe: that it follows but for `changes`. known: accuracy of the published network, dense."""

    recipe: str
    data: str
    form: Form
    changes: Mapping[str, Any] = field(default_factory=dict)
    known: float | None = None

    @property
    def settings(self) -> Settings:
        """Return the settings of the run."""
        whole = {**settings(self.recipe), **SHORT, **self.changes}
        return {key: value for key, value in whole.items() if value is not None}


GREY, COLOUR = Form(1, 28, 10, 0.25), Form(3, 32, 10, 0.25, 2)
PATCHES: Settings = {
    "batch": 4,
    "patch": 48,
    "patches-per-image": 4,
    "lr": 1e-3,
    "epochs": 20,
    "metric": ["psnr"],
}
SMALL: dict[str, Small] = {
    "vgg16": Small("vgg16-cifar10", FASHION, GREY, {"epochs": 8, "crop": 2, **FASHION_PIXELS}, 0.935),
    "vgg16_bn": Small("vgg16_bn-fashion_mnist", FASHION, GREY, {"epochs": 2}, 0.935),
    "resnet18": Small("resnet18-cifar10", CIFAR, COLOUR, {"epochs": 10, **CIFAR_PIXELS}, 0.930),
    "resnet20": Small("resnet20-fashion_mnist", FASHION, Form(1, 28, 10, 0.5), {"epochs": 3}, 0.937),
    "resnet50": Small("resnet50-cifar10", CIFAR, COLOUR, {"epochs": 10, **CIFAR_PIXELS}, 0.936),
    "resnet56": Small("resnet56-cifar10", CIFAR, Form(3, 32, 10, 0.5, 2), {"epochs": 10}, 0.930),
    "carn": Small("carn-div2k", PAIRS, Form(3, 0, 0, 0.25), PATCHES),
    "carn_m": Small("carn_m-div2k", PAIRS, Form(3, 0, 0, 0.25), PATCHES),
    "convnext_t": Small(
        "convnext_t-imagenet",
        FASHION,
        GREY,
        {
            "epochs": 2,
            "accumulate": None,
            "lr": 1e-3,
            "crop": 2,
            "zoom": None,
            "cutout": None,
            "ema": None,
            "resize": None,
            "loaders": None,
            "metric": None,
            **FASHION_PIXELS,
        },
    ),
    "densenet121": Small("densenet121-cifar100", CIFAR, COLOUR, {"epochs": 10, **CIFAR_PIXELS}, 0.950),
    "stacked_unets": Small("stacked_unets-fashion_mnist", FASHION, replace(GREY, stride=2), {"epochs": 4}),
}
"""known: OTOv2's baselines and He et al. on CIFAR-10, kuangliu's for DenseNet-121, the benchmark of Fashion-MNIST's own
page; ResNet-20 on Fashion-MNIST is our figure (docs/results.md)."""


def prepared(small: Small, source: Path, folder: Path) -> Path:
    """Return the data as `train` reads them, unpacked into the folder if they have not been yet.

    source: the folder with FILES. Raises FileNotFoundError.
    """
    file = source / FILES[small.data]
    if not file.is_file():
        raise FileNotFoundError(
            f"'{file}' is not there: --small reads {small.data} from a folder with {FILES[small.data]}"
        )
    if small.data == FASHION:
        return file
    if small.data == CIFAR:
        unpacked = folder / "cifar10_jpeg.npz"
        if not unpacked.exists():
            write_labelled(file, unpacked)
        return unpacked
    unpacked = folder / "pairs"
    if not unpacked.exists():
        part = folder / "part-pairs"
        write_pairs(file, part)
        part.rename(unpacked)
    return unpacked
