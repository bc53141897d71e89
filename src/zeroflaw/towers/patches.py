"""Patch features that compare images with images: what a few good photos, or a folder, are remembered by.

Of a tower with a stem they are the stem's own features, from an ImageNet classifier; of any other tower the
patch tokens half-way and three quarters up. Which strides, weights and sizes serve best was decided on
products kept for deciding (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.runtime.tower import PATCH_WEIGHTS, patch_blocks
from zeroflaw.towers.configs import VisionConfig
from zeroflaw.towers.model import VisionTower
from zeroflaw.towers.stem import Stem


def patch_width(config: VisionConfig) -> int:
    """Return how many numbers the features of a patch have."""
    if config.stem is None:
        return len(patch_blocks(config.layers)) * config.width
    return sum(size for weight, size in zip(PATCH_WEIGHTS, config.stem.sizes, strict=True) if weight)


def patch_features(vision: VisionTower, pixels: Tensor) -> Tensor:
    """Return features of all patches, float32 (B, P, C) of length one, of normalised images (B, 3, Y, X)."""
    if isinstance(vision.patch_embedding, Stem):
        return from_stem(vision.patch_embedding.features(pixels), vision.patch_embedding.config.sizes)
    blocks = patch_blocks(vision.config.layers)
    kept = vision(pixels, layers=blocks).layers
    return _joined([F.normalize(kept[block].float(), dim=-1) for block in blocks])


def from_stem(features: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return patch features (B, P, C) from a stem's (B, K, R, S), which are ``sizes`` numbers a stride."""
    maps = features.flatten(2).transpose(1, 2).float()  # (B, P, K)
    groups = zip(PATCH_WEIGHTS, maps.split(list(sizes), -1), strict=True)
    return _joined([weight * F.normalize(part, dim=-1) for weight, part in groups if weight])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    joined: Tensor = F.normalize(torch.cat(list(parts), -1), dim=-1)
    return joined
