"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from paper_six.carn import carn, carn_m
from paper_six.convnext import convnext_t
from paper_six.densenet import densenet121
from paper_six.form import Form
from paper_six.resnet import resnet18, resnet20, resnet50, resnet56
from paper_six.stacked_unets import stacked_unets
from paper_six.vgg import vgg16, vgg16_bn

NETWORKS: dict[str, Callable[[Form, int], onnx.ModelProto]] = {
    "vgg16": vgg16,
    "vgg16_bn": vgg16_bn,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "resnet56": resnet56,
    "carn": carn,
    "carn_m": carn_m,
    "convnext_t": convnext_t,
    "densenet121": densenet121,
    "stacked_unets": stacked_unets,
}
"""Functions of a form and a seed."""
