"""A tiny random masked autoencoder in Hugging Face's published layout, written without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

CONFIG: Mapping[str, Any] = {
    "model_type": "vit_mae",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 40,
    "layer_norm_eps": 1e-12,
    "image_size": 48,
    "patch_size": 8,
    "num_channels": 3,
    "qkv_bias": True,
    "norm_pix_loss": False,
}
PREPROCESSOR: Mapping[str, Any] = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": 48,
}


def _layer(prefix: str, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    parts = {
        "attention.attention.query": (width, width),
        "attention.attention.key": (width, width),
        "attention.attention.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (inner, width),
        "output.dense": (width, inner),
        "layernorm_before": (width,),
        "layernorm_after": (width,),
    }
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in parts.items():
        found[f"{prefix}{name}.weight"] = shape
        found[f"{prefix}{name}.bias"] = shape[:1]
    return found


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a published ViTMAEForPreTraining."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    narrow, narrow_inner = config["decoder_hidden_size"], config["decoder_intermediate_size"]
    patch = config["patch_size"]
    places = (config["image_size"] // patch) ** 2 + 1
    found: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, places, width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
        "vit.layernorm.weight": (width,),
        "vit.layernorm.bias": (width,),
        "decoder.mask_token": (1, 1, narrow),
        "decoder.decoder_pos_embed": (1, places, narrow),
        "decoder.decoder_embed.weight": (narrow, width),
        "decoder.decoder_embed.bias": (narrow,),
        "decoder.decoder_norm.weight": (narrow,),
        "decoder.decoder_norm.bias": (narrow,),
        "decoder.decoder_pred.weight": (3 * patch * patch, narrow),
        "decoder.decoder_pred.bias": (3 * patch * patch,),
    }
    for number in range(config["num_hidden_layers"]):
        found |= _layer(f"vit.encoder.layer.{number}.", width, inner)
    for number in range(config["decoder_num_hidden_layers"]):
        found |= _layer(f"decoder.decoder_layers.{number}.", narrow, narrow_inner)
    return found


def random_state(config: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Seeded random tensors, large enough for every layer to matter."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(config).items():
        spread = 0.3 if len(shape) != 2 else shape[1] ** -0.5
        state[name] = spread * torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            state[name] += 1
    return state


def write_mae(
    folder: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
    preprocessor: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a folder; what is given replaces or changes the usual."""
    settings = {**CONFIG, **(config or {})}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_state(settings, seed) if state is None else dict(state)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    pixels = json.dumps({**PREPROCESSOR, **(preprocessor or {})})
    (folder / "preprocessor_config.json").write_text(pixels, encoding="utf-8")
    return folder


def constant_state(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of an autoencoder that takes every pixel for the mean colour, whatever it sees."""
    state = random_state(config)
    for name in ("decoder.decoder_pred.weight", "decoder.decoder_pred.bias"):
        state[name] = torch.zeros_like(state[name])
    return state
