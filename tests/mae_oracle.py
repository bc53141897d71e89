"""A random masked autoencoder of transformers, which ours is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mae_folder import write_mae

transformers = pytest.importorskip("transformers")

RATIO = 0.75


def oracle(**settings: Any) -> Any:
    """A random ViTMAEForPreTraining whose every tensor matters."""
    shape = {
        "image_size": 48,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "decoder_hidden_size": 24,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 3,
        "decoder_intermediate_size": 40,
        "mask_ratio": RATIO,
    }
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**{**shape, **settings}))
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def write(model: Any, folder: Path) -> Path:
    """Save with transformers' own names; the preprocessing is that of the tests' folder."""
    write_mae(folder)
    model.save_pretrained(folder)
    return folder
