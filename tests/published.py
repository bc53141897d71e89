"""Random CLIPs of an independent implementation (transformers), and their weights in published layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import CLIPConfig
from zeroflaw.towers.folder import fill
from zeroflaw.towers.layouts import hugging_face_clip, rename
from zeroflaw.towers.model import CLIP


def oracle(
    *,
    image: int = 48,
    patch: int = 8,
    widths: tuple[int, int] = (64, 64),
    layers: tuple[int, int] = (2, 2),
    heads: tuple[int, int] = (1, 1),
    embed: int = 40,
    vocabulary: int = 1024,
    end: int | None = None,
    activation: str = "gelu",
    seed: int = 0,
) -> Any:
    """Return a transformers CLIPModel with seeded random weights large enough to matter."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        projection_dim=embed,
        vision_config=_tower(widths[0], layers[0], heads[0], activation)
        | {"image_size": image, "patch_size": patch},
        text_config=_tower(widths[1], layers[1], heads[1], activation)
        | {
            "vocab_size": vocabulary,
            "bos_token_id": 0,
            "eos_token_id": vocabulary - 1 if end is None else end,
        },
    )
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = CLIPModel(config)
    model.to_empty(device="cpu")
    _fill(model, seed)
    for part in (model.text_model.embeddings, model.vision_model.embeddings):  # buffers that are not saved
        part.position_ids = torch.arange(part.position_ids.shape[-1])[None]
    return model.eval().requires_grad_(False)


def _tower(width: int, layers: int, heads: int, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": activation,
    }


def _fill(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        norm = "layer_norm" in name or "layrnorm" in name or "layernorm" in name
        spread = 0.1 if tensor.ndim < 2 or norm else tensor[0].numel() ** -0.5
        tensor.normal_(0.0, spread, generator=generator)
        if norm and name.endswith("weight"):
            tensor.add_(1.0)
    model.logit_scale.data.fill_(4.6052)


def ours(theirs: Any) -> CLIP:
    """Build our towers from the oracle's weights."""
    return build(hugging_face_clip(theirs.config.to_dict(), "config.json"), rename(theirs.state_dict()))


def build(config: CLIPConfig, state: dict[str, Tensor]) -> Any:
    """Fill our towers with tensors under our names."""
    preprocess = Preprocess(image_size=config.vision.image_size)
    return fill(config, state, None, preprocess, WeightsRecord(name="oracle"), "the oracle").model


def openai_state(theirs: Any) -> dict[str, Tensor]:
    """Write the oracle's weights under OpenAI's names; made by hand, apart from the code under test."""
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    found = {
        "logit_scale": state["logit_scale"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
    }
    norms = (
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
        ("ln_final", "text_model.final_layer_norm"),
    )
    for new, old in norms:
        found |= {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}
    for new, old, tower in (
        ("visual.", "vision_model", theirs.vision_model),
        ("", "text_model", theirs.text_model),
    ):
        for number in range(len(tower.encoder.layers)):
            found |= _openai_block(
                state, f"{new}transformer.resblocks.{number}", f"{old}.encoder.layers.{number}"
            )
    return found


def _openai_block(state: dict[str, Tensor], new: str, old: str) -> dict[str, Tensor]:
    pairs = (
        ("attn.out_proj", "self_attn.out_proj"),
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    )
    found = {f"{new}.{a}.{kind}": state[f"{old}.{b}.{kind}"] for a, b in pairs for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        parts = [state[f"{old}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
        found[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
    return found


def open_clip_json(theirs: Any) -> dict[str, Any]:
    """Return what open_clip_config.json says of the oracle."""
    vision, text = theirs.config.vision_config, theirs.config.text_config
    return {
        "model_cfg": {
            "embed_dim": theirs.config.projection_dim,
            "quick_gelu": vision.hidden_act == "quick_gelu",
            "vision_cfg": {
                "image_size": vision.image_size,
                "layers": vision.num_hidden_layers,
                "width": vision.hidden_size,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "patch_size": vision.patch_size,
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }


def copy_vocabulary(source: Path, folder: Path) -> None:
    """Copy vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, folder / name)


def write_open_clip(theirs: Any, folder: Path, vocabulary: Path, *, custom: bool = False) -> Path:
    """Write an open_clip folder; ``custom`` puts the text tower under ``text.``."""
    copy_vocabulary(vocabulary, folder)
    state = openai_state(theirs)
    if custom:
        keep = ("visual.", "logit_scale")
        state = {name if name.startswith(keep) else f"text.{name}": tensor for name, tensor in state.items()}
    save_file(state, folder / "open_clip_model.safetensors")
    raw = open_clip_json(theirs)
    if custom:
        raw["model_cfg"]["custom_text"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


def write_hugging_face(theirs: Any, folder: Path, vocabulary: Path) -> Path:
    """Write a Hugging Face folder with the library's own writer."""
    from transformers import CLIPImageProcessorPil

    theirs.save_pretrained(folder)
    CLIPImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    copy_vocabulary(vocabulary, folder)
    return folder
