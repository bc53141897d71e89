"""The autoencoder against transformers on seeded random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mae_folder import write_mae
from mae_oracle import RATIO, oracle, write
from zeroflaw.towers.autoencoder import load_autoencoder
from zeroflaw.towers.mae import normalise_patches, patchify

transformers = pytest.importorskip("transformers")


def rows(noise: Tensor) -> Tensor:
    """The visible patches that transformers takes for this noise."""
    keep = int(noise.shape[1] * (1 - RATIO))
    return noise.argsort(dim=1)[:, :keep]


@pytest.mark.parametrize("settings", [{}, {"qkv_bias": False}, {"layer_norm_eps": 1e-3}, {"patch_size": 16}])
@pytest.mark.parametrize("normalised", [False, True])
def test_reconstruction_and_loss(settings: dict[str, Any], normalised: bool, tmp_path: Path) -> None:
    model = oracle(norm_pix_loss=normalised, **settings)
    ours = load_autoencoder(f"local-dir:{write(model, tmp_path / 'mae')}", device="cpu")
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, 48, 48, generator=generator)
    noise = torch.rand(3, ours.patches, generator=generator)
    theirs = model(pixels, noise=noise)
    drawn = ours.model(ours.model.encoder.tokens(pixels), rows(noise))
    torch.testing.assert_close(drawn, theirs.logits, atol=2e-5, rtol=2e-5)

    target = patchify(pixels, ours.model.config.patch_size)
    assert torch.equal(target, model.patchify(pixels))
    assert ours.model.config.normalised_targets is normalised
    if normalised:
        target = normalise_patches(target)
    error = (drawn - target).square().mean(-1)
    loss = (error * theirs.mask).sum() / theirs.mask.sum()
    torch.testing.assert_close(loss, theirs.loss, atol=1e-5, rtol=1e-5)


def test_all_generations_of_tensor_names_mean_the_same(tmp_path: Path) -> None:
    model = oracle()
    saved = load_autoencoder(f"local-dir:{write(model, tmp_path / 'saved')}", device="cpu")
    raw = write(model, tmp_path / "raw")
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, raw / "model.safetensors"
    )
    again = load_autoencoder(f"local-dir:{raw}", device="cpu")
    state = again.model.state_dict()
    assert state.keys() == saved.model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.model.state_dict().items())


def test_the_published_names_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    folder = write_mae(tmp_path / "mae", seed=3)
    ours = load_autoencoder(f"local-dir:{folder}", device="cpu")
    theirs = transformers.ViTMAEForPreTraining.from_pretrained(folder).eval()
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    noise = torch.rand(2, ours.patches, generator=torch.Generator().manual_seed(3))
    drawn = ours.model(ours.model.encoder.tokens(pixels), rows(noise))
    torch.testing.assert_close(drawn, theirs(pixels, noise=noise).logits.detach(), atol=2e-5, rtol=2e-5)
