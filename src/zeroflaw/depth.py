"""Pixels of more than 8 bits: which of their levels is white, and how they become 8 bits.

White is, the first that is known: what the user says; what the file declares; what can be read off the
values. The last is a guess, the smallest full depth that holds all values, and is said in a note: two photos
of one camera must not be read differently without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]

FULL = 65535
_DEPTHS = (255, 1023, 4095, 16383, FULL)  # white of 8, 10, 12, 14 and 16 bits
_SMALL = 1 / 16  # share of a declared range that looks like a mistake where no value is higher
_ROWS = 1 << 20  # numbers that are converted at once


class DepthError(Exception):
    """Why values cannot be brought to 8 bits, in words."""


@dataclass(frozen=True, slots=True)
class Deep:
    """Pixels as a file or array holds them.

    Attributes:
        values: (H, W, channels) of any number type; grey or RGB, perhaps an alpha channel, perhaps others.
        is_colour: whether the first three channels are red, green and blue; else the first is grey.
        has_alpha: whether the channel behind these is transparency.
        declared: white as the file declares it, or None.
        is_inverted: zero is white.
    """

    values: Values
    is_colour: bool = False
    has_alpha: bool = False
    declared: float | None = None
    is_inverted: bool = False

    @property
    def shown(self) -> Values:
        """Grey or colour without alpha, (H, W, 1 or 3)."""
        return self.values[:, :, : 3 if self.is_colour else 1]

    @property
    def alpha(self) -> Values | None:
        """Transparency (H, W), or None where there is none."""
        return self.values[:, :, 3 if self.is_colour else 1] if self.has_alpha else None


def to_rgb(deep: Deep, white: float | None) -> tuple[Pixels, tuple[str, ...]]:
    """Return values as uint8 (H, W, 3), what is transparent laid over white, and notes about their white.

    Args:
        deep: what a file holds.
        white: the level of white that the user says, or None.

    Raises:
        DepthError: there are values that are no numbers or below zero, or their white is not known.
    """
    if deep.values.shape[2] > 2 and not deep.is_colour:
        raise DepthError(
            f"it has {deep.values.shape[2]} channels that are neither grey nor RGB; save those three that "
            "should be seen as RGB"
        )
    level, notes = _white_of(deep, white)
    eight = _eight_bit(deep.shown, level)
    if deep.is_inverted:
        eight = np.subtract(255, eight, dtype=np.uint8)
    if deep.alpha is not None:
        eight = _over_white(eight, _eight_bit(deep.alpha, _white_of_alpha(deep.alpha, level)))
    return (np.repeat(eight, 3, axis=2) if eight.shape[2] == 1 else eight), notes


def _white_of(deep: Deep, given: float | None) -> tuple[float, tuple[str, ...]]:
    low, high = float(deep.shown.min()), float(deep.shown.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DepthError("it has pixels that are no numbers (NaN or infinity); save it with plain values")
    if given is not None:
        share = float(np.mean(deep.shown > given)) if high > given else 0.0
        clipped = f"{share:.1%} of its values are above the white of {given:g}, and count as white"
        return given, (clipped,) * (share > 0.001)
    if deep.declared is not None and high <= deep.declared and low >= 0:
        little = f"no value is above {_SMALL:.0%} of the white that its header declares ({deep.declared:g})"
        return deep.declared, (f"{little}; if that is wrong, say the white (--white)",) * (
            0 < high < _SMALL * deep.declared
        )
    if low < 0 or high > FULL:
        raise DepthError(
            f"its values go from {low:g} to {high:g}; scale them to 0..1, 0..255 or 0..65535, or say the "
            "white (--white)"
        )
    kind, size = deep.values.dtype.kind, deep.values.dtype.itemsize
    if kind == "f" and high <= 1:
        return 1.0, ()
    level = next(full for full in _DEPTHS if high <= full)
    usual = (FULL,) if (kind, size) == ("u", 2) else (255, FULL)
    if level in usual or high == 0:
        return level, ()
    return level, (
        f"its white is not known and was taken for {level}, the lowest full depth above its values; say the "
        "white of the camera (--white)",
    )


def _white_of_alpha(alpha: Values, level: float) -> float:
    if alpha.dtype.kind == "f":
        return 1.0 if float(alpha.max()) <= 1 else level
    return level if float(alpha.max()) <= level else float(np.iinfo(alpha.dtype).max)


def _eight_bit(values: Values, white: float) -> Pixels:
    """Return values as uint8: 255 from white on, 0 up to zero, the nearest level between."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        table = np.arange(2 ** (8 * values.dtype.itemsize), dtype=np.float64) * (255 / white)
        found: Pixels = np.rint(np.minimum(table, 255)).astype(np.uint8)[values]
        return found
    eight = np.empty(values.shape, np.uint8)
    step = max(1, _ROWS // max(1, values[0].size))
    for row in range(0, len(values), step):
        part = values[row : row + step].astype(np.float64) * (255 / white)
        eight[row : row + step] = np.rint(np.clip(part, 0, 255))
    return eight


def _over_white(eight: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[:, :, None].astype(np.float32) / 255
    return np.rint(eight * share + 255 * (1 - share)).astype(np.uint8)
