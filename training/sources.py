"""Real photographs of flawless things that the generator may build on, with the licence of every source.

Given folders (one product each) are read by :func:`load_photos`; scikit-image's wheel carries these pictures,
whose licences stand in the docstrings of ``skimage.data`` (version 0.26, function of the same name):

=======  ===========================================================================================
picture  licence as stated by scikit-image
=======  ===========================================================================================
brick    CC0 1.0, CC0Textures "Bricks25"
grass    CC0, "Grass-01" by linolafett
gravel   CC0 1.0, CC0Textures "Gravel04"
coffee   no copyright restrictions, CC0 by the photographer (Rachel Michetti)
chelsea  no copyright restrictions, CC0 by the photographer (Stefan van der Walt)
clock    released into the public domain by the photographer (Stefan van der Walt)
=======  ===========================================================================================

Others in that wheel are left out: their texts say only "no known restrictions" or nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import SIZE, Picture, Rng, as_float, chance, pick

SURFACES = ("brick", "grass", "gravel")
PICTURES = ("coffee", "chelsea", "clock")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
SHORT_SIDE = 256


@dataclass(frozen=True, eq=False)
class Photos:
    """Flawless photographs, uint8 RGB: ``pictures`` of things, ``surfaces`` that fill the picture."""

    pictures: tuple[NDArray[np.uint8], ...]
    surfaces: tuple[NDArray[np.uint8], ...]

    def photo(self, rng: Rng) -> Picture:
        """A photograph, whole or cropped to a square, sometimes mirrored, as a picture (SIZE, SIZE, 3)."""
        image = pick(rng, self.pictures)
        if chance(rng, 0.6):
            image = _crop(rng, image, rng.uniform(0.8, 1))
        return _finish(rng, image)

    def surface(self, rng: Rng) -> Picture:
        """A square piece of a photographed surface as a picture (SIZE, SIZE, 3)."""
        image = _crop(rng, pick(rng, self.surfaces), rng.uniform(0.45, 1))
        return _finish(rng, np.rot90(image, int(rng.integers(4))))


def _crop(rng: Rng, image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    side = int(share * min(image.shape[:2]))
    top = int(rng.integers(image.shape[0] - side + 1))
    left = int(rng.integers(image.shape[1] - side + 1))
    return image[top : top + side, left : left + side]


def _finish(rng: Rng, image: NDArray[np.uint8]) -> Picture:
    image = image[:, ::-1] if chance(rng, 0.5) else image
    return as_float(cv2.resize(np.ascontiguousarray(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def _shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / min(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(
            f"{path.name}: wanted a readable image, got a file that cannot be decoded; remove or replace it."
        )
    return _shrink(np.asarray(image, np.uint8), SHORT_SIDE)


def _sample(name: str) -> NDArray[np.uint8]:
    from skimage import data  # slow to import, and only needed here

    image = np.asarray(getattr(data, name)(), np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def load_photos(folder: Path | None) -> Photos:
    """Read the scikit-image samples and every picture below ``folder``, in the order of their paths.

    Raises:
        ValueError: the folder holds no picture, or one that cannot be decoded.
    """
    pictures = [_shrink(_sample(name), SHORT_SIDE) for name in PICTURES]
    surfaces = tuple(_shrink(_sample(name), 2 * SIZE) for name in SURFACES)
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise ValueError(
                f"Wanted a folder with pictures, got none below {folder}; give the folder of normal photos."
            )
        pictures += [_read(path) for path in paths]
    return Photos(tuple(pictures), surfaces)
