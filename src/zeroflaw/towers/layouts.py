"""The three published layouts of a CLIP, as pure functions: tensors renamed to ours, configurations read and
checked.

- OpenAI: ``visual.conv1.weight``, ``transformer.resblocks.0...``; no configuration, so sizes are read off the
  shapes, heads are 64 wide and the activation is QuickGELU.
- open_clip: names as OpenAI's, text under ``text.`` in its custom variant; ``open_clip_config.json``.
- Hugging Face: ``vision_model...``, ``text_model...``, with q, k and v apart and projections transposed;
  ``config.json`` and ``preprocessor_config.json``.

A key that would change what the model computes and that we do not build is refused by name, never ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from zeroflaw.errors import WeightsError
from zeroflaw.runtime.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zeroflaw.towers.model import Activation, CLIPConfig
from zeroflaw.towers.schema import read_config, read_preprocess

Layout = Literal["zeroflaw", "openai", "huggingface"]
State = dict[str, Tensor]
Json = Mapping[str, Any]

HEAD_WIDTH = 64  # of OpenAI's models, and of open_clip's unless they say otherwise

# Buffers and settings that published files carry and that hold no weights.
_IGNORED = re.compile(r"(.*\.)?(position_ids|attn_mask)|input_resolution|context_length|vocab_size")

_OPENAI_BLOCK = {
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj.": "attn.out.",
    "mlp.c_fc.": "mlp.0.",
    "mlp.c_proj.": "mlp.2.",
    "ln_1.": "ln_1.",
    "ln_2.": "ln_2.",
}
_OPENAI_VISION = {
    "conv1.weight": "patch_embedding.conv.weight",
    "class_embedding": "class_embedding",
    "positional_embedding": "positions",
    "proj": "projection",
    "ln_pre.": "ln_pre.",
    "ln_post.": "ln_post.",
}
_OPENAI_TEXT = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "positions",
    "text_projection": "projection",
    "ln_final.": "ln_final.",
}
_HF_BLOCK = {
    "self_attn.out_proj.": "attn.out.",
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.2.",
}
_HF_TOWER = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "patch_embedding.conv.weight",
    "embeddings.position_embedding.weight": "positions",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "pre_layrnorm.": "ln_pre.",  # spelt so in the published files
    "post_layernorm.": "ln_post.",
    "final_layer_norm.": "ln_final.",
}
_HF_PROJECTIONS = {
    "visual_projection.weight": "vision.projection",
    "text_projection.weight": "text.projection",
}


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """Recognise a layout by its names; None for anything else."""
    if "visual.conv1.weight" in state:
        return "openai"
    if "vision_model.embeddings.class_embedding" in state:
        return "huggingface"
    if "vision.class_embedding" in state:
        return "zeroflaw"
    return None


def rename(state: Mapping[str, Tensor]) -> State:
    """Rename the tensors of any known layout to ours; a name that no rule knows is kept, and refused when it
    is loaded.

    Raises:
        WeightsError: the layout is not one of the three, or a part of a fused tensor is missing.
    """
    layout = layout_of(state)
    kept = {name: tensor for name, tensor in state.items() if not _IGNORED.fullmatch(name)}
    if "logit_scale" in kept and kept["logit_scale"].shape == (1,):
        kept["logit_scale"] = kept["logit_scale"][0]  # some versions of open_clip give it an axis
    if layout == "openai":
        return {_from_openai(name): tensor for name, tensor in kept.items()}
    if layout == "huggingface":
        return _from_hugging_face(kept)
    if layout == "zeroflaw":
        return kept
    example = ", ".join(sorted(state)[:3]) or "nothing"
    raise WeightsError(
        "weights must be in the layout of OpenAI, open_clip, Hugging Face or zeroflaw, got tensors such as "
        f"{example}; use the weights of a vision-transformer CLIP"
    )


def _from_openai(name: str) -> str:
    if name == "logit_scale":
        return name
    tower, rest, rules = "text", name.removeprefix("text."), _OPENAI_TEXT
    if name.startswith("visual."):
        tower, rest, rules = "vision", name.removeprefix("visual."), _OPENAI_VISION
    block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", rest)
    if block:
        return f"{tower}.blocks.{block[1]}.{_translate(block[2], _OPENAI_BLOCK)}"
    return f"{tower}.{_translate(rest, rules)}"


def _from_hugging_face(state: Mapping[str, Tensor]) -> State:
    renamed: State = {}
    separate: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part = re.fullmatch(
            r"(vision|text)_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name
        )
        if part:
            fused = f"{part[1]}.blocks.{part[2]}.attn.qkv.{part[4]}"
            separate.setdefault(fused, {})[part[3]] = tensor
        elif name in _HF_PROJECTIONS:
            renamed[_HF_PROJECTIONS[name]] = tensor.T
        else:
            renamed[_hugging_face_name(name)] = tensor
    return renamed | {name: _fuse(name, parts) for name, parts in separate.items()}


def _hugging_face_name(name: str) -> str:
    found = re.fullmatch(r"(vision|text)_model\.(.+)", name)
    if not found:
        return name
    tower, rest = found.groups()
    block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", rest)
    if block:
        return f"{tower}.blocks.{block[1]}.{_translate(block[2], _HF_BLOCK)}"
    return f"{tower}.{_translate(rest, _HF_TOWER)}"


def _fuse(name: str, parts: Mapping[str, Tensor]) -> Tensor:
    if parts.keys() != {"q", "k", "v"} or len({part.shape for part in parts.values()}) != 1:
        raise WeightsError(
            f"'{name}' must be made of q, k and v of one shape, got {sorted(parts)}; fetch the weights again"
        )
    return torch.cat([parts[letter] for letter in "qkv"])


def _translate(name: str, rules: Mapping[str, str]) -> str:
    for theirs, ours in rules.items():
        if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
            return ours + name[len(theirs) :]
    return name


def infer_config(state: Mapping[str, Tensor], activation: Activation) -> CLIPConfig:
    """Read the configuration of OpenAI-layout weights, already renamed, off their shapes; heads are 64 wide.

    Raises:
        WeightsError: a tensor that the sizes are read from is missing or impossible.
    """
    try:
        width, _, patch, _ = state["vision.patch_embedding.conv.weight"].shape
        positions, embed_dim = state["vision.positions"].shape[0], state["vision.projection"].shape[1]
        context = state["text.positions"].shape[0]
        vocabulary, text_width = state["text.token_embedding.weight"].shape
        grid = math.isqrt(positions - 1)
        vision = {"image_size": grid * patch, "patch_size": patch, **_tower(state, "vision", width)}
        text = {"context_length": context, "vocab_size": vocabulary, **_tower(state, "text", text_width)}
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"the sizes of the model must be readable from its tensors, got trouble with {error}"
        ) from error
    return read_config(
        {
            "embed_dim": embed_dim,
            "vision": vision | {"activation": activation},
            "text": text | {"activation": activation},
        }
    )


def _tower(state: Mapping[str, Tensor], tower: str, width: int) -> dict[str, int]:
    layers = len([name for name in state if re.fullmatch(rf"{tower}\.blocks\.\d+\.ln_1\.weight", name)])
    mlp = state[f"{tower}.blocks.0.mlp.0.weight"].shape[0]
    return {"width": width, "layers": layers, "heads": max(1, width // HEAD_WIDTH), "mlp_width": mlp}


# open_clip --------------------------------------------------------------------------------------------------
# ----------------

_VISION_KEYS = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
# These change nothing in what an encoder computes once it is trained, or only say where files are.
_HARMLESS = {"patch_dropout", "output_tokens", "hf_tokenizer_name"}


def open_clip_config(raw: Json) -> tuple[CLIPConfig, Preprocess]:
    """Read ``open_clip_config.json``; the activation is what its ``quick_gelu`` says.

    Raises:
        WeightsError: it is not of a plain vision-transformer CLIP.
    """
    model = _object(raw, "model_cfg", "open_clip_config.json")
    vision, text = (_object(model, key, "model_cfg") for key in ("vision_cfg", "text_cfg"))
    _refuse_unknown(model, {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"}, "model_cfg")
    _refuse_unknown(vision, _VISION_KEYS, "vision_cfg")
    _refuse_unknown(text, _TEXT_KEYS, "text_cfg")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    try:
        config = {
            "embed_dim": model["embed_dim"],
            "vision": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "heads": vision["width"] // vision.get("head_width", HEAD_WIDTH),
                **_open_clip_tower(vision, activation),
            },
            "text": {
                "context_length": text.get("context_length", 77),
                "vocab_size": text.get("vocab_size", 49408),
                "heads": text["heads"],
                **_open_clip_tower(text, activation),
            },
        }
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"open_clip_config.json must give all sizes, got trouble with {error}") from error
    found = read_config(config)
    return found, _open_clip_preprocess(raw, found)


def _open_clip_tower(raw: Json, activation: str) -> dict[str, Any]:
    width, ratio = raw["width"], raw.get("mlp_ratio", 4.0)
    # Python would multiply text, too, and into any length.
    if type(width) is not int or type(ratio) not in (int, float):
        raise TypeError(f"width {str(width)[:40]} and mlp_ratio {str(ratio)[:40]}")
    mlp = int(width * ratio)
    return {"width": width, "layers": raw["layers"], "mlp_width": mlp, "activation": activation}


def _open_clip_preprocess(whole: Json, config: CLIPConfig) -> Preprocess:
    raw = _object(whole, "preprocess_cfg", "open_clip_config.json") if whole.get("preprocess_cfg") else {}
    return read_preprocess(
        {
            "image_size": config.vision.image_size,
            "mean": raw.get("mean", OPENAI_MEAN),
            "std": raw.get("std", OPENAI_STD),
            "interpolation": raw.get("interpolation", "bicubic"),
        },
        config,
    )


def _refuse_unknown(raw: Json, known: set[str], where: str) -> None:
    for key, value in raw.items():
        if key not in known | _HARMLESS and value not in (None, False, 0, "", {}):
            raise WeightsError(
                f"'{where}' may only describe a plain vision-transformer CLIP, got '{key}': "
                f"{str(value)[:40]}, which zeroflaw does not build; use other weights"
            )


def _object(raw: Json, key: str, where: str) -> Json:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise WeightsError(
            f"{where} must have an object '{key}', got {str(value)[:40]}; fetch the file again"
        )
    return value


# Hugging Face -----------------------------------------------------------------------------------------------
# ----------------

# What the library fills in where a published config.json is silent.
_HF_TEXT = {
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_HF_VISION = {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def hugging_face_config(raw: Json) -> CLIPConfig:
    """Read Hugging Face's ``config.json``.

    Raises:
        WeightsError: it is not of a CLIP, or of one that we do not build.
    """
    if raw.get("model_type") != "clip":
        raise WeightsError(
            f"config.json must have model_type 'clip', got {str(raw.get('model_type'))[:40]!r}; use a CLIP"
        )
    # Older files give each tower twice; the library lets the "_dict" one win.
    vision, text = (
        _object(
            raw,
            f"{tower}_config_dict" if raw.get(f"{tower}_config_dict") else f"{tower}_config",
            "config.json",
        )
        for tower in ("vision", "text")
    )
    vision, text = _HF_VISION | dict(vision), _HF_TEXT | dict(text)
    return read_config(
        {
            "embed_dim": raw.get("projection_dim", 512),
            "vision": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                **_hugging_face_tower(vision),
            },
            "text": {
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
                **_hugging_face_tower(text),
            },
        }
    )


def _hugging_face_tower(raw: Json) -> dict[str, Any]:
    if raw["layer_norm_eps"] != 1e-5:
        raise WeightsError(f"layer_norm_eps must be 1e-05, got {raw['layer_norm_eps']}; use other weights")
    return {
        "width": raw["hidden_size"],
        "layers": raw["num_hidden_layers"],
        "heads": raw["num_attention_heads"],
        "mlp_width": raw["intermediate_size"],
        "activation": raw["hidden_act"],
    }


def hugging_face_preprocess(raw: Json, config: CLIPConfig) -> Preprocess:
    """Read Hugging Face's ``preprocessor_config.json`` (or the image part of its newer
    ``processor_config.json``).

    Raises:
        WeightsError: mean, deviation or filter is missing or not one that we know.
    """
    inner = raw.get("image_processor", raw)
    if not isinstance(inner, Mapping) or not {"image_mean", "image_std"} <= inner.keys():
        raise WeightsError(
            "preprocessor_config.json must give image_mean and image_std; fetch the file again"
        )
    resample = inner.get("resample", 3)
    known = _RESAMPLE.get(resample) if isinstance(resample, int) else None
    return read_preprocess(
        {
            "image_size": config.vision.image_size,
            "mean": inner["image_mean"],
            "std": inner["image_std"],
            "interpolation": known or f"number {resample}",
        },
        config,
    )
