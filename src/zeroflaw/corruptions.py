"""The four shifts of the corrupted data sets: brightness, contrast, defocus blur and Gaussian noise.

The rules and strengths are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (ICLR 2019), as the package ``imagecorruptions`` applies them to
pictures of any size; "Anomaly Detection under Distribution Shift" (Cao et al., ICCV 2023) uses these four at
severity 3 on test images at their own resolution. Ours equal the package's to within one grey level.

With x in [0, 1], and the result clipped to [0, 1], multiplied by 255 and truncated:

================  ==========================================================  ===============================
brightness        V + c in HSV; hue and saturation stay                       c = .1 .2 .3 .4 .5
contrast          (x - mean) c + mean, with the mean of each channel          c = .4 .3 .2 .1 .05
defocus_blur      convolution with a disk of radius r whose edge is           r = 3 4 6 8 10,
                  smoothed with a Gaussian of deviation s; both in pixels     s = .1 .5 .5 .5 .5
gaussian_noise    x + N(0, c^2), drawn for each pixel and channel             c = .08 .12 .18 .26 .38
================  ==========================================================  ===============================

Blur is measured in pixels: corrupt a picture at its own resolution, before it is resized for a network.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.ndimage import convolve1d

from zeroflaw.errors import UsageError, closest, printable
from zeroflaw.shifts import MOVING, SHIFTS

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt", "noise_source", "parse_corruption"]

SEVERITIES = (1, 2, 3, 4, 5)

_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_DISK = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)

_STRIP = 1 << 20  # values that are looked up or drawn at a time: bounds memory
# Rounding errors of a computation that is exact on paper must not lower a grey level by truncation.
_GUARD = 1e-6

Pixels = NDArray[np.uint8]


def corrupt(image: Pixels, name: str, severity: int, *, seed: int = 0, key: str = "") -> Pixels:
    """Return a corrupted copy of a picture.

    Args:
        image: uint8 ``(H, W, 3)``, RGB. Grey pictures come with three equal channels; the rules treat them as
            the package treats pictures of one channel, except that noise differs between the channels.
        name: one of `CORRUPTIONS`, or of `zeroflaw.shifts.SHIFTS`.
        severity: 1 to 5.
        seed: of the noise; the other corruptions are not random.
        key: what the noise of this picture is drawn for, such as its path below the root of its data set.
            The same seed and key give the same noise everywhere, whatever else is corrupted and in which
            order; severities of one picture share their draws.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        UsageError: no such corruption or severity, a negative seed, or no such array.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"a picture as uint8 (H, W, 3) is wanted, got {got}; read it with read_image")
    _check_name(name)
    if isinstance(severity, bool) or not isinstance(severity, int) or severity not in SEVERITIES:
        raise UsageError(f"the severity of {name} must be a whole number from 1 to 5, got {severity!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed must be a whole number from 0, got {seed!r}")
    if not image.size:
        return image.copy()
    if name == "gaussian_noise":
        return _gaussian_noise(image, severity, noise_source(seed, key))
    return SHIFTS[name](image, severity) if name in SHIFTS else _FIXED[name](image, severity)


def moves(name: str) -> bool:
    """Whether a corruption moves what is seen, so that masks must be moved with their pictures."""
    return name in MOVING


def moved_mask(marked: NDArray[np.bool_], name: str, severity: int) -> NDArray[np.bool_]:
    """Return what a mask, bool (H, W), marks in the corrupted copy of its picture."""
    if name not in MOVING or not marked.size:
        return marked
    return MOVING[name](np.where(marked, 255, 0).astype(np.uint8), severity) > 0


def parse_corruption(text: str) -> tuple[str, int]:
    """Read ``NAME:SEVERITY``, such as ``gaussian_noise:3``.

    Raises:
        UsageError: no such corruption, or no severity from 1 to 5.
    """
    name, _, severity = text.partition(":")
    _check_name(name)
    if severity not in map(str, SEVERITIES):
        raise UsageError(
            f"a corruption is wanted as NAME:SEVERITY, such as {name}:3, got '{printable(text)}'"
        )
    return name, int(severity)


def _check_name(name: str) -> None:
    every = (*CORRUPTIONS, *SHIFTS)
    if name not in every:
        known = f"{closest(name, every)} (known: {', '.join(every)})"
        raise UsageError(f"there is no corruption '{printable(name)}'{known}")


def _bytes(grey: NDArray[np.float64]) -> Pixels:
    """Clip to grey levels 0 to 255 and truncate."""
    eight: Pixels = np.clip(grey + _GUARD, 0, 255).astype(np.uint8)
    return eight


def _by_rows(image: Pixels, change: Callable[[Pixels], Pixels], border: int = 0) -> Pixels:
    """Apply ``change`` to some rows at a time, from top to bottom.

    With a ``border``, ``change`` gets so many rows and columns more on each side, mirrored beyond the ends of
    the picture, and takes them off.
    """
    framed = np.pad(image, ((border, border), (border, border), (0, 0)), mode="reflect") if border else image
    changed = np.empty_like(image)
    step = max(2 * border, math.ceil(_STRIP / image[0].size))
    for top in range(0, len(image), step):
        changed[top : top + step] = change(framed[top : top + step + 2 * border])
    return changed


# Brightness and contrast: a grey level becomes another one, so they are tables


def _brightness(image: Pixels, severity: int) -> Pixels:
    table = _brighter(severity)
    return _by_rows(image, lambda rows: table[rows.max(axis=2, keepdims=True), rows])


@lru_cache(maxsize=len(SEVERITIES))
def _brighter(severity: int) -> Pixels:
    """Return the new level, ``(256, 256)`` by V and old level.

    V is the largest of the three channels. With hue and saturation fixed, all three grow in proportion to
    it; black has no hue and becomes grey.
    """
    value = np.arange(256.0)[:, None]
    level = np.arange(256.0)[None, :]
    after = np.minimum(value + 255 * _BRIGHTNESS[severity - 1], 255)
    table = _bytes(np.where(value > 0, level * after / np.maximum(value, 1), after))
    table.setflags(write=False)
    return table


def _contrast(image: Pixels, severity: int) -> Pixels:
    mean = image.mean(axis=(0, 1), dtype=np.float64)  # (3,)
    level = np.arange(256.0)[:, None]
    table = _bytes((level - mean) * _CONTRAST[severity - 1] + mean)  # (256, 3)
    return _by_rows(image, lambda rows: table[rows, np.arange(3)])


# Defocus blur


def _defocus_blur(image: Pixels, severity: int) -> Pixels:
    """Convolve each channel with the disk by multiplying spectra.

    A spectrum makes the picture go round at its ends; what that spoils is what is cut off.
    """
    disk = _disk(*_DISK[severity - 1])
    around = len(disk) - 1

    def blurred(rows: Pixels) -> Pixels:
        height, width = rows.shape[:2]
        size = next_fast_len(height), next_fast_len(width)
        spectrum = np.fft.rfft2(disk, s=size)
        channels = (np.fft.irfft2(np.fft.rfft2(rows[:, :, n], s=size) * spectrum, s=size) for n in range(3))
        return np.stack([_bytes(whole[around:height, around:width]) for whole in channels], axis=2)

    return _by_rows(image, blurred, around // 2)


@lru_cache(maxsize=len(SEVERITIES))
def _disk(radius: int, smoothing: float) -> NDArray[np.float64]:
    """Return the disk on a square grid that reaches 8 pixels each way, or ``radius`` where that is more.

    It sums to one before its edge is smoothed, with 3 taps in the small grid and 5 in the large one. At the
    ends of the grid the smoothing sees a mirrored disk, so a disk that touches them sums to 1.01.
    """
    reach = max(8, radius)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line[None, :] ** 2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    offsets = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    taps = np.exp(-(offsets**2) / (2 * smoothing**2))
    taps /= taps.sum()
    smooth: NDArray[np.float64] = convolve1d(convolve1d(disk, taps, 0, mode="mirror"), taps, 1, mode="mirror")
    smooth.setflags(write=False)
    return smooth


# Gaussian noise


def noise_source(seed: int, key: str) -> np.random.RandomState:
    """Return the generator whose normal draws become the noise of the picture called ``key``.

    It is NumPy's old generator because its stream is frozen: it does not change with NumPy's version. Names
    are brought to Unicode's composed form first, since file systems differ in which form they keep.
    """
    text = f"{seed}\n{unicodedata.normalize('NFC', key)}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4").astype(np.uint32))


def _gaussian_noise(image: Pixels, severity: int, source: np.random.RandomState) -> Pixels:
    """Draw in the order of the array; strip by strip gives the same numbers as all at once."""
    spread = 255 * _NOISE[severity - 1]
    return _by_rows(image, lambda rows: _bytes(rows + spread * source.normal(size=rows.shape)))


_FIXED: dict[str, Callable[[Pixels, int], Pixels]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "defocus_blur": _defocus_blur,
}

CORRUPTIONS = (*_FIXED, "gaussian_noise")
