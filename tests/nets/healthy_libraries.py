"""Healthy nets of torchvision, timm and transformers: small, and without downloads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nets.healthy import Healthy, images
from torch import nn


def _torchvision(name: str) -> nn.Module:
    return getattr(importlib.import_module("torchvision").models, name)(
        weights=None, num_classes=10
    )


def _timm(name: str, **more: Any) -> nn.Module:
    return importlib.import_module("timm").create_model(name, num_classes=10, **more)


TORCHVISION = {
    64: (
        *("alexnet", "vgg11", "vgg13_bn", "resnet18", "resnet50", "resnext50_32x4d"),
        *("wide_resnet50_2", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"),
        *("squeezenet1_1", "shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf"),
        *("convnext_tiny", "swin_t", "regnet_x_400mf", "resnet34", "mobilenet_v3_large"),
    ),
    224: ("vit_b_32",),
}
TIMM = {
    64: (
        *("resnet10t", "resnet26d", "efficientnet_b0", "tinynet_e", "lcnet_035", "regnetx_002"),
        *("regnety_002", "mobilenetv3_small_050", "ghostnet_050", "hardcorenas_a", "fbnetc_100"),
        *("mobileone_s0", "repvgg_a0", "convnext_atto", "nf_regnet_b0", "resnetv2_50x1_bit"),
        *("edgenext_xx_small", "semnasnet_050", "skresnet18", "dla46_c", "convnextv2_atto"),
        *("selecsls42", "hrnet_w18_small", "ese_vovnet19b_dw", "res2net50_14w_8s"),
    ),
    224: ("deit_tiny_patch16_224", "mixer_s32_224", "resmlp_12_224", "xcit_nano_12_p16_224"),
}


def _text(prefix: str, head: str, **more: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        return getattr(library, head)(getattr(library, f"{prefix}Config")(**more))

    return build


_SIZES = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
_WIDE = _SIZES | {"intermediate_size": 128}
_PLAIN = _WIDE | {"max_position_embeddings": 64}
_HEADS = _PLAIN | {"num_key_value_heads": 2}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

TRANSFORMERS = {
    "GPT-2": _text("GPT2", "GPT2LMHeadModel", vocab_size=100, n_embd=64, n_layer=4, n_head=4),
    "Llama": _text("Llama", "LlamaForCausalLM", **_HEADS),
    "Mistral": _text("Mistral", "MistralForCausalLM", **_HEADS),
    "Qwen2": _text("Qwen2", "Qwen2ForCausalLM", **_HEADS),
    "Gemma": _text("Gemma", "GemmaForCausalLM", head_dim=16, **_HEADS),
    "BERT": _text("Bert", "BertForMaskedLM", **_PLAIN),
    "RoBERTa": _text("Roberta", "RobertaForMaskedLM", **_PLAIN, **_TOKENS),
    "ELECTRA": _text("Electra", "ElectraForPreTraining", embedding_size=64, **_PLAIN),
    "GPT-NeoX": _text("GPTNeoX", "GPTNeoXForCausalLM", **_PLAIN),
    "BLOOM": _text(
        "Bloom", "BloomForCausalLM", vocab_size=100, hidden_size=64, n_layer=4, n_head=4
    ),
    "Phi": _text("Phi", "PhiForCausalLM", **_PLAIN),
    "OPT": _text(
        "OPT",
        "OPTForCausalLM",
        ffn_dim=128,
        word_embed_proj_dim=64,
        max_position_embeddings=64,
        **_SIZES,
    ),
    "ALBERT": _text("Albert", "AlbertForMaskedLM", embedding_size=32, **_PLAIN),
    "Mixtral": _text("Mixtral", "MixtralForCausalLM", num_local_experts=4, **_HEADS),
    "Falcon": _text("Falcon", "FalconForCausalLM", **_SIZES),
    "Mamba": _text(
        "Mamba", "MambaForCausalLM", vocab_size=100, hidden_size=64, num_hidden_layers=4
    ),
    "StableLM": _text("StableLm", "StableLmForCausalLM", **_HEADS),
}


def _tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(3, 100, (4, 24))}


def libraries() -> list[Healthy]:
    """Every net of the three libraries."""
    made = []
    for source, make, table in (("torchvision", _torchvision, TORCHVISION), ("timm", _timm, TIMM)):
        for size, names in table.items():
            n = 8 if size < 100 else 2
            made += [Healthy(f"{source} {k}", partial(make, k), images(size, n)) for k in names]
    return made + [Healthy(f"transformers {k}", b, _tokens) for k, b in TRANSFORMERS.items()]
