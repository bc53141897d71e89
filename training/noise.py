"""The pencil case of the pair generator: fields, colours, strokes and blobs.

Everything is drawn on one square of ``SIZE`` pixels. A *plane* is a float32 array (SIZE, SIZE),
a *picture* one of shape (SIZE, SIZE, 3) with values 0 to 255. Nothing here keeps state: the generator that is
passed in is the only randomness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 240
Plane = NDArray[np.float32]
Picture = NDArray[np.float32]
Rng = np.random.Generator
Item = TypeVar("Item")


@lru_cache(maxsize=1)
def grid() -> tuple[Plane, Plane]:
    """Columns and rows of the square in pixels, both (SIZE, SIZE) and read-only."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    rows.flags.writeable = columns.flags.writeable = False
    return columns, rows


def chance(rng: Rng, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def pick(rng: Rng, items: Sequence[Item]) -> Item:
    """One of ``items``, each equally likely."""
    return items[int(rng.integers(len(items)))]


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def as_float(array: Any) -> NDArray[np.float32]:
    """The array as float32, not copied where it already is."""
    return np.asarray(array, dtype=np.float32)


def blur(array: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur with a standard deviation in pixels; a plane or a picture."""
    return as_float(cv2.GaussianBlur(array, (0, 0), max(sigma, 0.05)))


def turn(array: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Rotate about the middle; what comes in from outside is mirrored."""
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, 1.0)
    return as_float(cv2.warpAffine(array, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT_101))


def fractal(rng: Rng, cell: float, octaves: int = 3, fall: float = 0.5, stretch: float = 1.0) -> Plane:
    """Value noise of several octaves, mean 0 and standard deviation 1.

    Args:
        rng: source of randomness.
        cell: size of the coarsest grain in pixels.
        octaves: how many times the grain is halved.
        fall: weight of each octave relative to the one before.
        stretch: how many times longer than high the grains are.
    """
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.5)
        shape = (max(2, int(SIZE / step) + 2), max(2, int(SIZE / (step * stretch)) + 2))
        coarse = rng.standard_normal(shape, dtype=np.float32)
        total += fall**octave * cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    total -= total.mean()
    return as_float(total / (total.std() + 1e-6))


def cells(rng: Rng, count: int) -> tuple[Plane, Plane, NDArray[np.int32]]:
    """Voronoi cells of ``count`` random seeds: distance to the seed and to the border, label of the cell."""
    seeds = np.full((SIZE, SIZE), 255, np.uint8)
    spots = rng.integers(0, SIZE, (count, 2))
    seeds[spots[:, 0], spots[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    inside = np.full((SIZE, SIZE), 255, np.uint8)
    inside[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    inside[1:][labels[1:] != labels[:-1]] = 0
    return (
        as_float(distance),
        as_float(cv2.distanceTransform(inside, cv2.DIST_L2, 3)),
        labels.astype(np.int32),
    )


def slope(height: Plane, light: float) -> Plane:
    """How much a surface of this height (pixels) leans towards light from the angle ``light``."""
    return as_float(
        -0.5 * math.cos(light) * cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=1)
        - 0.5 * math.sin(light) * cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=1)
    )


def mix(under: Picture, over: NDArray[np.float32], cover: Plane) -> Picture:
    """``over`` (a picture or one colour) laid on ``under`` with the given coverage, 0 to 1."""
    return as_float(under + (over - under) * cover[..., None])


def colour(rng: Rng, low: float = 12.0, high: float = 242.0, vivid: float = 0.0) -> NDArray[np.float32]:
    """A colour as found on products, mostly close to grey; ``vivid`` is the chance of a saturated one."""
    if chance(rng, vivid):
        hsv = np.array([[[rng.integers(180), rng.integers(70, 230), rng.integers(50, 250)]]], np.uint8)
        return as_float(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
    warm, odd = rng.standard_normal() * np.array([1.0, 0.1, -1.0]), 0.35 * rng.standard_normal(3)
    tint = 45.0 * rng.uniform() ** 2 * (warm + odd)
    return as_float(np.clip(rng.uniform(low, high) + tint, 4, 250))


def near_colour(rng: Rng, base: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """A colour lighter or darker than ``base`` by ``low`` to ``high`` grey levels, with a little tint."""
    step = log_uniform(rng, low, high) * (1.0 if chance(rng, 0.5) else -1.0)
    if not 0 <= float(base.mean()) + step <= 255:
        step = -step
    tint = pick(rng, (0.0, 0.1, 0.2)) * rng.standard_normal(3)
    return as_float(np.clip(base + step * (1 + tint), 0, 255))


def ramp(rng: Rng, plane: Plane, low: float = 8.0, high: float = 75.0) -> Picture:
    """Turn a plane (0 to 1) into a picture between two colours, ``low`` to ``high`` grey levels apart."""
    first = colour(rng, vivid=0.06)
    second = near_colour(rng, first, low, high) if chance(rng, 0.85) else colour(rng)
    return as_float(first + (second - first) * np.clip(plane, 0, 1)[..., None])


def blob(rng: Rng, x: float, y: float, size: float, rough: float, aspect: float | None = None) -> Plane:
    """A field below 1 inside an irregular spot of about ``size`` pixels radius around (x, y)."""
    columns, rows = grid()
    angle = rng.uniform(0, math.pi)
    ratio = math.sqrt(math.exp(rng.uniform(-0.9, 0.9)) if aspect is None else aspect)
    along = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
    ragged = 0.5 * rough * fractal(rng, size * rng.uniform(0.5, 1.5) + 2, 3)
    return as_float(np.hypot(along / ratio, across * ratio) / size + ragged)


def soft(field: Plane, edge: float) -> Plane:
    """Coverage of the inside of a blob; ``edge`` is the width of its soft border relative to its size."""
    return as_float(np.clip(0.5 - (field - 1) / max(edge, 1e-3), 0, 1))


def _walk(rng: Rng, x: float, y: float, angle: float, length: float, wobble: float) -> NDArray[np.float64]:
    count = max(2, int(length / 3))
    bends = np.zeros(count)
    bend = 0.0
    for index, kick in enumerate(rng.normal(0, wobble, count)):
        bend = 0.6 * bend + kick
        bends[index] = bend
    headings = angle + np.cumsum(bends)
    steps = 3.0 * np.stack([np.cos(headings), np.sin(headings)], 1)
    return np.concatenate([[[x, y]], np.array([x, y]) + np.cumsum(steps, 0)])


def _ink(canvas: NDArray[np.uint8], path: NDArray[np.float64], width: float, taper: bool) -> None:
    count = len(path) - 1
    points = np.rint(path * 32).astype(int)  # canvas is twice the size, four fractional bits
    for index in range(count):
        thick = 2 * width * (1 - 0.7 * index / count if taper else 1)
        start, end = points[index].tolist(), points[index + 1].tolist()
        cv2.line(canvas, start, end, (255,), max(1, round(thick)), cv2.LINE_AA, shift=4)


def stroke(
    rng: Rng,
    start: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    wobble: float = 0.1,
    taper: bool = True,
    branches: int = 0,
) -> Plane:
    """Coverage of a wandering line from ``start``; lengths and widths in pixels, ``wobble`` in radians."""
    canvas = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    path = _walk(rng, *start, angle, length, wobble)
    _ink(canvas, path, width, taper)
    for _ in range(branches):
        x, y = path[int(rng.integers(len(path)))]
        side = angle + pick(rng, (-1, 1)) * rng.uniform(0.4, 1.3)
        twig = _walk(rng, x, y, side, length * rng.uniform(0.15, 0.5), wobble)
        _ink(canvas, twig, width * 0.7, True)
    return as_float(cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)) / np.float32(255)
