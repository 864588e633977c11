"""Small networks written by hand: structures that the model libraries leave out, and the OTO papers' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from zoo_factory import extra_dense as dense
from zoo_factory import extra_sequence as sequence
from zoo_factory import extra_vision as vision
from zoo_factory.options import Options
from zoo_factory.torch_export import Example, export, image

Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], Callable[[], torch.Tensor], Mapping[int, str]]

BATCH: Mapping[int, str] = {0: "batch"}
TOKENS: Mapping[int, str] = {0: "batch", 1: "tokens"}


def _image(side: int = 64, channels: int = 3) -> Callable[[], torch.Tensor]:
    return lambda: image(side, side, channels=channels)


def _normal(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(2, *shape)


def _ids(length: int = 9) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(0, sequence.VOCABULARY, (2, length))


def _tagger(kind: str, bidirectional: bool = False, layers: int = 1) -> Callable[[], nn.Module]:
    return lambda: sequence.Tagger(kind, bidirectional=bidirectional, layers=layers)


CASES: dict[str, Case] = {
    "unet": (dense.UNet, _image(), BATCH),
    "carn": (dense.Carn, _image(24), BATCH),
    "stacked_unets": (dense.StackedUnets, _image(), BATCH),
    "convnext": (vision.convnext, _image(), BATCH),
    "efficientnet": (vision.efficientnet, _image(), BATCH),
    "yolo_chunk": (lambda: dense.Yolo(chunk=True), _image(), BATCH),
    "yolo_csp_decode": (lambda: dense.Yolo(chunk=False, decode=True), _image(), BATCH),
    "bifpn": (dense.BiFpn, _image(), BATCH),
    "mlp_mixer": (vision.mlp_mixer, _image(), BATCH),
    "lstm": (_tagger("LSTM"), _ids(), TOKENS),
    "gru": (_tagger("GRU"), _ids(), TOKENS),
    "rnn": (_tagger("RNN"), _ids(), TOKENS),
    "bilstm2": (_tagger("LSTM", True, 2), _ids(), TOKENS),
    "bigru2": (_tagger("GRU", True, 2), _ids(), TOKENS),
    "last_state": (sequence.LastState, _normal(10, 8), BATCH),
    "crnn": (sequence.Crnn, lambda: torch.randn(2, 1, 32, 64), BATCH),
    "unet_bilinear": (lambda: dense.UNet("bilinear"), _image(), BATCH),
    "unet3d": (dense.UNet3d, _normal(1, 16, 16, 16), BATCH),
    "nafnet": (dense.NafNet, _image(32), BATCH),
    "dcgan": (dense.generator, _normal(32, 1, 1), BATCH),
    "style_transfer": (dense.style_transfer, _image(32), BATCH),
    "vae": (dense.Vae, _image(), BATCH),
    "hourglass": (dense.Hourglass, _image(), BATCH),
    "shufflenet_v1": (vision.shufflenet_v1, _image(), BATCH),
    "resnet_groupnorm": (vision.resnet_groupnorm, _image(), BATCH),
    "preact_resnet": (vision.preact_resnet, _image(), BATCH),
    "prelu_face": (vision.prelu_face, _image(), BATCH),
    "repvgg_open": (vision.repvgg_open, _image(), BATCH),
    "densenet": (vision.densenet, _image(), BATCH),
    "cbam": (vision.cbam, _image(), BATCH),
    "eca_coordinate": (vision.eca_coordinate, _image(), BATCH),
    "non_local": (vision.non_local, _image(), BATCH),
    "maxout": (vision.maxout, _image(), BATCH),
    "siamese": (vision.siamese, _image(channels=6), BATCH),
    "ghost": (vision.ghost, _image(), BATCH),
    "split_attention": (vision.split_attention, _image(), BATCH),
    "tcn": (sequence.tcn, _normal(8, 40), BATCH),
    "wavenet": (sequence.WaveNet, _normal(1, 64), BATCH),
    "modern_decoder": (sequence.modern_decoder, _ids(), TOKENS),
    "plain_encoder": (sequence.plain_encoder, _normal(9, 16), BATCH),
    "torch_encoder": (sequence.torch_encoder, _normal(9, 16), BATCH),
    "shared_embedding": (sequence.SharedEmbedding, _ids(), TOKENS),
    "deepfm": (sequence.DeepFm, _ids(8), BATCH),
    "pointnet": (sequence.PointNet, _normal(3, 40), BATCH),
    "experts": (sequence.MixtureOfExperts, _normal(16), BATCH),
}


def names() -> list[str]:
    """Return the names, those that a paper or an issue asks for first."""
    return list(CASES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one network with random weights."""
    torch.manual_seed(options.seed)
    module, example, axes = CASES[name]
    return export(Example(module(), (example(),), dynamic=(axes,)), path, options)
