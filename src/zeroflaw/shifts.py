"""Shifts that happen at a line and that no paper's list has: light, lens, camera and place.

Each takes a picture, uint8 (H, W, 3), RGB, and a severity from 1 to 5. They are ours, not those of any
benchmark; `zeroflaw.corruptions` has the four of the corrupted data sets.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter1d

Pixels = NDArray[np.uint8]

_LENGTH = (5, 9, 13, 19, 25)  # pixels of a motion blur, of a picture of 512
_QUALITY = (60, 40, 25, 15, 8)  # of a JPEG
_WARMTH = (0.05, 0.1, 0.15, 0.2, 0.3)  # share by which red rises and blue falls
_DEGREES = (1.0, 2.0, 3.0, 5.0, 8.0)  # of a turn, with a shift of as many hundredths of a side
_DARKER = (0.85, 0.7, 0.55, 0.4, 0.3)  # share of the light that is left
_SIDE = (0.15, 0.3, 0.45, 0.6, 0.75)  # share of the light that is missing at the darker side
_GREY = (0.3, 0.5, 0.7, 0.85, 1.0)  # share of the colour that is lost


def _back(values: NDArray[np.generic]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _motion_blur(image: Pixels, severity: int) -> Pixels:
    """A camera that moves along the longer side while the shutter is open."""
    length = max(2, round(_LENGTH[severity - 1] * max(image.shape[:2]) / 512))
    along = 1 if image.shape[1] >= image.shape[0] else 0
    return _back(uniform_filter1d(image.astype(np.float32), length, axis=along, mode="nearest"))


def _jpeg(image: Pixels, severity: int) -> Pixels:
    """Another compression."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY[severity - 1])
    return np.asarray(Image.open(buffer).convert("RGB"))


def _warmer(image: Pixels, severity: int, sign: int = 1) -> Pixels:
    """A lamp of lower colour temperature, or of higher where the sign is -1."""
    share = sign * _WARMTH[severity - 1]
    return _back(image * np.array([1 + share, 1, 1 - share], np.float32))


def _moved(image: Pixels, severity: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """The part lies a little turned and shifted; what comes into view repeats the border."""
    degrees, height, width = _DEGREES[severity - 1], image.shape[0], image.shape[1]
    reach = max(height, width) // 4
    edges = ((reach, reach), (reach, reach), (0, 0))[: image.ndim]
    turned = Image.fromarray(np.pad(image, edges, mode="edge")).rotate(degrees, resample)
    top, left = reach + round(height * degrees / 100), reach + round(width * degrees / 100)
    return np.asarray(turned)[top : top + height, left : left + width]


def _darker(image: Pixels, severity: int) -> Pixels:
    """Less light."""
    return _back(image * np.float32(_DARKER[severity - 1]))


def _side_light(image: Pixels, severity: int) -> Pixels:
    """Light that falls off from left to right."""
    ramp = np.linspace(1, 1 - _SIDE[severity - 1], image.shape[1], dtype=np.float32)
    return _back(image * ramp[None, :, None])


def _greyer(image: Pixels, severity: int) -> Pixels:
    """A camera with weaker colours."""
    share = np.float32(_GREY[severity - 1])
    grey = image.astype(np.float32).mean(2, keepdims=True)
    return _back(image * (1 - share) + grey * share)


SHIFTS: Mapping[str, Callable[[Pixels, int], Pixels]] = {
    "motion_blur": _motion_blur,
    "jpeg": _jpeg,
    "warmer": _warmer,
    "cooler": functools.partial(_warmer, sign=-1),
    "moved": _moved,
    "darker": _darker,
    "side_light": _side_light,
    "greyer": _greyer,
}
"""Every shift by its name."""

MOVING: Mapping[str, Callable[[Pixels, int], Pixels]] = {
    "moved": functools.partial(_moved, resample=Image.Resampling.NEAREST)
}
"""Those that move what is seen, as they move a mask, uint8 (H, W), of the same size."""
