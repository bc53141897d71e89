"""What an image tower says about a batch of images, as NumPy arrays, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureRequest:
    """What a scorer wants to know of an image; scorers on equal backbones can share the answer.

    Attributes:
        windows: (size, stride) of each set of token windows.
        patches: whether the patch tokens' embeddings are wanted.
        layers: blocks, counted from 1, whose patch tokens are wanted.
        patch_sizes: input sizes in pixels at which patch features are wanted, that compare images with
            images.
        tile: whether photos that are not square are cut into squares (`zeroflaw.runtime.tiles`), each of
            which is embedded by itself.
        image: whether the embedding of the whole image is wanted. Without it, and with nothing else but
            ``patch_sizes``, most of a tower is left out.
    """

    windows: tuple[tuple[int, int], ...] = ()
    patches: bool = False
    layers: tuple[int, ...] = ()
    patch_sizes: tuple[int, ...] = ()
    tile: bool = False
    image: bool = True

    def __or__(self, other: FeatureRequest) -> FeatureRequest:
        return FeatureRequest(
            tuple(sorted({*self.windows, *other.windows})),
            self.patches or other.patches,
            tuple(sorted({*self.layers, *other.layers})),
            tuple(sorted({*self.patch_sizes, *other.patch_sizes})),
            self.tile or other.tile,
            self.image or other.image,
        )


@dataclass
class ImageFeatures:
    """What the image tower says about a batch of B images.

    Attributes:
        image: embedding of the whole image, (B, E); (B, 0) where none was asked for.
        grid: patches (rows, columns).
        windows: embeddings of token windows, (B, W, E) by (size, stride).
        patches: embeddings of the patch tokens, (B, P, E), or None.
        layers: patch tokens after the blocks asked for, {block, counted from 1: (B, P, C)}, before
            ``ln_post``; of the local path (`zeroflaw.towers.local`) their embeddings, (B, P, E).
        patch_features: features of length one that compare images with images, (B, P, C) by input size.
    """

    image: Floats
    grid: tuple[int, int]
    windows: dict[tuple[int, int], Floats] = field(default_factory=dict)
    patches: Floats | None = None
    layers: dict[int, Floats] = field(default_factory=dict)
    patch_features: dict[int, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)

    def only(self, request: FeatureRequest) -> ImageFeatures:
        """Return what ``request`` asks for, where others have asked for more."""
        return ImageFeatures(
            image=self.image,
            grid=self.grid,
            windows={key: self.windows[key] for key in request.windows},
            patches=self.patches if request.patches else None,
            layers={block: self.layers[block] for block in request.layers},
            patch_features={size: self.patch_features[size] for size in request.patch_sizes},
        )

    def rows(self, numbers: Sequence[int]) -> ImageFeatures:
        """Return the features of some of the images, in the order of ``numbers``."""
        chosen = list(numbers)
        return ImageFeatures(
            image=self.image[chosen],
            grid=self.grid,
            windows={key: part[chosen] for key, part in self.windows.items()},
            patches=None if self.patches is None else self.patches[chosen],
            layers={block: part[chosen] for block, part in self.layers.items()},
            patch_features={size: part[chosen] for size, part in self.patch_features.items()},
        )

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Put batches of equal kind behind one another."""
        first = parts[0]
        patches = [part.patches for part in parts if part.patches is not None]
        return cls(
            image=np.concatenate([part.image for part in parts]),
            grid=first.grid,
            windows={key: np.concatenate([part.windows[key] for part in parts]) for key in first.windows},
            patches=np.concatenate(patches) if patches else None,
            layers={block: np.concatenate([part.layers[block] for part in parts]) for block in first.layers},
            patch_features={
                size: np.concatenate([part.patch_features[size] for part in parts])
                for size in first.patch_features
            },
        )
