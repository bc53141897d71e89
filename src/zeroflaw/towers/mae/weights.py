"""Weights of a masked autoencoder, from a folder in Hugging Face's layout of ``ViTMAEForPreTraining``.

The folder holds ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``. What is published
most often, the encoder alone (``ViTMAEModel``, or a classifier fine-tuned from it), cannot reconstruct and is
refused. A missing key of the configuration means what it means to `transformers`: its default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import pick_device, pick_dtype
from zeroflaw.towers.folder import (
    CARD,
    CONFIG,
    PREPROCESSORS,
    WEIGHTS,
    digest_of,
    read_json,
    read_tensors,
    reading,
)
from zeroflaw.towers.mae.autoencoder import Autoencoder
from zeroflaw.towers.mae.model import MAE, MAEConfig, StackConfig
from zeroflaw.towers.records import LOCAL

FILES = f"{CONFIG}, {PREPROCESSORS[0]} and {WEIGHTS}"
_WANTED = f"{FILES} of a Hugging Face ViTMAEForPreTraining (facebook/vit-mae-base, say)"
_RESAMPLE: dict[int, Literal["bilinear", "bicubic"]] = {
    2: "bilinear",
    3: "bicubic",
}  # numbers of Pillow's filters


def folder_of(name: str) -> Path:
    """Return the folder that a backbone's name means.

    Raises:
        UsageError: it is not ``local-dir:FOLDER``; no masked autoencoder has another name.
    """
    if not name.startswith(LOCAL):
        raise UsageError(
            f"masked-autoencoder weights with a decoder are needed, and '{name}' is no name of such; give a "
            f"folder with {_WANTED}: --backbone {LOCAL}FOLDER"
        )
    # Path.expanduser raises where there is no such user; this leaves the name alone.
    return Path(os.path.expanduser(name.removeprefix(LOCAL)))  # noqa: PTH111


def load_autoencoder(name: str, *, device: str = "auto", dtype: str = "float32") -> Autoencoder:
    """Load a masked autoencoder.

    Args:
        name: ``local-dir:FOLDER``.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".

    Raises:
        UsageError: the name, device or number type cannot be had.
        WeightsError: the folder is missing, damaged, or holds something else; the message says what.
    """
    place, kind = pick_device(device), pick_dtype(dtype)  # before anything large is read
    folder = folder_of(name)
    with reading(folder):
        config, preprocess = _read_settings(folder)
        weights = folder / WEIGHTS
        _check_file(folder, WEIGHTS)
        model = _build(config, rename(_with_decoder(read_tensors(weights), folder)), str(weights))
        return Autoencoder(
            model=model.to(device=place, dtype=kind),
            preprocess=preprocess,
            name=folder.resolve().name,
            source="a Hugging Face folder",
            sha256=digest_of(weights),
            licence=_licence(folder / CARD),
            revision=None,
            device=place,
            dtype=kind,
        )


def _check_file(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        found = ", ".join(there[:8]) or ("nothing" if folder.is_dir() else "no folder")
        raise WeightsError(
            f"weights of a masked autoencoder are a folder with {_WANTED}; {folder} has {found}; fetch "
            f"{name} too (a pickled pytorch_model.bin is not read; save_pretrained of transformers writes "
            "safetensors)"
        )


def _read_settings(folder: Path) -> tuple[MAEConfig, Preprocess]:
    _check_file(folder, CONFIG)
    raw = read_json(folder / CONFIG)
    if raw.get("model_type") != "vit_mae":
        raise WeightsError(
            f"{folder / CONFIG} must be of a masked autoencoder (model_type vit_mae), got "
            f"{str(raw.get('model_type'))[:40]}; give a folder with {_WANTED}"
        )
    config = read_config(raw)
    described = next((name for name in PREPROCESSORS if (folder / name).is_file()), PREPROCESSORS[0])
    _check_file(folder, described)
    return config, _read_preprocess(read_json(folder / described), config.image_size)


def read_config(raw: Mapping[str, Any]) -> MAEConfig:
    """Read a ``ViTMAEConfig`` from JSON values.

    Raises:
        WeightsError: a number is absurd or does not fit the others, or the network is one that we do not
            build.
    """
    for key, wanted in {"hidden_act": "gelu", "num_channels": 3}.items():
        if raw.get(key, wanted) != wanted:
            raise WeightsError(f"{key} of a masked autoencoder must be {wanted}, got {str(raw[key])[:40]}")
    config = MAEConfig(
        image_size=_whole(raw, "image_size", 224),
        patch_size=_whole(raw, "patch_size", 16),
        encoder=StackConfig(
            width=_whole(raw, "hidden_size", 768),
            layers=_whole(raw, "num_hidden_layers", 12),
            heads=_whole(raw, "num_attention_heads", 12),
            mlp_width=_whole(raw, "intermediate_size", 3072),
        ),
        decoder=StackConfig(
            width=_whole(raw, "decoder_hidden_size", 512),
            layers=_whole(raw, "decoder_num_hidden_layers", 8),
            heads=_whole(raw, "decoder_num_attention_heads", 16),
            mlp_width=_whole(raw, "decoder_intermediate_size", 2048),
        ),
        norm_eps=_real(raw.get("layer_norm_eps", 1e-12), "layer_norm_eps"),
        qkv_bias=_flag(raw, "qkv_bias", True),
        normalised_targets=_flag(raw, "norm_pix_loss", False),
    )
    _check_config(config)
    return config


def _check_config(config: MAEConfig) -> None:
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack.width % stack.heads:
            raise WeightsError(
                f"the {name}'s width must be a multiple of its heads, got {stack.width} and {stack.heads}"
            )
        if stack.layers > 128:
            raise WeightsError(f"the {name} may have at most 128 blocks, got {stack.layers}")
    if config.image_size % config.patch_size or config.patches < 2:
        raise WeightsError(
            "image_size must be a multiple of patch_size, and not the same, got "
            f"{config.image_size} and {config.patch_size}"
        )
    if config.norm_eps <= 0:
        raise WeightsError(f"layer_norm_eps must be above zero, got {config.norm_eps}")


def _whole(raw: Mapping[str, Any], key: str, default: int) -> int:
    value = raw.get(key, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]  # a square, written as height and width
    if type(value) is not int or not 1 <= value <= 65_536:
        raise WeightsError(f"{key} must be one whole number from 1 to 65,536, got {str(value)[:40]}")
    return value


def _real(value: object, key: str) -> float:
    # A whole number may be too large for a float, so it is compared before it is converted.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise WeightsError(f"{key} must be a finite number, got {str(value)[:40]}")
    return float(value)


def _flag(raw: Mapping[str, Any], key: str, default: bool) -> bool:
    value = raw.get(key, default)
    if not isinstance(value, bool):
        raise WeightsError(f"{key} must be true or false, got {str(value)[:40]}")
    return value


def _read_preprocess(raw: Mapping[str, Any], image_size: int) -> Preprocess:
    inner = raw.get("image_processor", raw)
    resample = inner.get("resample", 2) if isinstance(inner, Mapping) else None
    if not isinstance(resample, int) or resample not in _RESAMPLE:
        raise WeightsError(
            f"{PREPROCESSORS[0]} must describe images, with a resample of 2 (bilinear) or 3 (bicubic)"
        )
    mean, std = _colours(inner, "image_mean"), _colours(inner, "image_std")
    if min(std) <= 0:
        raise WeightsError(f"image_std must be above zero, got {std}")
    return Preprocess(
        image_size=image_size,
        mean=mean,
        std=std,
        interpolation=_RESAMPLE[resample],
    )


def _colours(raw: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = raw.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise WeightsError(f"{key} must be three numbers, got {str(values)[:40]}; fetch the file again")
    red, green, blue = (_real(value, key) for value in values)
    return red, green, blue


def _licence(card: Path) -> str:
    """Return what the header of a model card says of the licence."""
    if not card.is_file():
        return "unknown"
    with card.open(encoding="utf-8", errors="replace") as lines:
        header = lines.read(10_000).partition("---\n")[2].partition("---\n")[0]
    found = re.search(r"^license:[ \t]*([\w.\-]+)[ \t]*$", header, re.MULTILINE)
    return found.group(1) if found else "unknown"


def _with_decoder(state: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
    if not any(name.startswith("decoder.") for name in state):
        raise WeightsError(
            f"masked-autoencoder weights with a decoder are needed, but {folder / WEIGHTS} holds the encoder "
            f"only, which cannot reconstruct; give {_WANTED}, whose tensors begin with 'vit.' and 'decoder.'"
        )
    return state


# Two generations of transformers name the same tensors differently; a third form is what its newest
# save_pretrained writes for the decoder. Order matters: "attention.output.dense" before "output.dense".
_RULES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^vit\.embeddings\.cls_token$", "encoder.class_token"),
        (r"^vit\.embeddings\.position_embeddings$", "encoder.positions"),
        (r"^vit\.embeddings\.patch_embeddings\.projection\.", "encoder.patch_embedding."),
        (r"^vit\.(?:encoder\.layer|layers)\.", "encoder.blocks."),
        (r"^vit\.layernorm\.", "encoder.norm."),
        (r"^decoder\.decoder_embed\.", "decoder.embed."),
        (r"^decoder\.decoder_pos_embed$", "decoder.positions"),
        (r"^decoder\.(?:decoder_encoder\.layer|decoder_layers)\.", "decoder.blocks."),
        (r"^decoder\.decoder_norm\.", "decoder.norm."),
        (r"^decoder\.decoder_pred\.", "decoder.predict."),
        (r"\.attention\.(?:attention\.query|q_proj)\.", ".attn.query."),
        (r"\.attention\.(?:attention\.key|k_proj)\.", ".attn.key."),
        (r"\.attention\.(?:attention\.value|v_proj)\.", ".attn.value."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.out."),
        (r"\.(?:intermediate\.dense|mlp\.fc1)\.", ".mlp.0."),
        (r"\.(?:output\.dense|mlp\.fc2)\.", ".mlp.2."),
        (r"\.layernorm_before\.", ".ln_1."),
        (r"\.layernorm_after\.", ".ln_2."),
    )
)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a ``ViTMAEForPreTraining`` our names; ``decoder.mask_token`` has it already."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, ours in _RULES:
            name = pattern.sub(ours, name)
        renamed[name] = tensor
    return renamed


def _build(config: MAEConfig, state: Mapping[str, Tensor], source: str) -> MAE:
    """Fill a network with weights, as float32 and frozen."""
    with torch.device("meta"):  # shapes are compared before memory is taken
        model = MAE(config)
    wanted = model.state_dict()
    odd = sorted(wanted.keys() ^ state.keys())
    if odd:
        word = "is missing" if odd[0] in wanted else "is not part of this network"
        raise WeightsError(
            f"the weights in {source} must match their configuration, but tensor '{odd[0]}' (and "
            f"{len(odd) - 1} more) {word}; use weights and configuration that belong together"
        )
    loaded = {name: _checked(name, state[name], tensor.shape, source) for name, tensor in wanted.items()}
    model.load_state_dict(loaded, assign=True)
    return model.eval().requires_grad_(False)


def _checked(name: str, tensor: Tensor, shape: torch.Size, source: str) -> Tensor:
    if tensor.shape != shape or not tensor.is_floating_point():
        raise WeightsError(
            f"tensor '{name}' in {source} must be of real numbers with shape {tuple(shape)}, got "
            f"{tensor.dtype} {tuple(tensor.shape)}; use weights and configuration that belong together"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(
            f"tensor '{name}' in {source} must be finite, got NaN or infinity; fetch the weights again"
        )
    return tensor.to(torch.float32).contiguous()
