"""Published layouts in our terms: tensors renamed, configurations translated. Pure functions.

- OpenAI and open_clip: ``visual.conv1.weight``, ``transformer.resblocks.0...``, text under ``text.`` in the
  custom variant; ``open_clip_config.json``. OpenAI's own have no configuration: sizes are read off the
  shapes, heads are 64 wide and the activation is QuickGELU.
- Hugging Face: ``vision_model...``, ``text_model...``, with queries, keys and values apart and projections
  transposed; ``config.json`` and ``preprocessor_config.json``. For autoencoders (``ViTMAEForPreTraining``)
  two generations of `transformers` have two sets of names, and its newest writer a third one for the decoder.

What a published file says is put under our names and checked there (`zeroflaw.towers.configs`). A key that
would change what the model computes and that we do not build is refused by name, never ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from zeroflaw.errors import WeightsError
from zeroflaw.files import read_toml
from zeroflaw.runtime.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zeroflaw.towers.configs import CLIPConfig, MAEConfig, from_json

T = TypeVar("T")

State = dict[str, Tensor]
Json = Mapping[str, Any]

HEAD_WIDTH = 64  # of OpenAI's models, and of open_clip's unless they say otherwise

_DATA = read_toml(Path(__file__).parent / "layouts.toml", 1 << 20, "list of layouts", WeightsError)
_RULES = [(re.compile(pattern), ours) for pattern, ours in _DATA["rules"]]
_TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
# Buffers and settings that published files carry and that hold no weights.
_IGNORED = re.compile(r"(.*\.)?(position_ids|attn_mask)|input_resolution|context_length|vocab_size")
_PART = re.compile(r"(.*\.attn\.)([qkv])(\.weight|\.bias)")


def rename(state: Mapping[str, Tensor]) -> State:
    """Give the tensors of any known layout our names, and put queries, keys and values into one.

    Raises:
        WeightsError: one of the three is missing.
    """
    found: State = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for theirs, tensor in state.items():
        if _IGNORED.fullmatch(theirs):
            continue
        name = theirs
        for pattern, ours in _RULES:
            name = pattern.sub(ours, name)
        if part := _PART.fullmatch(name):
            parts.setdefault(f"{part[1]}qkv{part[3]}", {})[part[2]] = tensor
        else:
            found[name] = tensor.T if theirs in _TRANSPOSED else tensor
    for name, three in parts.items():
        if three.keys() != {"q", "k", "v"} or len({part.shape for part in three.values()}) != 1:
            raise WeightsError(
                f"'{name}' must be made of q, k and v of one shape, got {sorted(three)}; fetch it again"
            )
        found[name] = torch.cat([three[letter] for letter in "qkv"])
    if "logit_scale" in found:
        found["logit_scale"] = found["logit_scale"].squeeze()  # some versions of open_clip give it an axis
    return found


def infer_config(state: Mapping[str, Tensor], where: str) -> CLIPConfig:
    """Read the shape of OpenAI's own weights, already renamed, off their tensors.

    Raises:
        WeightsError: a tensor that the sizes are read from is missing or impossible.
    """
    try:
        patch = state["vision.patch_embedding.conv.weight"].shape[-1]
        side = patch * math.isqrt(len(state["vision.positions"]) - 1)
        context, words = len(state["text.positions"]), len(state["text.token_embedding.weight"])
        raw = {
            "embed_dim": state["vision.projection"].shape[1],
            "vision": {"image_size": side, "patch_size": patch} | _stack(state, "vision"),
            "text": {"context_length": context, "vocab_size": words} | _stack(state, "text"),
        }
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise WeightsError(
            f"{where} must be weights of a vision-transformer CLIP by OpenAI, got trouble with {error}"
        ) from error
    return _read(CLIPConfig, raw, where)


def _stack(state: Mapping[str, Tensor], tower: str) -> dict[str, Any]:
    layers = sum(re.fullmatch(rf"{tower}\.blocks\.\d+\.ln_1\.weight", name) is not None for name in state)
    inner, width = state[f"{tower}.blocks.0.mlp.0.weight"].shape
    sizes = {"width": width, "layers": layers, "heads": max(1, width // HEAD_WIDTH), "mlp_width": inner}
    return sizes | {"activation": "quick_gelu"}


# Keys of open_clip's that are read, and those that change nothing in a trained encoder.
_OPEN_CLIP = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
_HARMLESS = {"patch_dropout", "output_tokens", "hf_tokenizer_name"}


def open_clip_settings(raw: Json, where: str) -> tuple[CLIPConfig, Preprocess]:
    """Read ``open_clip_config.json``; images are squashed, whatever its ``resize_mode`` says.

    Raises:
        WeightsError: it is not of a plain vision-transformer CLIP.
    """
    model = _object(raw, "model_cfg", where)
    vision, text = (_object(model, key, where) for key in ("vision_cfg", "text_cfg"))
    for name, part in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        for key, value in part.items():
            if key not in _OPEN_CLIP[name] | _HARMLESS and value not in (None, False, 0, "", {}):
                raise WeightsError(
                    f"{where} may only describe a plain vision-transformer CLIP, got '{key}' in '{name}', "
                    "which zeroflaw does not build; use other weights"
                )
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    towers = []
    for part in (vision, text):
        width = _number(part, "width")
        found = {key: part.get(key) for key in ("width", "layers")} | {"activation": activation}
        heads = part.get("heads", int(width // _number(part, "head_width", HEAD_WIDTH)))
        towers.append(found | {"heads": heads, "mlp_width": int(width * _number(part, "mlp_ratio", 4.0))})
    sizes = {key: vision.get(key) for key in ("image_size", "patch_size")}
    words = {"context_length": text.get("context_length", 77), "vocab_size": text.get("vocab_size", 49408)}
    shape = {"embed_dim": model.get("embed_dim"), "vision": sizes | towers[0], "text": words | towers[1]}
    config = _read(CLIPConfig, shape, where)
    pixels = _object(raw, "preprocess_cfg", where) if raw.get("preprocess_cfg") else {}
    known = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "interpolation": "bicubic"}
    said = {key: pixels.get(key, usual) for key, usual in known.items()}
    return config, _read(Preprocess, {"image_size": config.vision.image_size} | said, where)


def _number(raw: Json, key: str, usual: float | None = None) -> float:
    """Return a number to calculate with; Python would multiply text, too, and into any length."""
    value = raw.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise WeightsError(f"'{key}' must be a number above zero, got {str(value)[:40]}; use other weights")
    return value


def hugging_face_clip(raw: Json, where: str) -> CLIPConfig:
    """Read the ``config.json`` of a CLIP.

    Raises:
        WeightsError: it is of a CLIP that we do not build.
    """
    towers = {}
    for tower in ("vision", "text"):
        # Older files give each tower twice; the library lets the "_dict" one win.
        key = f"{tower}_config_dict" if raw.get(f"{tower}_config_dict") else f"{tower}_config"
        part = _object(raw, key, where)
        _require(part, {"layer_norm_eps": 1e-5}, where)
        towers[tower] = _translated(part, tower)
    return _read(CLIPConfig, {"embed_dim": raw.get("projection_dim", 512)} | towers, where)


def hugging_face_mae(raw: Json, where: str) -> MAEConfig:
    """Read the ``config.json`` of a ``ViTMAEForPreTraining``.

    Raises:
        WeightsError: it is of a network that we do not build.
    """
    _require(raw, {"hidden_act": "gelu", "num_channels": 3}, where)
    found = _translated(raw, "autoencoder")
    for key in ("image_size", "patch_size"):
        side = found[key]
        if isinstance(side, list) and len(side) == 2 and side[0] == side[1]:
            found[key] = side[0]  # a square, written as height and width
    found |= {stack: _translated(raw, stack) for stack in ("encoder", "decoder")}
    return _read(MAEConfig, found, where)


def hugging_face_pixels(raw: Json, config: CLIPConfig | MAEConfig, where: str) -> Preprocess:
    """Read ``preprocessor_config.json``, or the image part of the newer ``processor_config.json``.

    Raises:
        WeightsError: mean, deviation or filter is missing or not one that we know.
    """
    images = _object(raw, "image_processor", where) if "image_processor" in raw else raw
    resample = images.get("resample", 2 if isinstance(config, MAEConfig) else 3)
    filters = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
    found = {
        "image_size": config.image_size if isinstance(config, MAEConfig) else config.vision.image_size,
        "mean": images.get("image_mean"),
        "std": images.get("image_std"),
        "interpolation": filters.get(resample) if type(resample) is int else None,
    }
    return _read(Preprocess, found, where)


def _translated(raw: Json, table: str) -> dict[str, Any]:
    return {ours: raw.get(theirs["key"], theirs["usual"]) for ours, theirs in _DATA[table].items()}


def _require(raw: Json, wanted: Json, where: str) -> None:
    for key, value in wanted.items():
        if raw.get(key, value) != value:
            raise WeightsError(
                f"{where} must have {key} {value}, got {str(raw[key])[:40]}; use other weights"
            )


def _object(raw: Json, key: str, where: str) -> Json:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise WeightsError(f"{where} must have an object '{key}', got {str(value)[:40]}; fetch it again")
    return value


def _read(kind: type[T], raw: Json, where: str) -> T:
    return from_json(kind, json.dumps(raw), where)
