"""Corruptions against the package that the corrupted data sets were made with, and against its formulas.

The package is compared where it is installed. The formulas, on scikit-image and OpenCV, stand in for it
elsewhere; they are what the package computes with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zeroflaw.corruptions import CORRUPTIONS, SEVERITIES, corrupt, noise_source

EVERY = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


def pictures() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:90, :130]
    found = {
        "noise": random.integers(0, 256, (90, 130, 3)),
        "ramps": np.stack([rows * 255 // 89, columns * 255 // 129, (rows + columns) % 256], axis=2),
        "dark": random.integers(0, 256, (64, 64, 3)) ** 3 // 255**2,
        "grey": np.repeat(random.integers(0, 256, (50, 40, 1)), 3, axis=2),
        "plain": np.full((40, 40, 3), (200, 128, 3)),
        "black": np.zeros((40, 40, 3)),
        "white": np.full((40, 40, 3), 255),
        "wide": random.integers(0, 256, (40, 1100, 3)),
    }
    return {name: values.astype(np.uint8) for name, values in found.items()}


PICTURES = pictures()


def compare(theirs: Callable[[np.ndarray], np.ndarray], image: np.ndarray, name: str, severity: int) -> None:
    ours = corrupt(image, name, severity, seed=3, key="a/b.png")
    difference = ours.astype(int) - theirs(image).astype(int)
    assert np.abs(difference).max() <= 1
    # Truncation turns rounding errors into whole levels, most of all in plain areas; pixels off the edge of
    # two levels agree.
    if image is PICTURES["noise"]:
        assert (difference != 0).mean() < 0.05


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("name", "severity"), EVERY)
def test_equal_to_the_package(picture: str, name: str, severity: int) -> None:
    package = pytest.importorskip("imagecorruptions", reason="the package imagecorruptions is not installed")

    def theirs(image: np.ndarray) -> np.ndarray:
        before = np.random.get_state()  # noqa: NPY002 - the package draws from the global generator
        np.random.set_state(noise_source(3, "a/b.png").get_state())  # noqa: NPY002
        try:
            return package.corrupt(image, corruption_name=name, severity=severity)
        finally:
            np.random.set_state(before)  # noqa: NPY002

    compare(theirs, PICTURES[picture], name, severity)


def brightness(x: np.ndarray, severity: int) -> np.ndarray:
    color = pytest.importorskip("skimage.color")
    hsv = color.rgb2hsv(x)
    hsv[:, :, 2] = np.clip(hsv[:, :, 2] + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1], 0, 1)
    return color.hsv2rgb(hsv)


def contrast(x: np.ndarray, severity: int) -> np.ndarray:
    c = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    result = np.empty_like(x)
    for channel in range(3):
        mean = x[:, :, channel].sum() / x[:, :, channel].size
        result[:, :, channel] = (x[:, :, channel] - mean) * c + mean
    return result


def defocus_blur(x: np.ndarray, severity: int) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    radius, sigma = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    disk = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            disk[row + reach, column + reach] = row * row + column * column <= radius * radius
    disk = cv2.GaussianBlur(disk / disk.sum(), (side, side), sigmaX=sigma)
    return np.dstack([cv2.filter2D(np.ascontiguousarray(x[:, :, c]), -1, disk) for c in range(3)])


def gaussian_noise(x: np.ndarray, severity: int) -> np.ndarray:
    scale = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return x + noise_source(3, "a/b.png").normal(scale=scale, size=x.shape)


RULES = {f.__name__: f for f in (brightness, contrast, defocus_blur, gaussian_noise)}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("name", "severity"), EVERY)
def test_equal_to_the_formulas(picture: str, name: str, severity: int) -> None:
    def theirs(image: np.ndarray) -> np.ndarray:
        return np.uint8(np.clip(RULES[name](image / 255.0, severity), 0, 1) * 255)

    compare(theirs, PICTURES[picture], name, severity)
