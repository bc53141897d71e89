"""The colours of zeroflaw's pictures: one table for scores on a fixed scale, and a few for text and marks.

The table runs from dark blue over violet-grey to orange and light yellow. Its lightness rises in equal
steps, so that it also reads in grey; its hue runs along the blue-yellow axis, which the common forms of
colour blindness (protan and deutan) leave intact. It is interpolated in the OKLab space (B. Ottosson, "A
perceptual color space for image processing", 2020).
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Rgb: TypeAlias = tuple[int, int, int]

PAPER: Rgb = (255, 255, 255)
INK: Rgb = (32, 36, 44)
FAINT: Rgb = (110, 116, 128)
LINE: Rgb = (222, 225, 230)
FLAWED: Rgb = (190, 72, 0)  # vermilion and blue of Okabe and Ito's colour-blind-safe set, darkened for text
SOUND: Rgb = (0, 100, 160)
OUTLINE: Rgb = (255, 238, 120)  # the hot end of the table: seen on dark, and on light by its casing

# OKLab: lightness, green-red, blue-yellow.
_ANCHORS = np.array([
    (0.28, -0.010, -0.115),
    (0.46, 0.005, -0.125),
    (0.61, 0.045, -0.045),
    (0.76, 0.075, 0.105),
    (0.955, -0.015, 0.120),
])  # fmt: skip
_TO_LMS = np.array([
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
])  # fmt: skip
_TO_RGB = np.array([
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
])  # fmt: skip


@cache
def table() -> Pixels:
    """Return the colour table, uint8 ``(256, 3)``: entry 0 for the lowest score, 255 for the highest."""
    at = np.linspace(0, 1, len(_ANCHORS))
    steps = np.linspace(0, 1, 256)
    lab = np.stack([np.interp(steps, at, channel) for channel in _ANCHORS.T], axis=1)
    linear = np.clip((lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: Pixels = np.rint(255 * srgb).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def colourise(values: NDArray[np.floating]) -> Pixels:
    """Return the table's colours ``(..., 3)`` for values on the fixed scale 0..1."""
    found: Pixels = table()[np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)]
    return found
