"""What painted defects share: the place they go to, colours that show there, relief in the scene's light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import (
    SIZE,
    Picture,
    Plane,
    Rng,
    as_float,
    blur,
    chance,
    log_uniform,
    mix,
    near_colour,
    pick,
    slope,
)
from .scenes import Scene


@dataclass(frozen=True, eq=False)
class Spot:
    """Where a defect goes: pixel, radius in pixels, and the mean colour found there."""

    x: float
    y: float
    size: float
    tone: NDArray[np.float32]

    @property
    def level(self) -> float:
        """Mean grey level around the place."""
        return float(self.tone.mean())


class Zoned(NamedTuple):
    """A picture in which a defect moved more than it harmed: only changes inside ``zone`` (bool) count."""

    picture: Picture
    zone: NDArray[np.bool_]


Flaw = Callable[[Rng, Scene, Picture, Spot], "Picture | Zoned"]
"""Paints one defect: takes the picture as it is (defects before it included) and returns a new one."""


def _border(cover: Plane) -> NDArray[np.bool_]:
    solid = (cover > 0.5).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0)


def find_spot(rng: Rng, scene: Scene, picture: Picture, on_border: bool = False) -> Spot:
    """A random place, nearly always on the object; sizes from tiny to large, every octave alike."""
    where = _border(scene.cover) if on_border else scene.cover > 0.5
    if not on_border and scene.base == "object" and chance(rng, 0.06):
        where = scene.cover <= 0.5
    rows, columns = np.nonzero(where)
    untold = scene.base == "photo" and scene.ground is None
    reach = 75 if untold and chance(rng, 0.6) else 112  # photographed things lie in the middle
    inner = (np.abs(rows - SIZE / 2) < reach) & (np.abs(columns - SIZE / 2) < reach)
    rows, columns = rows[inner], columns[inner]
    if len(rows) == 0:
        rows, columns = rng.integers(10, SIZE - 10, (2, 1))
    index = int(rng.integers(len(rows)))
    x, y = float(columns[index]), float(rows[index])
    around = picture[max(0, int(y) - 7) : int(y) + 8, max(0, int(x) - 7) : int(x) + 8]
    extent = math.sqrt(float(scene.cover.sum()))
    size = min(log_uniform(rng, 2.5, 80), max(4.0, 0.42 * extent))
    return Spot(x, y, size, as_float(around.mean((0, 1))))


def along_grain(picture: Picture, spot: Spot) -> float:
    """The direction in which the picture changes least around the place, radians."""
    top, left = max(0, int(spot.y) - 20), max(0, int(spot.x) - 20)
    grey = as_float(picture[top : top + 41, left : left + 41].mean(-1))
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    across = 0.5 * math.atan2(2 * float((dx * dy).sum()), float((dx * dx - dy * dy).sum()))
    return across + 0.5 * math.pi


def tone_at(rng: Rng, spot: Spot, low: float = 14, high: float = 140) -> NDArray[np.float32]:
    """A colour that differs from its surroundings, faintly or strongly."""
    return near_colour(rng, spot.tone, low, high)


def dark_at(rng: Rng, spot: Spot, least: float = 0.05, most: float = 0.6) -> NDArray[np.float32]:
    """A darker shade of the surroundings, or a lighter one where these are nearly black."""
    if spot.level < 35:
        return near_colour(rng, spot.tone, 25, 90)
    return as_float(spot.tone * rng.uniform(least, most))


def on_surface(scene: Scene, cover: Plane) -> Plane:
    """The part of a coverage that lies on the object."""
    return as_float(cover * scene.cover)


def emboss(scene: Scene, picture: Picture, height: Plane, strength: float) -> Picture:
    """Add relief: ``height`` in pixels above the surface, seen under the scene's light."""
    lean = np.clip(slope(height, scene.light) * strength, -0.85, 1.2)
    lift = 25 * np.clip(lean, -1, 1)[..., None]
    return as_float(np.clip(picture * (1 + lean)[..., None] + lift, 0, 255))


def behind(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """What appears where material is gone: the ground, or else something dark, plain or blurred."""
    if scene.ground is not None:
        return scene.ground
    kind = pick(rng, ("dark", "plain", "blurred"))
    if kind == "blurred":
        return as_float(blur(picture, 10) * rng.uniform(0.5, 0.9))
    tone = dark_at(rng, spot) if kind == "dark" else tone_at(rng, spot, 25, 140)
    return as_float(np.broadcast_to(tone, picture.shape))


def paint(picture: Picture, over: NDArray[np.float32], cover: Plane) -> Picture:
    """``over`` on the picture, kept within 0 to 255."""
    return as_float(np.clip(mix(picture, over, cover), 0, 255))
