"""Defects that are areas of the surface: holes, dents, stains, rust, wear, foreign matter, wrong print."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Spot, behind, dark_at, emboss, on_surface, paint, tone_at
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
    stroke,
)
from .scenes import Scene
from .shapes import Frame, text_cover
from .textures import texture


def _patch(
    rng: Rng, scene: Scene, spot: Spot, grow: float, rough: tuple[float, float], edge: tuple[float, float]
) -> Plane:
    """Coverage of an irregular patch on the surface."""
    field = blob(rng, spot.x, spot.y, max(2.5, spot.size * grow), rng.uniform(*rough))
    return on_surface(scene, soft(field, rng.uniform(*edge)))


def hole(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A hole through the surface: dark or showing the ground, its far wall lit, its rim perhaps raised."""
    cover = _patch(rng, scene, spot, 0.6, (0.0, 0.5), (0.05, 0.35))
    inside = behind(rng, scene, picture, spot) if chance(rng, 0.3) else dark_at(rng, spot, 0.0, 0.4)
    out = paint(picture, inside, cover)
    return emboss(scene, out, as_float(-3 * blur(cover, 1.2)), rng.uniform(0.0, 0.5))


def blowhole(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One or a few small shallow pores, hardly darker than the rough surface around them."""
    cover = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(pick(rng, (1, 1, 1, 2, 3))):
        x, y = spot.x + rng.normal(0, 5), spot.y + rng.normal(0, 5)
        pore = blob(rng, x, y, rng.uniform(2.2, 7.5), rng.uniform(0, 0.35), rng.uniform(0.7, 1.8))
        cover = np.maximum(cover, soft(pore, rng.uniform(0.3, 0.9)))
    cover = on_surface(scene, cover)
    out = paint(picture, dark_at(rng, spot, 0.3, 0.8), cover)
    return emboss(scene, out, as_float(-1.5 * blur(cover, 0.8)), rng.uniform(0.1, 0.7))


def pitting(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Many tiny corroded pits together."""
    zone = blob(rng, spot.x, spot.y, 6 + spot.size * rng.uniform(0.8, 1.6), 0.6)
    pits = fractal(rng, rng.uniform(2.5, 7), 1) - rng.uniform(0.4, 1.2)
    cover = on_surface(scene, as_float(np.clip(pits * 3, 0, 1) * soft(zone, 0.5)))
    out = paint(picture, dark_at(rng, spot, 0.2, 0.75), as_float(cover * rng.uniform(0.5, 1)))
    return emboss(scene, out, as_float(-1.5 * blur(cover, 0.6)), rng.uniform(0.2, 0.8))


def dent(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A smooth hollow or bump: only light and shadow change."""
    field = blob(rng, spot.x, spot.y, 3 + spot.size * 0.9, rng.uniform(0, 0.25))
    height = blur(as_float(np.exp(-(np.clip(field, 0, 6) ** 2))), 1.0) * on_surface(
        scene, np.ones_like(field)
    )
    depth = (3 + spot.size * 0.9) * rng.uniform(0.25, 1.1)
    return emboss(scene, picture, as_float(depth * pick(rng, (-1, -1, 1)) * height), rng.uniform(0.3, 0.9))


def stain(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A liquid that dried: the surface shines through, the rim is often darker."""
    field = blob(rng, spot.x, spot.y, 3 + spot.size * 1.2, rng.uniform(0.2, 0.7))
    cover = on_surface(scene, soft(field, rng.uniform(0.05, 0.8)))
    tone = colour(rng, vivid=1.0) if chance(rng, 0.25) else colour(rng, 20, 170)
    strength = rng.uniform(0.15, 0.85) * cover
    rim = (
        on_surface(scene, as_float(np.exp(-(((field - 0.95) / 0.07) ** 2))))
        * rng.uniform(0, 0.35)
        * rng.integers(0, 2)
    )
    if spot.level > 70 and chance(rng, 0.7):  # thin: multiplies, so that the texture stays
        return as_float(np.clip(picture * (1 - (strength + rim)[..., None] * (1 - tone / 255)), 0, 255))
    return paint(picture, tone_at(rng, spot, 18, 110), as_float(np.clip(strength + rim, 0, 1)))


def spot_of_colour(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A splash of paint or ink of another colour, with a few droplets."""
    cover = _patch(rng, scene, spot, 0.7, (0.0, 0.5), (0.05, 0.6))
    for _ in range(pick(rng, (0, 0, 1, 4))):
        x, y = spot.x + rng.normal(0, 1.5 * spot.size), spot.y + rng.normal(0, 1.5 * spot.size)
        cover = np.maximum(cover, soft(blob(rng, x, y, rng.uniform(1.5, 4), 0.1), 0.3))
    tone = colour(rng, vivid=1.0) if chance(rng, 0.6) else tone_at(rng, spot, 30, 150)
    return paint(picture, scene.lit(tone), as_float(on_surface(scene, cover) * rng.uniform(0.55, 1)))


def contamination(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Foreign matter on top: crumbs, chips, dust, each with body and shadow."""
    count = pick(rng, (1, 1, 2, 4, 9))
    cover = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(count):
        x, y = np.array([spot.x, spot.y]) + rng.normal(0, spot.size * (count > 1), 2)
        piece = blob(rng, x, y, max(2.0, spot.size * 0.7 / math.sqrt(count)), rng.uniform(0.2, 0.9))
        cover = np.maximum(cover, soft(piece, 0.2))
    drop = np.array([[1, 0, -3 * math.cos(scene.light)], [0, 1, -3 * math.sin(scene.light)]], np.float32)
    shadow = blur(as_float(cv2.warpAffine(cover, drop, (SIZE, SIZE))), 1.5)
    out = as_float(picture * (1 - rng.uniform(0, 0.5) * shadow)[..., None])
    plain = tone_at(rng, spot, 30, 150) + 12 * fractal(rng, 4, 2)[..., None]
    out = paint(out, texture(rng) if chance(rng, 0.35) else as_float(plain), cover)
    return emboss(scene, out, blur(cover, 1.2), rng.uniform(0.3, 1.6))


def smear(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Something wiped across: the surface blurred along one direction, lighter or darker."""
    cover = _patch(rng, scene, spot, 1.4, (0.1, 0.6), (0.3, 0.8))
    length = int(rng.integers(7, 25))
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))), (1.0,), 1)
    wiped = as_float(cv2.filter2D(picture, -1, kernel / kernel.sum()))
    streak = 1 + 0.3 * fractal(rng, 4, 2, stretch=4)
    return paint(
        picture, as_float(wiped + pick(rng, (-1, 1)) * rng.uniform(8, 40) * streak[..., None]), cover
    )


def glue(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A drop or string of glue, oil or resin: half transparent, with a highlight."""
    if chance(rng, 0.3):
        angle = rng.uniform(0, math.tau)
        cover = stroke(rng, (spot.x, spot.y), angle, 10 + 3 * spot.size, rng.uniform(1.5, 4), 0.15, False)
    else:
        cover = soft(blob(rng, spot.x, spot.y, 3 + spot.size, rng.uniform(0.05, 0.4)), 0.15)
    height = blur(cover, 2.0) * 5
    out = paint(picture, colour(rng, 150, 250), as_float(cover * rng.uniform(0.1, 0.55)))
    out = emboss(scene, out, as_float(height), rng.uniform(0.25, 0.8))
    shine = np.clip(cover * (blur(cover, 3) - 0.72) * 3, 0, 1) * (fractal(rng, 14, 1) > 0.7)
    return as_float(np.clip(out + rng.uniform(30, 150) * blur(as_float(shine), 0.8)[..., None], 0, 255))


def rust_colours(rng: Rng) -> Picture:
    """A picture of rust: deep to bright brown, grainy."""
    deep = np.array([rng.uniform(70, 130), rng.uniform(35, 65), rng.uniform(10, 40)], np.float32)
    bright = np.array([rng.uniform(150, 215), rng.uniform(80, 130), rng.uniform(25, 80)], np.float32)
    share = np.clip(0.5 + 0.3 * fractal(rng, rng.uniform(4, 16), 5, 0.7), 0, 1)
    return as_float(deep + (bright - deep) * share[..., None] + 10 * fractal(rng, 1.6, 1)[..., None])


def rust(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Corrosion: ragged brown, or on other metals dull grey, eaten in at the edge, with runs now and then."""
    field = blob(rng, spot.x, spot.y, 5 + spot.size * rng.uniform(0.9, 2.0), rng.uniform(0.5, 1.3))
    cover = on_surface(scene, soft(field, rng.uniform(0.1, 0.7)))
    tone = rust_colours(rng)
    if chance(rng, 0.3):
        grey = tone.mean(-1, keepdims=True) * rng.uniform(0.6, 1.6)
        tone = as_float(np.broadcast_to(grey, tone.shape))
    out = paint(picture, scene.lit(as_float(np.clip(tone, 0, 255))), as_float(cover * rng.uniform(0.45, 1)))
    return emboss(scene, out, as_float(cover * fractal(rng, 3, 2)), rng.uniform(0.0, 0.25))


def erode(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """The surface is roughened: a grainy patch of light and shadow."""
    cover = _patch(rng, scene, spot, 1.2, (0.3, 0.9), (0.2, 0.6))
    rough = fractal(rng, rng.uniform(2, 6), 3, 0.7)
    out = as_float(np.clip(picture + (cover * rng.uniform(-28, 28))[..., None], 0, 255))
    return emboss(scene, out, as_float(cover * rough), rng.uniform(0.12, 0.6))


def wear(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Coating rubbed off: what is below shows in a patch with a feathered, scratchy edge."""
    scores = turn_lines(rng)
    field = (
        blob(rng, spot.x, spot.y, 4 + spot.size * rng.uniform(0.8, 1.6), 0.5) + rng.uniform(0.1, 0.5) * scores
    )
    cover = on_surface(scene, soft(as_float(field), rng.uniform(0.2, 0.8)))
    below = tone_at(rng, spot, 18, 100) + 6 * scores[..., None]
    return paint(picture, as_float(below), as_float(cover * rng.uniform(0.5, 1)))


def turn_lines(rng: Rng) -> Plane:
    """Fine parallel lines at any angle, mean 0 and standard deviation 1."""
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), rng.uniform(0, 180), 1.45)
    return as_float(cv2.warpAffine(fractal(rng, 2.5, 2, stretch=14), matrix, (SIZE, SIZE)))


def knot(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A dead knot or resin pocket: rings around a dark core, the grain bent around it."""
    columns, rows = grid()
    size = 4 + 0.7 * spot.size
    field = blob(rng, spot.x, spot.y, size, 0.3)
    push = np.exp(-(field**2) / 4) * size * 0.6
    away = np.hypot(columns - spot.x, rows - spot.y) + 1
    bent = cv2.remap(
        picture,
        as_float(columns - push * (columns - spot.x) / away),
        as_float(rows - push * (rows - spot.y) / away),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    out = paint(picture, as_float(bent), scene.cover)
    rings = 0.75 + 0.25 * np.sin(rng.uniform(6, 14) * field)
    core = as_float(
        dark_at(rng, spot, 0.2, 0.7) * np.array([1.05, 0.95, 0.85], np.float32) * rings[..., None]
    )
    return paint(out, core, on_surface(scene, soft(field, rng.uniform(0.2, 0.6))))


def swap(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A large region has another texture than it should."""
    field = blob(rng, spot.x, spot.y, 6 + spot.size * 1.2, rng.uniform(0.3, 0.9))
    other = texture(rng)
    if chance(rng, 0.5):  # the same mean colour: only the structure tells
        other = as_float(np.clip(other - other.mean((0, 1)) + spot.tone, 0, 255))
    cover = on_surface(scene, soft(field, rng.uniform(0.05, 0.4)))
    return paint(picture, scene.lit(other), as_float(cover * rng.uniform(0.4, 1)))


def cutpaste(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A rectangle of the same picture in the wrong place, turned or with other brightness."""
    half = np.clip(3 + spot.size * rng.uniform(0.5, 1.3, 2), 4, 55)
    x, y = rng.uniform(half[0], SIZE - half[0]), rng.uniform(half[1], SIZE - half[1])
    angle = pick(rng, (0.0, 90.0, 180.0, rng.uniform(0, 360)))
    matrix = cv2.getRotationMatrix2D((float(x), float(y)), angle, 1.0)
    matrix[:, 2] += np.array([spot.x - x, spot.y - y])
    moved = as_float(cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT_101))
    columns, rows = grid()
    outside = np.maximum(np.abs(columns - spot.x) - half[0], np.abs(rows - spot.y) - half[1])
    return paint(picture, as_float(moved * rng.uniform(0.7, 1.35)), as_float(np.clip(0.5 - outside, 0, 1)))


def misprint(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """Print or a pen mark where none belongs."""
    if chance(rng, 0.5):
        frame = Frame(spot.x, spot.y, 8 + spot.size, float(rng.uniform(0, math.tau)))
        cover = text_cover(rng, frame, rng.uniform(0.9, 2.0))
    else:
        angle = rng.uniform(0, math.tau)
        cover = stroke(rng, (spot.x, spot.y), angle, 10 + 3 * spot.size, rng.uniform(0.8, 2.5), 0.5, False)
    tone: NDArray[np.float32] = colour(rng, vivid=1.0) if chance(rng, 0.3) else tone_at(rng, spot, 35, 170)
    return paint(picture, scene.lit(tone), as_float(on_surface(scene, cover) * rng.uniform(0.6, 1)))
