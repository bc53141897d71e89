"""Patch features that compare images with images: what a few good photos, or a folder, are remembered by.

Of a tower with a stem they are the stem's own features, from an ImageNet classifier; of any other tower the
patch tokens half-way and three quarters up. Which strides, weights and sizes serve best was decided on
products kept for deciding (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.errors import UsageError
from zeroflaw.runtime.features import Floats
from zeroflaw.runtime.preprocess import Pixels
from zeroflaw.towers.backbone import Backbone, exact
from zeroflaw.towers.stem import Stem

WEIGHTS = (0.0, 0.7, 1.0, 1.0)  # of the stem's features from strides 4, 8, 16 and 16


def default_sizes(backbone: Backbone) -> tuple[int, int]:
    """Return the input sizes at which a backbone's patches are compared: its own, and 1.6 times that."""
    native, patch = backbone.preprocess.image_size, backbone.model.config.vision.patch_size
    return native, round(1.6 * native / patch) * patch


def check_sizes(backbone: Backbone, sizes: Sequence[int]) -> None:
    """Refuse input sizes that are no multiples of the patch size.

    Raises:
        UsageError: with the patch size.
    """
    for size in sizes:
        backbone.with_image_size(size)
    if any(size // backbone.model.config.vision.patch_size < 4 for size in sizes):
        raise UsageError(f"sizes must give at least 4 x 4 patches, got {list(sizes)}; use larger ones")


def feature_width(backbone: Backbone) -> int:
    """Return how many numbers the features of a patch have."""
    vision = backbone.model.vision
    if isinstance(vision.patch_embedding, Stem):
        sizes = vision.patch_embedding.config.sizes
        return sum(size for weight, size in zip(WEIGHTS, sizes, strict=True) if weight)
    return len(compared_blocks(backbone)) * vision.config.width


def compared_blocks(backbone: Backbone) -> tuple[int, ...]:
    """Return the blocks, counted from 1, whose patch tokens make the features; 0 is a stem's own features."""
    vision = backbone.model.vision
    if isinstance(vision.patch_embedding, Stem):
        return (0,)
    depth = vision.config.layers
    return tuple(sorted({max(1, depth // 2), max(1, round(0.75 * depth))}))


def compared(backbone: Backbone, layers: Mapping[int, Floats]) -> Floats:
    """Return features of all patches, float32 (B, P, C) of length one.

    Args:
        backbone: whose image tower looked.
        layers: patch tokens (B, P, K) of the `compared_blocks`.
    """
    kept = [torch.from_numpy(layers[block]) for block in compared_blocks(backbone)]
    parts, weights = kept, [1.0] * len(kept)
    stem = backbone.model.vision.patch_embedding
    if isinstance(stem, Stem):
        parts, weights = list(kept[0].split(list(stem.config.sizes), -1)), list(WEIGHTS)
    groups = [w * F.normalize(part, dim=-1) for w, part in zip(weights, parts, strict=True) if w]
    joined: Tensor = F.normalize(torch.cat(groups, -1), dim=-1)
    return joined.numpy()


def patch_features(backbone: Backbone, images: Sequence[Pixels], size: int) -> Floats:
    """Return features of all patches at an input size, float32 (B, P, C) of length one.

    Args:
        backbone: whose image tower looks.
        images: uint8 (H, W, 3) of any sizes.
        size: in pixels, a multiple of the patch size.
    """
    sized = backbone.with_image_size(size)
    vision, pixels = sized.model.vision, sized.pixels(images)
    with exact():
        if isinstance(vision.patch_embedding, Stem):
            kept = {0: vision.patch_embedding.features(pixels).flatten(2).transpose(1, 2)}
        else:
            kept = vision(pixels, layers=compared_blocks(backbone)).layers
    return compared(backbone, {block: part.float().cpu().numpy() for block, part in kept.items()})
