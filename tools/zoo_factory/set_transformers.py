"""transformers: small configurations with random weights; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo_factory.options import Options
from zoo_factory.torch_export import Example, define_missing_ops, export, image

_LIBRARY = define_missing_ops()

import transformers  # noqa: E402  (imports torchvision when it is there)

VOCABULARY, WIDTH, INNER, HEADS, LAYERS, LENGTH = 200, 96, 192, 6, 3, 64
TOKENS = 12
TEXT: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": LENGTH,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": WIDTH // HEADS}
VISION = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "image_size": 64,
    "patch_size": 16,
}
SPEECH = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "conv_dim": (32, 32, 48),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": 16,
    "d_ff": INNER,
    "num_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "num_heads": HEADS,
}
WHISPER = {
    **SEQ2SEQ,
    "num_mel_bins": 40,
    "max_source_positions": 50,
    "max_target_positions": LENGTH,
    "pad_token_id": 0,
}
OTHER_NAMES = {
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": LENGTH,
    },
    "distilbert": {
        "vocab_size": VOCABULARY,
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": INNER,
        "max_position_embeddings": LENGTH,
    },
}


@dataclass(frozen=True)
class Recipe:
    """A model class, its configuration class and values, and what it reads.

    inputs: "ids", "ids+mask", "image", "wave", "mel", "encoder+ids" or "decoder".
    """

    model: str
    config: str
    values: Mapping[str, Any]
    inputs: str
    part: str = ""


RECIPES: dict[str, Recipe] = {
    "bert": Recipe("BertForSequenceClassification", "BertConfig", TEXT, "ids+mask"),
    "distilbert": Recipe(
        "DistilBertForSequenceClassification", "DistilBertConfig", OTHER_NAMES["distilbert"], "ids+mask"
    ),
    "gpt2": Recipe("GPT2LMHeadModel", "GPT2Config", OTHER_NAMES["gpt2"], "ids"),
    "t5_encoder": Recipe("T5EncoderModel", "T5Config", T5, "ids+mask"),
    "t5_decoder": Recipe("T5ForConditionalGeneration", "T5Config", T5, "decoder"),
    "llama_gqa": Recipe("LlamaForCausalLM", "LlamaConfig", GROUPED, "ids"),
    "whisper_encoder": Recipe("WhisperModel", "WhisperConfig", WHISPER, "mel", "encoder"),
    "vit": Recipe("ViTForImageClassification", "ViTConfig", VISION, "image"),
    "whisper_decoder": Recipe("WhisperForConditionalGeneration", "WhisperConfig", WHISPER, "decoder"),
    "t5_gated_encoder": Recipe(
        "T5EncoderModel", "T5Config", {**T5, "feed_forward_proj": "gated-gelu"}, "ids+mask"
    ),
    "bert_base_encoder": Recipe("BertModel", "BertConfig", TEXT, "ids+mask"),
    "roberta": Recipe("RobertaForSequenceClassification", "RobertaConfig", TEXT, "ids+mask"),
    "albert": Recipe(
        "AlbertForSequenceClassification", "AlbertConfig", {**TEXT, "embedding_size": 32}, "ids+mask"
    ),
    "electra": Recipe(
        "ElectraForSequenceClassification", "ElectraConfig", {**TEXT, "embedding_size": 32}, "ids+mask"
    ),
    "mobilebert": Recipe(
        "MobileBertForSequenceClassification",
        "MobileBertConfig",
        {**TEXT, "embedding_size": 32, "intra_bottleneck_size": 48, "num_attention_heads": 4},
        "ids+mask",
    ),
    "mpnet": Recipe("MPNetForSequenceClassification", "MPNetConfig", TEXT, "ids+mask"),
    "deberta_v2": Recipe(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "ids+mask",
    ),
    "modernbert": Recipe(
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        {
            **TEXT,
            "pad_token_id": 0,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "ids+mask",
    ),
    "mistral": Recipe("MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 8}, "ids"),
    "qwen2": Recipe("Qwen2ForCausalLM", "Qwen2Config", GROUPED, "ids"),
    "qwen3": Recipe("Qwen3ForCausalLM", "Qwen3Config", GROUPED, "ids"),
    "gemma": Recipe("GemmaForCausalLM", "GemmaConfig", GROUPED, "ids"),
    "phi": Recipe("PhiForCausalLM", "PhiConfig", {**TEXT, "num_key_value_heads": HEADS}, "ids"),
    "phi3": Recipe("Phi3ForCausalLM", "Phi3Config", {**GROUPED, "pad_token_id": 0}, "ids"),
    "opt": Recipe(
        "OPTForCausalLM", "OPTConfig", {**TEXT, "ffn_dim": INNER, "word_embed_proj_dim": WIDTH}, "ids"
    ),
    "gpt_neox": Recipe("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT, "ids"),
    "bloom": Recipe(
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS},
        "ids",
    ),
    "falcon_mqa": Recipe("FalconForCausalLM", "FalconConfig", {**TEXT, "multi_query": True}, "ids"),
    "olmo": Recipe("OlmoForCausalLM", "OlmoConfig", GROUPED, "ids"),
    "stablelm": Recipe("StableLmForCausalLM", "StableLmConfig", GROUPED, "ids"),
    "mixtral": Recipe("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 4}, "ids"),
    "mamba": Recipe(
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8},
        "ids",
    ),
    "bart": Recipe("BartForConditionalGeneration", "BartConfig", SEQ2SEQ, "decoder"),
    "marian": Recipe("MarianMTModel", "MarianConfig", {**SEQ2SEQ, "pad_token_id": 0}, "decoder"),
    "deit": Recipe("DeiTForImageClassification", "DeiTConfig", VISION, "image"),
    "beit": Recipe("BeitForImageClassification", "BeitConfig", VISION, "image"),
    "dinov2": Recipe("Dinov2ForImageClassification", "Dinov2Config", VISION, "image"),
    "clip_vision": Recipe("CLIPVisionModel", "CLIPVisionConfig", VISION, "image"),
    "clip_text": Recipe("CLIPTextModel", "CLIPTextConfig", {**TEXT, "eos_token_id": 2}, "ids"),
    "siglip_vision": Recipe("SiglipVisionModel", "SiglipVisionConfig", VISION, "image"),
    "segformer": Recipe(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"hidden_sizes": [16, 32, 48, 64], "decoder_hidden_size": 48, "depths": [1, 1, 1, 1]},
        "image",
    ),
    "mobilevit": Recipe(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {"image_size": 64, "hidden_sizes": [48, 64, 80], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 160]},
        "image",
    ),
    "swin": Recipe(
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 24,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        "image",
    ),
    "wav2vec2": Recipe("Wav2Vec2ForCTC", "Wav2Vec2Config", {**SPEECH, "num_feat_extract_layers": 3}, "wave"),
    "hubert": Recipe("HubertForCTC", "HubertConfig", {**SPEECH, "num_feat_extract_layers": 3}, "wave"),
}


def names() -> list[str]:
    """Return the names, the ones that are asked for most first."""
    return list(RECIPES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model with random weights."""
    torch.manual_seed(options.seed)
    return export(_example(RECIPES[name]), path, options)


def _example(recipe: Recipe) -> Example:
    config = getattr(transformers, recipe.config)(**recipe.values)
    config.use_cache = False
    config._attn_implementation = "eager"
    model = getattr(transformers, recipe.model)(config)
    if recipe.part:
        model = getattr(model, recipe.part)
    return INPUTS[recipe.inputs](model)


class _One(nn.Module):
    """A model called with one keyword; returns its first output (logits or hidden states)."""

    def __init__(self, inner: nn.Module, keyword: str) -> None:
        super().__init__()
        self.inner = inner
        self.keyword = keyword

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        """Return the first output."""
        result: torch.Tensor = self.inner(**{self.keyword: a}, return_dict=False)[0]
        return result


class _Masked(nn.Module):
    """A text encoder called with ids and a mask."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the first output."""
        result: torch.Tensor = self.inner(input_ids=ids, attention_mask=mask, return_dict=False)[0]
        return result


class _Decode(nn.Module):
    """A decoder with its head, given the encoder's hidden states."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.decoder = inner.get_decoder()
        self.head = inner.get_output_embeddings()

    def forward(self, ids: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return logits float32 [batch, tokens, vocabulary]."""
        hidden = self.decoder(
            input_ids=ids, encoder_hidden_states=states, use_cache=False, return_dict=False
        )[0]
        result: torch.Tensor = self.head(hidden)
        return result


def _ids() -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (2, TOKENS))


def _from_ids(model: nn.Module) -> Example:
    return Example(_One(model, "input_ids"), (_ids(),), ("input_ids",), ({0: "batch", 1: "tokens"},))


def _from_ids_and_mask(model: nn.Module) -> Example:
    words = ("input_ids", "attention_mask")
    axes = ({0: "batch", 1: "tokens"},) * 2
    return Example(_Masked(model), (_ids(), torch.ones(2, TOKENS, dtype=torch.int64)), words, axes)


def _from_image(model: nn.Module) -> Example:
    return Example(_One(model, "pixel_values"), (image(64, 64),), ("pixel_values",))


def _from_wave(model: nn.Module) -> Example:
    return Example(_One(model, "input_values"), (torch.randn(2, 1600),), ("input_values",))


def _from_mel(model: nn.Module) -> Example:
    return Example(_One(model, "input_features"), (torch.randn(2, 40, 100),), ("input_features",))


def _decoder(model: nn.Module) -> Example:
    axes = ({0: "batch", 1: "tokens"}, {0: "batch", 1: "source"})
    states = torch.randn(2, 9, WIDTH)
    return Example(_Decode(model), (_ids(), states), ("decoder_input_ids", "encoder_hidden_states"), axes)


INPUTS: dict[str, Callable[[nn.Module], Example]] = {
    "ids": _from_ids,
    "ids+mask": _from_ids_and_mask,
    "image": _from_image,
    "wave": _from_wave,
    "mel": _from_mel,
    "decoder": _decoder,
}
