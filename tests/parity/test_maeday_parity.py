"""The masked-autoencoder detector against plain loops around the network of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mae_oracle import oracle, write
from zeroflaw.detectors.maeday import MAEDAY

ndimage = pytest.importorskip("scipy.ndimage")


def noise_for(visible: Tensor, patches: int) -> Tensor:
    """Noise for which transformers sees just these patches."""
    return torch.ones(len(visible), patches).scatter(1, visible, 0.0)


def slow_map(model: Any, pixels: Tensor, visible: Tensor, *, hidden_only: bool) -> npt.NDArray[np.float64]:
    """Error of each pixel, one mask, patch and pixel after the other, in float64."""
    side, patch = pixels.shape[-1], model.config.patch_size
    grid = side // patch
    total, count = np.zeros((side, side)), np.zeros((side, side))
    image = pixels[0].double().numpy()
    for kept in visible:
        noise = noise_for(kept[None], grid * grid)
        drawn = model(pixels, noise=noise).logits[0].double().numpy()
        for place in range(grid * grid):
            if hidden_only and place in kept.tolist():
                continue
            top, left = place // grid * patch, place % grid * patch
            block = image[:, top : top + patch, left : left + patch]
            if model.config.norm_pix_loss:
                block = (block - block.mean()) / np.sqrt(block.var(ddof=1) + 1e-6)
            said = drawn[place].reshape(patch, patch, 3)
            for y in range(patch):
                for x in range(patch):
                    difference = said[y, x] - block[:, y, x]
                    total[top + y, left + x] += float(difference @ difference)
                    count[top + y, left + x] += 1
    return total / count


@pytest.mark.parametrize("error", ["hidden", "all"])
@pytest.mark.parametrize("normalised", [False, True])
def test_score_and_map_follow_the_paper(error: str, normalised: bool, tmp_path: Path) -> None:
    model = oracle(norm_pix_loss=normalised)
    backbone = f"local-dir:{write(model, tmp_path / 'mae')}"
    detector = MAEDAY(backbone=backbone, masks=6, error=error, seed=4, device="cpu").fit()  # type: ignore[arg-type]
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    (found,) = detector.predict([picture], maps=True)

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((picture / 255 - mean) / std).transpose(2, 0, 1)[None]).float()
    visible = torch.from_numpy(detector.scorer_.visible)  # type: ignore[attr-defined]
    slow = slow_map(model, pixels, visible, hidden_only=error == "hidden")
    slow = ndimage.gaussian_filter(slow, 1.4, mode="mirror", radius=3)
    assert found.map is not None
    np.testing.assert_allclose(found.map, slow / (1 + slow), atol=1e-5)
    assert found.logit == pytest.approx(np.log(slow.max()), abs=1e-4)
