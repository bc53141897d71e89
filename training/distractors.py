"""What belongs in a flawless picture and yet looks a little like a defect: shadow, glare, print, seam."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .noise import SIZE, Picture, Plane, Rng, as_float, blur, chance, colour, fractal, grid, mix, pick
from .shapes import Frame, bars_cover, text_cover


def _band(rng: Rng) -> Plane:
    """Signed distance in pixels from a straight line somewhere across the picture."""
    columns, rows = grid()
    angle = rng.uniform(0, math.tau)
    x, y = rng.uniform(0, SIZE, 2)
    return as_float((columns - x) * math.cos(angle) + (rows - y) * math.sin(angle))


def shadow(rng: Rng, picture: Picture) -> Picture:
    """The soft shadow of something outside the picture."""
    edge = 1 / (1 + np.exp(np.clip(-_band(rng) / rng.uniform(2, 20), -30, 30)))
    return as_float(picture * (1 - rng.uniform(0.1, 0.45) * edge)[..., None])


def reflection(rng: Rng, picture: Picture) -> Picture:
    """A bright streak of a lamp."""
    near = np.exp(-((_band(rng) / rng.uniform(4, 30)) ** 2)) * (1 + 0.2 * fractal(rng, 50, 2))
    return as_float(np.clip(picture + rng.uniform(10, 60) * near[..., None], 0, 255))


def mottle(rng: Rng, picture: Picture) -> Picture:
    """Weak clouds all over, as on anything handled or weathered."""
    cloud = fractal(rng, rng.uniform(6, 50), 4) * rng.uniform(2, 9)
    return as_float(np.clip(picture + cloud[..., None], 0, 255))


def specks(rng: Rng, picture: Picture) -> Picture:
    """Evenly spread dark or light grains: the look of the material, not dirt on it."""
    size = rng.uniform(1.6, 4)
    grains = np.clip((fractal(rng, size, 1) - rng.uniform(1.5, 2.2)) * 2, 0, 1)
    return mix(picture, colour(rng), as_float(grains * rng.uniform(0.15, 0.6)))


def legend(rng: Rng, picture: Picture) -> Picture:
    """A line of print or a bar code that belongs there."""
    x, y = rng.uniform(50, SIZE - 50, 2)
    frame = Frame(float(x), float(y), 40.0, pick(rng, (0.0, 0.0, math.pi / 2, rng.uniform(0, math.tau))))
    if chance(rng, 0.75):
        cover = text_cover(rng, frame, rng.uniform(0.8, 2.2))
    else:
        cover = bars_cover(rng, frame, rng.uniform(0.4, 1), rng.uniform(0.15, 0.4), (0.0, 0.0))
    return mix(picture, colour(rng, vivid=0.3), as_float(cover * rng.uniform(0.6, 1)))


def seam(rng: Rng, picture: Picture) -> Picture:
    """A straight joint with a lit and a dark side, right across the picture; sometimes two, parallel."""
    distance = _band(rng)
    if chance(rng, 0.4):
        gap = rng.uniform(20, 90)
        distance = as_float((distance + gap / 2) % gap - gap / 2) if chance(rng, 0.5) else distance
    width = rng.uniform(0.7, 2)
    line = np.exp(-((distance / width) ** 2)) - 0.6 * np.exp(-(((distance - 2 * width) / width) ** 2))
    return as_float(np.clip(picture * (1 - rng.uniform(0.15, 0.5) * line)[..., None], 0, 255))


def two_tone(rng: Rng, picture: Picture) -> Picture:
    """One side of a straight border painted differently."""
    side = np.clip(_band(rng) + 0.5, 0, 1)
    other = as_float(np.clip(picture * rng.uniform(0.6, 1.3) + rng.uniform(-15, 15, 3), 0, 255))
    return mix(picture, other, blur(as_float(side), 0.6))


DISTRACTORS: dict[str, Callable[[Rng, Picture], Picture]] = {
    function.__name__: function for function in (shadow, reflection, mottle, specks, legend, seam, two_tone)
}
"""Every distractor by its name."""
QUIET = ("shadow", "reflection", "mottle", "specks")
"""Those that may lie over an object and its ground alike."""
PASSING = ("shadow", "reflection", "mottle")
"""Those that may come and go between two photographs of the same thing."""


def distract(
    rng: Rng, picture: Picture, share: float, names: tuple[str, ...] = tuple(DISTRACTORS)
) -> Picture:
    """Add, with probability ``share``, one or more of the named distractors."""
    while chance(rng, share):
        picture = DISTRACTORS[pick(rng, names)](rng, picture)
        share *= 0.6
    return picture
