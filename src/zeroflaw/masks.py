"""Reading masks: which pixels of a photo are flawed, in whatever way that was painted.

What marks a pixel, by what a file holds:

=========================  =============================================================================
transparent pixels         whatever is painted: every pixel that is not wholly transparent (RGBA, grey with
                           alpha, WebP, palette or colour with a transparent entry), of any colour
palette                    every number of a colour above 0, whatever its colour
grey, 1 bit, 16 bits, RGB  every value above 0, so that masks that number kinds of flaw work, too
JPEG, lossy WebP           every value from 128 on, because their black is not quite black
=========================  =============================================================================

Pixels of the value to ignore, as data sets have one (255), are neither good nor flawed. Several masks of one
photo are united.

A mask is turned by its own EXIF orientation. Where it has none but its photo has: if its sides are swapped
against the upright photo, it was drawn on the stored pixels and is turned with the photo; if they fit, it is
taken as drawn on the upright photo, and a note says so where the sizes leave doubt.

What looks wrong is measured as it is, and named in notes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeroflaw.decoding import Stored
from zeroflaw.errors import DatasetError
from zeroflaw.images import EXTENSIONS, read_orientation, refusing, shown, stored, upright

Bools: TypeAlias = NDArray[np.bool_]
MaskPath: TypeAlias = "Path | Sequence[Path]"

MOST_MARKED = 0.9  # share of a picture from which on a mask looks inverted
_FEW = 20  # numbers of kinds of flaw that a mask may have beside a value to ignore
_HIGHEST_KIND = 64
_SHADES = 16  # values between 0 and 255 from which on they are no numbers of kinds

INVERTED = f"more than {MOST_MARKED:.0%} of the picture is marked, as in an inverted mask"
EMPTY = "nothing is marked in the mask of a flawed picture"
SOFT = "it has values between 0 and 255, as JPEG or blur leave them, and all above 0 count as flawed"
FAINT = "it was saved with loss (JPEG, WebP), and its values below 128 do not count as flawed; save it as PNG"
BESIDE_255 = "it has 255 beside small numbers; where 255 means 'unknown', say so (--ignore-value 255)"
TURNED = "it was turned with its photo, whose EXIF orientation it does not have"
NOT_TURNED = (
    "its photo has an EXIF orientation and the mask has none, so it was taken as drawn on the upright photo"
)


@dataclass(frozen=True, slots=True)
class Mask:
    """What a mask says of a photo.

    Attributes:
        marked: bool (H, W), True where the photo is flawed.
        ignored: bool (H, W), True where nobody knows; None where that is nowhere.
        notes: what looks wrong with it, a sentence each.
    """

    marked: Bools
    ignored: Bools | None = None
    notes: tuple[str, ...] = ()


def read_mask(path: MaskPath, shape: tuple[int, int]) -> Bools:
    """Return a mask as bool ``(H, W)``, True where the image is defective; see `open_mask`.

    Args:
        path: of a mask, several masks, or a folder of masks.
        shape: ``(H, W)`` of the image or map that it belongs to.

    Raises:
        ImageError: a file cannot be used.
        DatasetError: the mask has other proportions than ``shape``, or a folder holds none.
    """
    return open_mask(path, shape).marked


def open_mask(
    path: MaskPath, shape: tuple[int, int], *, image: Path | None = None, ignore: int | None = None
) -> Mask:
    """Return what a mask says of a flawed photo, at the size of the photo.

    A mask of another size but the same proportions (within the rounding of one pixel) takes the value of the
    nearest pixel.

    Args:
        path: of a mask, several masks of single flaws, or a folder of them.
        shape: ``(H, W)`` of the upright photo, or of its map.
        image: the photo, whose EXIF orientation may concern the mask.
        ignore: the value of pixels of which nothing is known, or None.

    Raises:
        ImageError: a file cannot be used.
        DatasetError: the mask has other proportions than ``shape``, or a folder holds none.
    """
    files = mask_files(path)
    if not files:
        raise DatasetError(
            f"masks are wanted in '{shown(path)}', but there is none; unpack the data set again"
        )
    turned = None if image is None else read_orientation(image)
    masks = [_fitted(file, shape, turned or 1, ignore) for file in files]
    marked: Bools = np.logical_or.reduce([mask.marked for mask in masks])
    unknown = [mask.ignored for mask in masks if mask.ignored is not None]
    ignored: Bools | None = np.logical_or.reduce(unknown) & ~marked if unknown else None
    notes = [note for mask in masks for note in mask.notes]
    if not marked.any():
        notes.append(EMPTY)
    elif marked.mean() > MOST_MARKED:
        notes.append(INVERTED)
    return Mask(marked, ignored, tuple(dict.fromkeys(notes)))


def mask_files(path: MaskPath) -> tuple[Path, ...]:
    """Return the files of a mask: itself, several, or those of its folder, by name."""
    if not isinstance(path, Path):
        return tuple(path)
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
        return (path,)
    return tuple(file for file in sorted(path.glob("[!.]*")) if file.suffix.lower() in EXTENSIONS)


def read_marked(path: Path, ignore: int | None = None) -> Mask:
    """Return what a mask file says at its own size, turned by its own EXIF orientation.

    Raises:
        ImageError: the file cannot be used.
    """
    return _read(path, ignore)[0]


def _read(path: Path, ignore: int | None) -> tuple[Mask, bool]:
    """Return a mask at its own size, and whether it has an orientation of its own."""
    with refusing(shown(path)):
        picture = stored(path)
        marked, values, painted = _marked(picture)
        unknown = None if ignore is None else values == ignore
        notes = picture.notes if painted else (*picture.notes, *_doubts(picture, marked, values, ignore))
        if unknown is not None:
            marked &= ~unknown
        turned = [None if one is None else upright(one, picture.orientation) for one in (marked, unknown)]
    assert turned[0] is not None
    return Mask(turned[0].astype(bool), turned[1], notes), picture.has_orientation


def _marked(picture: Stored) -> tuple[Bools, NDArray[Any], bool]:
    """Return which stored pixels are marked, the value of each, and whether it is by their transparency."""
    if picture.deep is not None:
        values = picture.deep.shown.max(axis=2)
        if picture.deep.is_inverted:
            values = (np.iinfo(values.dtype).max if values.dtype.kind == "u" else values.max()) - values
        alpha = picture.deep.alpha
    else:
        values, alpha = _values(picture)
    if alpha is not None and not alpha.all():
        return np.asarray(alpha > 0), values, True
    return np.asarray(values >= 128 if picture.is_lossy else values > 0), values, False


def _values(picture: Stored) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the value of each pixel of what Pillow decoded, and its alpha where it has some."""
    image = picture.image
    assert image is not None
    alpha = np.asarray(image.convert("RGBA"))[:, :, 3] if image.has_transparency_data else None
    if image.mode in ("P", "PA"):
        return np.asarray(image if image.mode == "P" else image.getchannel(0)), alpha
    if image.mode == "1":
        return np.asarray(image.convert("L")), alpha
    return np.asarray(image.convert("RGB")).max(axis=2), alpha


def _doubts(picture: Stored, marked: Bools, values: NDArray[Any], ignore: int | None) -> Iterator[str]:
    if picture.is_lossy:
        if values.max() > 0 and not marked.any():
            yield FAINT
        return
    if values.dtype != np.uint8:
        return
    counts = np.bincount(values.ravel(), minlength=256)
    between = np.flatnonzero(counts[1:255]) + 1
    if counts[255] and 0 < len(between) <= _FEW and between[-1] <= _HIGHEST_KIND and ignore != 255:
        yield BESIDE_255
    near = counts[1:32].sum() + counts[224:255].sum()
    if counts[0] and len(between) >= _SHADES and near > 0.5 * counts[1:255].sum():
        yield SOFT


def _fitted(path: Path, shape: tuple[int, int], turned: int, ignore: int | None) -> Mask:
    """Return a mask at the size of its photo, whose EXIF orientation is ``turned``."""
    mask, has_own = _read(path, ignore)
    swapped = (shape[1], shape[0])
    tells = turned >= 5  # which swaps the sides
    notes = list(mask.notes)
    size = (mask.marked.shape[0], mask.marked.shape[1])
    parts = [mask.marked, mask.ignored]
    if not _same_proportions(size, shape):
        if has_own or not tells or not _same_proportions(size, swapped):
            raise DatasetError(_unfit(path, size, shape))
        parts = [None if part is None else upright(part, turned).astype(bool) for part in parts]
        notes.append(TURNED)
    elif turned > 1 and not has_own and (not tells or _same_proportions(size, swapped)):
        notes.append(NOT_TURNED)
    marked, ignored = (None if part is None else _scaled(part, shape) for part in parts)
    assert marked is not None
    return Mask(marked, ignored, tuple(notes))


def _unfit(path: Path, size: tuple[int, int], shape: tuple[int, int]) -> str:
    wanted, got = f"{shape[1]} x {shape[0]}", f"{size[1]} x {size[0]}"
    said = f"mask '{shown(path)}' should fit an image of {wanted} pixels but has {got}"
    if _same_proportions(size, (shape[1], shape[0])):
        return f"{said}; turn it as the image was turned"
    return f"{said}; use the mask that belongs to the image"


def _scaled(mask: Bools, shape: tuple[int, int]) -> Bools:
    if mask.shape == tuple(shape):
        return mask
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, shape, strict=True))
    return mask[rows[:, None], columns]


def _same_proportions(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the smaller size is the larger one scaled down, each side rounded to a whole pixel."""
    (h, w), (tall, wide) = sorted((tuple(one), tuple(other)), key=lambda size: size[0] * size[1])
    if min(h, w) < 1:
        return False
    return abs(h - tall * w / wide) < 1 and abs(w - wide * h / tall) < 1


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return, for each of ``new`` pixel centres, the index of the pixel out of ``old`` that holds it."""
    return ((2 * np.arange(new) + 1) * old // (2 * new)).astype(np.intp)
