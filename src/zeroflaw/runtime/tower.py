"""What an image tower must be able to do, whichever engine runs it, and photos on their way through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from zeroflaw.errors import UsageError
from zeroflaw.runtime.features import FeatureRequest, Floats, ImageFeatures
from zeroflaw.runtime.preprocess import Pixels
from zeroflaw.runtime.scorer import Size
from zeroflaw.runtime.stream import batches
from zeroflaw.runtime.tiles import Tiles

PATCH_WEIGHTS = (0.0, 0.7, 1.0, 1.0)
"""Of a stem's features from strides 4, 8, 16 and 16 in the patch features of a tower that has a stem."""


class ImageTower(Protocol):
    """Turns photos into features, on any engine.

    Attributes:
        name: of the weights.
        sha256: of the weights file as it was published.
        fingerprint: SHA-256 over all that decides an embedding.
        licence: of the weights, as their source states it.
        revision: commit of the source, where there is one.
        embed_dim: width E of the embeddings.
        image_size, patch_size: sides in pixels of what the tower sees, and of a patch.
        grid: patches (rows, columns) of a photo at the tower's own size.
        layers, width: blocks of the tower, and the width of its patch tokens.
        patch_width: how many numbers compare a patch with others (`ImageFeatures.patch_features`).
        has_aligned_patches: whether patch embeddings were trained to agree with the text.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102
    @property
    def revision(self) -> str | None: ...  # noqa: D102
    @property
    def embed_dim(self) -> int: ...  # noqa: D102
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def patch_size(self) -> int: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def layers(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def patch_width(self) -> int: ...  # noqa: D102
    @property
    def has_aligned_patches(self) -> bool: ...  # noqa: D102

    def embed(self, images: Sequence[Pixels], request: FeatureRequest) -> ImageFeatures:
        """Embed RGB images, uint8 (H, W, 3) of any sizes, in one batch; ``request.tile`` is not looked at.

        Raises:
            UsageError: something that the tower does not have was asked for.
        """


def default_sizes(tower: ImageTower) -> tuple[int, int]:
    """Return the input sizes at which a tower's patches are compared: its own, and 1.6 times that."""
    native, patch = tower.image_size, tower.patch_size
    return native, round(1.6 * native / patch) * patch


def require_multiple(tower: ImageTower, size: int) -> None:
    """Refuse an input size that is no multiple of the patch size.

    Raises:
        UsageError: with the patch size.
    """
    if size < tower.patch_size or size % tower.patch_size:
        raise UsageError(
            f"the image size of {tower.name} must be a multiple of {tower.patch_size}, got {size}"
        )


def check_sizes(tower: ImageTower, sizes: Sequence[int]) -> None:
    """Refuse input sizes that are no multiples of the patch size, or too small.

    Raises:
        UsageError: with the patch size.
    """
    for size in sizes:
        require_multiple(tower, size)
    if any(size // tower.patch_size < 4 for size in sizes):
        raise UsageError(f"sizes must give at least 4 x 4 patches, got {list(sizes)}; use larger ones")


def patch_blocks(layers: int) -> tuple[int, ...]:
    """Return the blocks, counted from 1, whose patch tokens compare patches where a tower has no stem."""
    return tuple(sorted({max(1, layers // 2), max(1, round(0.75 * layers))}))


def compared_layers(layers: int, *, stem: bool) -> tuple[int, ...]:
    """Return the blocks whose patch tokens are compared; 0 are the features of a stem (B, P, K)."""
    return (0,) if stem else patch_blocks(layers)


def compared(tokens: Sequence[Floats], stem_sizes: Sequence[int] = ()) -> Floats:
    """Return patch features (B, P, C) of length one.

    Args:
        tokens: of the `compared_layers`, (B, P, K).
        stem_sizes: how many of a stem's features come from each of its strides; () without a stem.
    """
    parts, weights = list(tokens), [1.0] * len(tokens)
    if stem_sizes:
        ends = np.cumsum(stem_sizes)[:-1]
        parts, weights = np.split(tokens[0], ends, axis=-1), list(PATCH_WEIGHTS)
    used = [weight * unit(part) for weight, part in zip(weights, parts, strict=True) if weight]
    return unit(np.concatenate(used, -1))


def in_passes(
    tower: ImageTower,
    request: FeatureRequest,
    blocks: Sequence[int],
    *,
    native: Callable[[Sequence[int]], ImageFeatures],
    elsewhere: Callable[[int], Mapping[int, Floats]],
    compare: Callable[[Mapping[int, Floats]], Floats],
) -> ImageFeatures:
    """Embed a batch in as few passes as can be: that at the tower's own size serves its patch features, too.

    Args:
        tower: whose passes they are.
        request: what is wanted.
        blocks: whose tokens are compared (`compared_layers`).
        native: runs the pass at the tower's own size, and keeps the tokens of some blocks as ``layers``.
        elsewhere: runs a pass at another input size, up to the tokens of ``blocks``.
        compare: makes patch features (B, P, C) of the tokens of ``blocks``.

    Raises:
        UsageError: a block was asked for that the tower does not have.
    """
    if any(not 1 <= block <= tower.layers for block in request.layers):
        raise UsageError(
            f"the blocks of {tower.name} are counted from 1 to {tower.layers}, got {sorted(request.layers)}"
        )
    if request.patch_sizes and not (request.image or request.windows or request.patches or request.layers):
        features = {size: compare(elsewhere(size)) for size in request.patch_sizes}
        none = np.zeros((len(features[request.patch_sizes[0]]), 0), np.float32)
        return ImageFeatures(none, tower.grid, patch_features=features)
    shared = tower.image_size in request.patch_sizes
    found = native(sorted({*request.layers, *(blocks if shared else ())}))
    kept, found.layers = found.layers, {block: found.layers[block] for block in request.layers}
    for size in request.patch_sizes:
        found.patch_features[size] = compare(kept if size == tower.image_size else elsewhere(size))
    return found


def unit(values: Floats) -> Floats:
    """Scale vectors (..., C) to length one."""
    lengths = np.sqrt(np.square(values).sum(-1, keepdims=True))
    return np.asarray(values / np.maximum(lengths, 1e-12), np.float32)


def embed(tower: ImageTower, images: Sequence[Pixels], request: FeatureRequest) -> ImageFeatures:
    """Embed photos, or all their tiles one after the other, as ``request`` says."""
    if not request.tile:
        return tower.embed(images, request)
    pieces = [tile for image in images for tile in Tiles.of(sized(image), tile=True).cut(image)]
    whole = replace(request, patch_sizes=())
    # No more at a time than the caller found good for his memory.
    found = ImageFeatures.join([tower.embed(part, whole) for part in batches(pieces, len(images))])
    if request.patch_sizes:
        compared = FeatureRequest(patch_sizes=request.patch_sizes, image=False)
        found.patch_features = tower.embed(images, compared).patch_features
    return found


def sized(image: Pixels) -> Size:
    """Return height and width of a picture."""
    return int(image.shape[0]), int(image.shape[1])


def test_pictures() -> list[Pixels]:
    """Return three pictures of coarse random squares, (320, W, 3) of different widths, to compare engines."""
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (8, 8 * wide, 3), np.uint8).repeat(40, 0).repeat(30, 1) for wide in (1, 2, 3)
    ]
