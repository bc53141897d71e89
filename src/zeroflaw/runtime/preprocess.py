"""Photographs to the pixels that an image tower was trained on.

Resizing is Pillow's, with antialiasing, as in CLIP's own evaluation code: resizing a tensor without
antialiasing changes the scores of all published weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from zeroflaw.errors import UsageError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Spread = Annotated[float, Field(gt=0)]
LARGE = 1 << 21  # pixels from which on a picture is resized while others are judged

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize and normalise; every number comes from the weights' own record, none is guessed.

    Attributes:
        image_size: side of the square that the tower sees, in pixels.
        mean, std: of each channel, for pixels in [0, 1].
        interpolation: filter of the resize.
        resize: ``"squash"`` brings both sides to ``image_size``, so that no part of a product is cut off
            (what WinCLIP does); ``"shortest"`` brings the short side to it and cuts the centre (what CLIP was
            trained with).
    """

    image_size: Annotated[int, Field(ge=1, le=65_536)]
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[Spread, Spread, Spread] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize: Literal["squash", "shortest"] = "squash"

    def __call__(self, images: Sequence[Pixels | Resized]) -> npt.NDArray[np.float32]:
        """Turn RGB images, uint8 (H, W, 3) of any sizes, into one float32 batch (B, 3, S, S).

        Raises:
            UsageError: an image has another shape or type, or there is none.
        """
        if not images:
            raise UsageError("preprocessing wants at least one image, got an empty list; give it images")
        batch = np.stack([self.resized(image) for image in images])  # (B, S, S, 3)
        pixels = batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
        return np.ascontiguousarray((pixels - mean) / std)

    def resized(self, image: Pixels | Resized) -> Pixels:
        """Return one RGB image, uint8 (H, W, 3), as the square (S, S, 3) that the tower sees.

        Raises:
            UsageError: the image has another shape or type.
        """
        if isinstance(image, Resized):
            return image.small[self]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(
                "an image must be a uint8 array of shape (height, width, 3), got "
                f"{image.dtype} {image.shape}; read files with zeroflaw.images.read_image"
            )
        picture = Image.fromarray(image)
        side = self.image_size
        if self.resize == "squash":
            return self._scaled(picture, (side, side))
        short = min(picture.size)
        width, height = (int(side * length / short) for length in picture.size)
        top, left = round((height - side) / 2), round((width - side) / 2)  # as open_clip rounds
        return self._scaled(picture, (width, height))[top : top + side, left : left + side]

    def _scaled(self, picture: Image.Image, size: tuple[int, int]) -> Pixels:
        if picture.size == size:
            return np.asarray(picture)
        return np.asarray(picture.resize(size, _FILTERS[self.interpolation]))


@dataclass(frozen=True, slots=True, eq=False)
class Resized:
    """A large picture of which only what networks look at is kept.

    Attributes:
        shape: of the picture, (H, W, 3).
        small: its pixels by how they were resized.
        photo: figures of the picture (`zeroflaw.runtime.drift`), where they are wanted.
    """

    shape: tuple[int, ...]
    small: Mapping[Preprocess, Pixels]
    photo: Mapping[str, float] | None

    @classmethod
    def of(cls, image: Pixels, ways: Sequence[Preprocess], photo: Mapping[str, float] | None) -> Resized:
        """Resize a picture in some ways."""
        return cls(image.shape, {way: way.resized(image) for way in ways}, photo)
