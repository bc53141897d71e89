"""Real photographs of flawless things that the generator may build on, one folder a kind.

What each kind is and under which licence stands in ``photos.tsv``; a folder that it does not list is
refused, so that nothing goes in whose licence nobody read. Share-alike kinds are never trained on, only
decided on; of the others, every sixth is left out, too: there must be kinds that no tower ever saw.

scikit-image's wheel carries these pictures, whose licences stand in the docstrings of ``skimage.data``
(version 0.26, function of the same name):

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

import csv
from collections.abc import Mapping, Sequence
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
LEAST_KINDS = 8  # below that, a tower learns the things and not what a flaw is
FOLDS = 6
REGISTER = Path(__file__).with_name("photos.tsv")

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A kind of photograph, as ``photos.tsv`` has it."""

    kind: str
    origin: str
    licence: str
    attribution: str

    @property
    def share_alike(self) -> bool:
        """Whether what is made from it must have its licence."""
        return "BY-SA" in self.licence


def read_register() -> dict[str, Source]:
    """All kinds whose licence was read, by name."""
    with REGISTER.open(encoding="utf-8", newline="") as file:
        found = [Source(**row) for row in csv.DictReader(file, delimiter="\t")]
    return {source.kind: source for source in found}


def split_kinds(kinds: Sequence[str], fold: int) -> tuple[list[str], list[str]]:
    """Return which kinds are trained on and which are left out: share-alike ones and every sixth."""
    register = read_register()
    free = [kind for kind in sorted(kinds) if not register[kind].share_alike]
    kept = [kind for index, kind in enumerate(free) if index % FOLDS != fold]
    return kept, sorted(set(kinds) - set(kept))


@dataclass(frozen=True, eq=False)
class Photos:
    """Flawless photographs, uint8 RGB: ``kinds`` of things by name, ``surfaces`` that fill the picture."""

    kinds: Mapping[str, tuple[Image, ...]]
    surfaces: tuple[Image, ...]

    def kind(self, rng: Rng) -> str:
        """The name of a kind, each equally likely however many pictures it has."""
        return pick(rng, tuple(self.kinds))

    def photo(self, rng: Rng, kind: str) -> Picture:
        """A photograph of that kind, whole, cropped or zoomed, sometimes mirrored, (SIZE, SIZE, 3)."""
        image, share = pick(rng, self.kinds[kind]), rng.random()
        if share < 0.25:
            image = _crop(rng, image, rng.uniform(0.4, 0.8))
        elif share < 0.6:
            image = _crop(rng, image, rng.uniform(0.8, 1))
        return _finish(rng, image)

    def surface(self, rng: Rng) -> Picture:
        """A square piece of a photographed surface as a picture (SIZE, SIZE, 3)."""
        image = _crop(rng, pick(rng, self.surfaces), rng.uniform(0.45, 1))
        return _finish(rng, np.rot90(image, int(rng.integers(4))))


def _crop(rng: Rng, image: Image, share: float) -> Image:
    side = int(share * min(image.shape[:2]))
    top = int(rng.integers(image.shape[0] - side + 1))
    left = int(rng.integers(image.shape[1] - side + 1))
    return image[top : top + side, left : left + side]


def _finish(rng: Rng, image: Image) -> Picture:
    image = image[:, ::-1] if chance(rng, 0.5) else image
    return as_float(cv2.resize(np.ascontiguousarray(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def _shrink(image: Image, side: int) -> Image:
    scale = side / min(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _read(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(
            f"{path}: wanted a readable image, got a file that cannot be decoded; remove or replace it"
        )
    return _shrink(np.asarray(image, np.uint8), SHORT_SIDE)


def _sample(name: str) -> Image:
    from skimage import data  # slow to import, and only needed here

    image = np.asarray(getattr(data, name)(), np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def pictures_of(folder: Path) -> list[Path]:
    """The pictures below a folder, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def find_kinds(folder: Path) -> list[str]:
    """Return the names of the folders that hold pictures, sorted, all of them registered.

    Raises:
        ValueError: the folder is missing, has too few kinds, or one that is not registered.
    """
    found = (path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
    kinds = sorted(path.name for path in found if pictures_of(path))
    if len(kinds) < LEAST_KINDS:
        raise ValueError(
            f"wanted at least {LEAST_KINDS} folders of pictures, one a kind, got {len(kinds)} in {folder}; "
            "give the folder of photographs"
        )
    unknown = sorted(set(kinds) - set(read_register()))
    if unknown:
        raise ValueError(
            f"wanted only kinds of {REGISTER.name}, got {unknown[0]}; read its licence and add a line"
        )
    return kinds


def read_kinds(folder: Path, kinds: Sequence[str]) -> Photos:
    """Read the pictures of the named kinds, without any other source.

    Raises:
        ValueError: a picture cannot be decoded.
    """
    return Photos({kind: tuple(_read(path) for path in pictures_of(folder / kind)) for kind in kinds}, ())


def load_photos(folder: Path, fold: int = 0) -> Photos:
    """Read the scikit-image samples and all kinds below ``folder`` that are trained on in this fold.

    Raises:
        ValueError: the folder is missing, has too few kinds or unknown ones, or an unreadable picture.
    """
    surfaces = tuple(_shrink(_sample(name), 2 * SIZE) for name in SURFACES)
    samples = {"sample": tuple(_shrink(_sample(name), SHORT_SIDE) for name in PICTURES)}
    return Photos({**read_kinds(folder, split_kinds(find_kinds(folder), fold)[0]).kinds, **samples}, surfaces)
