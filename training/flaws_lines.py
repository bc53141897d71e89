"""Defects that are lines: scratches, cracks, cuts, fibres, splits."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import Spot, Zoned, along_grain, behind, dark_at, emboss, on_surface, paint, tone_at
from .noise import (
    SIZE,
    Picture,
    Plane,
    Rng,
    as_float,
    blur,
    chance,
    colour,
    fractal,
    grid,
    log_uniform,
    pick,
    stroke,
)
from .scenes import Scene


def _start(spot: Spot, angle: float, length: float) -> tuple[float, float]:
    """Where a line of this length must begin to have its middle on the spot."""
    return spot.x - 0.5 * length * math.cos(angle), spot.y - 0.5 * length * math.sin(angle)


def _angle(rng: Rng, picture: Picture, spot: Spot) -> float:
    """Any direction, or now and then that of the grain, in which a line is hard to see."""
    if chance(rng, 0.3):
        return along_grain(picture, spot) + float(rng.normal(0, 0.1))
    return float(rng.uniform(0, math.tau))


def scratch(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One or several nearly parallel scores, ploughed into the surface or only bright or dull."""
    angle, cover = _angle(rng, picture, spot), np.zeros((SIZE, SIZE), np.float32)
    length, width = 5 + spot.size * rng.uniform(1.5, 5), rng.uniform(0.5, 1.8)
    for _ in range(pick(rng, (1, 1, 1, 2, 3, 6))):
        lean = angle + rng.normal(0, 0.08)
        x, y = _start(spot, lean, length)
        begin = (x + rng.normal(0, 4), y + rng.normal(0, 4))
        line = stroke(rng, begin, lean, length * rng.uniform(0.5, 1), width, rng.uniform(0, 0.05))
        cover = np.maximum(cover, line)
    cover = on_surface(scene, cover)
    out = paint(picture, tone_at(rng, spot, 22, 150), as_float(cover * rng.uniform(0.5, 1)))
    if chance(rng, 0.5):
        out = emboss(scene, out, as_float(-blur(cover, 0.7)), rng.uniform(0.8, 2.2))
    return out


def crack(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A jagged dark line, often branched; sometimes its lips catch the light."""
    angle, length = _angle(rng, picture, spot), 10 + spot.size * rng.uniform(1.5, 5)
    branches = int(pick(rng, (0, 0, 1, 2, 4)))
    width, wobble = rng.uniform(0.45, 1.9), rng.uniform(0.2, 0.6)
    cover = stroke(rng, _start(spot, angle, length), angle, length, width, wobble, True, branches)
    cover = on_surface(scene, cover)
    out = paint(picture, dark_at(rng, spot, 0.05, 0.7), cover)
    if chance(rng, 0.4):
        out = emboss(scene, out, as_float(-1.5 * blur(cover, 1.0)), rng.uniform(0.4, 1.4))
    return out


def cut(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A straight, spindle-shaped incision with a raised lip."""
    columns, rows = grid()
    angle, half = _angle(rng, picture, spot), 4 + spot.size * rng.uniform(0.6, 1.6)
    along = ((columns - spot.x) * math.cos(angle) + (rows - spot.y) * math.sin(angle)) / half
    across = (rows - spot.y) * math.cos(angle) - (columns - spot.x) * math.sin(angle)
    width = rng.uniform(0.6, 3.5) * np.sqrt(np.clip(1 - along**2, 0, 1))
    bent = across + rng.uniform(-0.15, 0.15) * half * along**2
    cover = on_surface(scene, as_float(np.clip(width - np.abs(bent) + 0.3, 0, 1) * (np.abs(along) < 1)))
    out = emboss(scene, picture, as_float(blur(cover, 2.5) * 4), rng.uniform(0.1, 0.9))
    return paint(out, dark_at(rng, spot, 0.02, 0.5), cover)


def fibre(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A hair or thread that lies loose on top and casts a small shadow."""
    angle, length = _angle(rng, picture, spot), 15 + spot.size * rng.uniform(1.5, 5)
    width, wobble = rng.uniform(0.5, 1.7), rng.uniform(0.04, 0.22)
    cover = stroke(rng, _start(spot, angle, length), angle, length, width, wobble, False)
    drop = np.array([[1, 0, -2 * math.cos(scene.light)], [0, 1, -2 * math.sin(scene.light)]], np.float32)
    shadow = blur(as_float(cv2.warpAffine(cover, drop, (SIZE, SIZE))), 1.0)
    out = as_float(picture * (1 - rng.uniform(0, 0.5) * shadow)[..., None])
    tone = colour(rng, vivid=1.0) if chance(rng, 0.35) else tone_at(rng, spot, 30, 170)
    return paint(out, tone, cover)


def split(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Zoned:
    """The object is broken through: one side has moved and a gap is left."""
    columns, rows = grid()
    angle = rng.uniform(0, math.tau)
    nx, ny = math.cos(angle), math.sin(angle)
    ragged = rng.uniform(0.5, 6) * fractal(rng, rng.uniform(10, 50), 4)
    side = (columns - spot.x) * nx + (rows - spot.y) * ny + ragged
    gap = log_uniform(rng, 2.0, 16)
    turn = cv2.getRotationMatrix2D((spot.x, spot.y), rng.uniform(-5, 5), 1.0)
    turn[:, 2] += np.array([nx * gap, ny * gap])
    moved = as_float(cv2.warpAffine(picture, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE))
    full = scene.ground is None
    reach = cv2.BORDER_REPLICATE if full else cv2.BORDER_CONSTANT
    body = as_float(cv2.warpAffine(scene.cover, turn, (SIZE, SIZE), borderMode=reach))
    far = _step(as_float(side))
    out = paint(picture, behind(rng, scene, picture, spot), as_float(scene.cover * far))
    out = paint(out, moved, as_float(body * _step(as_float(side - gap))))
    zone = (side > -3) & (side < gap + 3) & (np.maximum(scene.cover, body) > 0.5)
    return Zoned(out, np.asarray(zone))


def _step(distance: Plane) -> Plane:
    return as_float(np.clip(distance + 0.5, 0, 1))
