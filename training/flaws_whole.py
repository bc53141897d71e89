"""Defects of the whole thing or of a large part of it: films, rust, uneven tone, dirt; and foreign parts."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import Spot, Zoned, emboss, on_surface, paint, tone_at
from .flaws_areas import rust_colours, turn_lines
from .noise import (
    SIZE,
    Picture,
    Plane,
    Rng,
    as_float,
    blob,
    blur,
    chance,
    colour,
    fractal,
    grid,
    pick,
    soft,
)
from .scenes import Scene
from .textures import texture


def _extent(rng: Rng, scene: Scene, spot: Spot) -> Plane:
    """Coverage of all of the thing, of one side of it, or of a large patch."""
    columns, rows = grid()
    form = pick(rng, ("all", "side", "patch"))
    if form == "all":
        field = np.ones((SIZE, SIZE), np.float32)
    elif form == "side":
        turn = rng.uniform(0, math.tau)
        far = (columns - spot.x) * math.cos(turn) + (rows - spot.y) * math.sin(turn)
        field = np.clip(0.5 + far / rng.uniform(2, 40) + 0.6 * fractal(rng, 40, 3), 0, 1)
    else:
        field = soft(
            blob(rng, spot.x, spot.y, rng.uniform(35, 85), rng.uniform(0.2, 0.8)), rng.uniform(0.1, 0.8)
        )
    return on_surface(scene, as_float(field))


def film(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A film of dust, oil, frost or residue: a cloudy or streaky veil that hides detail below it."""
    cloud = turn_lines(rng) if chance(rng, 0.4) else fractal(rng, rng.uniform(8, 60), 4, 0.6)
    cover = _extent(rng, scene, spot) * np.clip(0.55 + rng.uniform(0.15, 0.4) * cloud, 0, 1)
    veil = blur(picture, rng.uniform(0.3, 2.5))
    tone = colour(rng, 120, 250, vivid=0.15) if chance(rng, 0.6) else tone_at(rng, spot, 25, 120)
    veil = as_float(veil + (scene.lit(tone) - veil) * rng.uniform(0.3, 0.8))
    return paint(picture, veil, as_float(cover * rng.uniform(0.4, 1)))


def tarnish(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Rust, mould or corrosion in many places at once, or all over."""
    level = rng.uniform(-0.8, 1.0)
    spread = soft(as_float(1 + level - fractal(rng, rng.uniform(8, 50), 5, 0.65)), rng.uniform(0.2, 1))
    cover = as_float(_extent(rng, scene, spot) * spread)
    tone = (
        rust_colours(rng)
        if chance(rng, 0.7)
        else tone_at(rng, spot, 30, 130) + 8 * fractal(rng, 3, 3)[..., None]
    )
    out = paint(picture, scene.lit(as_float(np.clip(tone, 0, 255))), as_float(cover * rng.uniform(0.4, 1)))
    return emboss(scene, out, as_float(cover * fractal(rng, 3, 2)), rng.uniform(0.0, 0.2))


def uneven(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Zoned:
    """Uneven tone: blotches or bands where the colour is too weak, too strong or another one."""
    bands = as_float(np.abs(turn_lines(rng))) if chance(rng, 0.2) else fractal(rng, rng.uniform(20, 70), 3)
    strength = np.tanh(1.5 * bands) * _extent(rng, scene, spot)
    tint = rng.uniform(0.2, 0.5) * (1 + rng.uniform(0, 0.7) * rng.standard_normal(3))
    out = as_float(np.clip(picture * (1 + strength[..., None] * as_float(tint)), 0, 255))
    return Zoned(out, np.asarray(np.abs(strength) > 0.4))


def speckled(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Splashes, dust, spots of mould or shot marks, scattered unevenly over a large part."""
    columns, rows = grid()
    field, reach = np.zeros((SIZE, SIZE), np.float32), rng.uniform(25, 90)
    sizes = rng.uniform(1.2, 6)
    for _ in range(int(rng.integers(8, 40))):
        x, y = spot.x + rng.normal(0, reach), spot.y + rng.normal(0, reach)
        radius = sizes * math.exp(rng.normal(0, 0.4))
        field = np.maximum(field, np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1))
    ragged = blur(field, 1.0) * np.clip(1 + 0.5 * fractal(rng, 4, 2), 0, 1.5)
    cover = on_surface(scene, as_float(np.clip(ragged, 0, 1)))
    tone = colour(rng, vivid=1.0) if chance(rng, 0.2) else tone_at(rng, spot, 30, 150)
    return paint(picture, scene.lit(tone), as_float(cover * rng.uniform(0.5, 1)))


def foreign(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A part or piece of something else lies on the thing."""
    columns, rows = grid()
    size = 5 + 0.8 * spot.size
    if chance(rng, 0.5):
        cover = soft(blob(rng, spot.x, spot.y, size, rng.uniform(0.0, 0.6)), 0.1)
    else:
        turn, ratio = rng.uniform(0, math.pi), rng.uniform(0.25, 1)
        along = np.abs((columns - spot.x) * math.cos(turn) + (rows - spot.y) * math.sin(turn))
        across = np.abs((rows - spot.y) * math.cos(turn) - (columns - spot.x) * math.sin(turn))
        cover = as_float(np.clip(0.5 + size - np.maximum(along, across / ratio), 0, 1))
    other = texture(rng) if scene.other is None else scene.other
    moved = np.roll(other, (int(spot.y - SIZE / 2), int(spot.x - SIZE / 2)), (0, 1))
    drop = np.array([[1, 0, -3 * math.cos(scene.light)], [0, 1, -3 * math.sin(scene.light)]], np.float32)
    shadow = blur(as_float(cv2.warpAffine(cover, drop, (SIZE, SIZE))), 1.5)
    out = as_float(picture * (1 - rng.uniform(0, 0.5) * shadow)[..., None])
    return paint(out, as_float(moved), cover)
