"""Networks whose sizes are open: batch and length, height and width, samples of sound; by both of torch's exporters.

NAME_ts is by the TorchScript exporter, NAME_dyn by dynamo, whatever `--exporter` says. NAME.npz beside each model holds
three feeds at other sizes than those of the export: "i|input" is the array of an input in feed i. NAME_traced are files
as the older exporter makes them of attention today: they run at the length of the export only, and so are their feeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from zoo_factory import open_attention as attention
from zoo_factory import open_sequence as sequence
from zoo_factory import open_vision as vision
from zoo_factory.open_attention import decoder_layer, encoder_layer
from zoo_factory.open_case import EXAMPLE, FEEDS, Case, Input, Sizes, draw, feeds
from zoo_factory.open_yolo import Yolo
from zoo_factory.options import Options
from zoo_factory.torch_export import Example, export

EXPORTERS = {"ts": "torchscript", "dyn": "dynamo"}

IMAGE = Input("image", ("batch", 3, "height", "width"))
WAVE = Input("wave", ("batch", "samples"))
IDS = Input("ids", ("batch", "length"), "ids")
PADDING = Input("padding", ("batch", "length"), "padding")
SOURCE_PADDING = Input("source_padding", ("batch", "source"), "padding")
MASK = Input("mask", ("length", "length"), "added")

ONE_LENGTH: Sizes = {"batch": (1, 3, 2), "length": (9, 5, 13)}
TWO_LENGTHS: Sizes = {**ONE_LENGTH, "source": (6, 11, 3)}
TRACED_LENGTH: Sizes = {"batch": (1, 3, 2), "length": (EXAMPLE["length"],) * FEEDS}
SOUND: Sizes = {"batch": (1, 3, 2), "samples": (3201, 4000, 5555)}
ODD: Sizes = {"batch": (1, 3, 2), "height": (15, 31, 9), "width": (22, 18, 13)}
EVEN: Sizes = {"batch": (1, 3, 2), "height": (10, 6, 22), "width": (14, 18, 8)}
WINDOWS: Sizes = {"batch": (1, 3, 2), "height": (14, 18, 26), "width": (22, 10, 34)}
EIGHTS: Sizes = {"batch": (1, 3, 2), "height": (24, 40, 56), "width": (40, 16, 24)}
STRIDES: Sizes = {"batch": (1, 3, 2), "height": (64, 96, 160), "width": (96, 64, 96)}


def _tokens(
    batch_first: bool, features: int = attention.FEATURES, length: str = "length", name: str = "x"
) -> Input:
    return Input(name, ("batch", length, features) if batch_first else (length, "batch", features))


def _source(batch_first: bool) -> Input:
    return _tokens(batch_first, attention.SOURCE_FEATURES, "source", "memory")


def _transformer_cases(batch_first: bool) -> dict[str, Case]:
    """Return torch's attention layers with the batch as the first axis (bf) or the second (sf)."""
    one, two = (_tokens(batch_first),), (_tokens(batch_first), _source(batch_first))
    encoder, decoder = partial(encoder_layer, batch_first), partial(decoder_layer, batch_first)
    framed, pair = attention.Framed, attention.FramedTwo
    modern = {"norm_first": True, "activation": "gelu"}

    def stack() -> nn.Module:
        return nn.TransformerEncoder(encoder(), 2, enable_nested_tensor=False)

    def whole() -> nn.Module:
        width, heads = attention.WIDTH, attention.HEADS
        return nn.Transformer(width, heads, 1, 1, attention.HIDDEN, batch_first=batch_first)

    cases = {
        "enc": Case(lambda: framed(encoder()), one, ONE_LENGTH),
        "enc_gelu": Case(lambda: framed(encoder(activation="gelu")), one, ONE_LENGTH),
        "enc_normfirst_gelu": Case(lambda: framed(encoder(**modern)), one, ONE_LENGTH),
        "enc_padding": Case(lambda: framed(encoder(), "src_key_padding_mask"), (*one, PADDING), ONE_LENGTH),
        "enc_mask": Case(lambda: framed(encoder(), "src_mask"), (*one, MASK), ONE_LENGTH),
        "enc2": Case(lambda: framed(stack()), one, ONE_LENGTH),
        "dec": Case(lambda: pair(decoder()), two, TWO_LENGTHS),
        "dec_normfirst_gelu": Case(lambda: pair(decoder(**modern)), two, TWO_LENGTHS),
        "transformer": Case(lambda: pair(whole()), two, TWO_LENGTHS),
        "mha": Case(lambda: attention.SelfAttention(batch_first), one, ONE_LENGTH),
    }
    order = "bf" if batch_first else "sf"
    return {f"{name}_{order}": case for name, case in cases.items()}


def _special_attention_cases() -> dict[str, Case]:
    """Return combinations of masks, cross attention, and files that run at the traced length only."""
    tokens, second = _tokens(True), _tokens(False)
    framed, own = attention.Framed, attention.SelfAttention

    def normed() -> nn.Module:
        norm = nn.LayerNorm(attention.WIDTH)
        return nn.TransformerEncoder(encoder_layer(True), 2, norm=norm, enable_nested_tensor=False)

    def masked_decoder() -> nn.Module:
        return attention.FramedTwo(decoder_layer(False), "tgt_mask", "memory_key_padding_mask")

    def padded_encoder() -> nn.Module:
        return framed(encoder_layer(False), "src_key_padding_mask")

    traced = partial(Case, sizes=TRACED_LENGTH, ways=("ts",), as_traced=True)
    return {
        "enc2_final_norm_padding": Case(
            lambda: framed(normed(), "src_key_padding_mask"), (tokens, PADDING), ONE_LENGTH
        ),
        "dec_masks": Case(masked_decoder, (second, _source(False), MASK, SOURCE_PADDING), TWO_LENGTHS),
        "dec2": Case(
            lambda: attention.FramedTwo(nn.TransformerDecoder(decoder_layer(True), 2)),
            (tokens, _source(True)),
            TWO_LENGTHS,
        ),
        "mha_masks": Case(
            lambda: own(True, "key_padding_mask", "attn_mask"), (tokens, PADDING, MASK), ONE_LENGTH
        ),
        "mha_weights": Case(lambda: own(True, weights=True), (tokens,), ONE_LENGTH),
        "mha_cross": Case(attention.CrossAttention, (second, _source(False)), TWO_LENGTHS),
        "enc_traced": traced(lambda: framed(encoder_layer(True)), (tokens,)),
        "enc_padding_traced": traced(padded_encoder, (second, PADDING)),
        "mha_traced": traced(lambda: own(True), (tokens,)),
    }


def _sequence_cases() -> dict[str, Case]:
    tokens, batch_length = (_tokens(True),), Input("x", ("batch", "length", 12))
    return {
        "wav2vec_group": Case(lambda: sequence.Wav2Vec("group"), (WAVE,), SOUND),
        "wav2vec_layer": Case(lambda: sequence.Wav2Vec("layer"), (WAVE,), SOUND),
        "mel_stft": Case(sequence.Mel, (WAVE,), SOUND),
        "gpt_causal": Case(lambda: sequence.Gpt("causal"), (IDS,), ONE_LENGTH),
        "gpt_tril": Case(lambda: sequence.Gpt("tril"), (IDS,), ONE_LENGTH),
        "gpt_tied": Case(lambda: sequence.Gpt("causal", tied=True), (IDS,), ONE_LENGTH),
        "lstm": Case(lambda: sequence.Recurrent("LSTM"), tokens, ONE_LENGTH),
        "bilstm2": Case(lambda: sequence.Recurrent("LSTM", bidirectional=True, layers=2), tokens, ONE_LENGTH),
        "bigru": Case(lambda: sequence.Recurrent("GRU", bidirectional=True), tokens, ONE_LENGTH),
        "flatten_unflatten": Case(sequence.FlattenUnflatten, (batch_length,), ONE_LENGTH),
    }


def _vision_cases() -> dict[str, Case]:
    side = Input("image", ("batch", 3, 64, 64))
    batch: Sizes = {"batch": (1, 3, 2)}
    fixed, two = Input("image", (1, 3, 64, 64)), Input("image", (2, 3, 64, 64))
    return {
        "yolo_e2e_open_batch": Case(Yolo, (side,), batch),
        "yolo_e2e_index_open_batch": Case(lambda: Yolo("index"), (side,), batch),
        "yolo_e2e_fixed": Case(Yolo, (fixed,)),
        "yolo_e2e_fixed_bn_kept": Case(lambda: Yolo("index"), (two,), kept=True),
        "yolo_e2e_open_hw": Case(lambda: Yolo(size=None), (IMAGE,), STRIDES),
        "yolo_raw_open_hw": Case(lambda: Yolo("none", size=None), (IMAGE,), STRIDES),
        "attn_hw_sdpa": Case(lambda: attention.MapAttention("sdpa"), (IMAGE,), ODD),
        "attn_hw_mha": Case(lambda: attention.MapAttention("mha"), (IMAGE,), ODD),
        "attn_hw_view": Case(lambda: attention.MapAttention("view"), (IMAGE,), ODD),
        "swin_window": Case(vision.Swin, (IMAGE,), WINDOWS),
        "swin_shifted": Case(lambda: vision.Swin(2), (IMAGE,), WINDOWS),
        "unshuffle_view": Case(vision.Unshuffle, (IMAGE,), EVEN),
        "shuffle_view": Case(vision.Shuffle, (IMAGE,), ODD),
        "blurpool_folded": Case(vision.BlurPool, (IMAGE,), ODD),
        "mean_hw": Case(vision.MeanGate, (IMAGE,), ODD),
        "vit_pos_bilinear": Case(lambda: vision.Vit("bilinear"), (IMAGE,), EIGHTS),
        "vit_pos_bicubic": Case(lambda: vision.Vit("bicubic"), (IMAGE,), EIGHTS),
        "unet_nearest": Case(lambda: vision.UNet("nearest"), (IMAGE,), ODD),
        "unet_bilinear": Case(lambda: vision.UNet("bilinear"), (IMAGE,), ODD),
    }


CASES: dict[str, Case] = {
    **_transformer_cases(True),
    **_transformer_cases(False),
    **_special_attention_cases(),
    **_vision_cases(),
    **_sequence_cases(),
}


def names() -> list[str]:
    """Return every network once per exporter that can write it."""
    return [f"{name}_{way}" for name, case in CASES.items() for way in case.ways]


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one network with random weights, and its feeds beside it."""
    stem, way = name.rsplit("_", 1)
    case = CASES[stem]
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    example = Example(
        case.build(),
        tuple(torch.from_numpy(draw(value, EXAMPLE, rng)) for value in case.inputs),
        tuple(value.name for value in case.inputs),
        tuple({i: d for i, d in enumerate(v.shape) if isinstance(d, str)} for v in case.inputs),
        exact=True,
    )
    bn = "kept" if case.kept else options.bn
    with _attention(chunks=way == "ts" and not case.as_traced):
        facts = export(example, path, replace(options, exporter=EXPORTERS[way], bn=bn))
    np.savez(path.with_name(f"{name}.npz"), **feeds(case, rng))
    return {**facts, "feeds": FEEDS}


@contextmanager
def _attention(chunks: bool) -> Iterator[None]:
    """Write attention operator by operator, not as one; with `chunks` project as torch did until 1.13.

    Of today's projection (`unflatten`) the older exporter makes Reshapes to the traced length.
    """
    fast, project = torch.backends.mha.get_fastpath_enabled(), F._in_projection_packed
    torch.backends.mha.set_fastpath_enabled(False)
    F._in_projection_packed = _chunks if chunks else project
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        F._in_projection_packed = project


def _chunks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, w: torch.Tensor, b: Any = None) -> Any:
    """Return q, k and v projected by parts of w [3E, E] and b [3E]."""
    width = q.size(-1)
    if k is v and q is k:
        return tuple(t.contiguous() for t in F.linear(q, w, b).chunk(3, dim=-1))
    if k is v:
        parts = w.split([width, 2 * width])
        biases = (None, None) if b is None else b.split([width, 2 * width])
        both = F.linear(k, parts[1], biases[1]).chunk(2, dim=-1)
        return (F.linear(q, parts[0], biases[0]), *(t.contiguous() for t in both))
    biases = (None,) * 3 if b is None else b.chunk(3)
    return tuple(F.linear(x, part, c) for x, part, c in zip((q, k, v), w.chunk(3), biases, strict=True))
