"""Hard flawless structure: what belongs to a thing although it is dark, bright, thin or round like a flaw.

It is drawn before a pair is made of a scene, so that both views show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

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
    mix,
    near_colour,
    pick,
    slope,
    stroke,
)
from .shapes import Frame, bars_cover, text_cover


def _place(rng: Rng, cover: Plane) -> tuple[float, float]:
    """A random pixel well inside what is covered."""
    rows, columns = np.nonzero(cv2.erode((cover > 0.5).astype(np.uint8), np.ones((21, 21), np.uint8)))
    if len(rows) == 0:
        x, y = rng.uniform(60, SIZE - 60, 2)
        return float(x), float(y)
    index = int(rng.integers(len(rows)))
    return float(columns[index]), float(rows[index])


def _lift(picture: Picture, height: Plane, light: float, strength: float) -> Picture:
    lean = np.clip(strength * slope(height, light), -0.8, 1)[..., None]
    return as_float(np.clip(picture * (1 + lean) + 20 * lean, 0, 255))


def _layout(rng: Rng, cover: Plane) -> list[tuple[float, float]]:
    """One place, or several in a row, a ring or a grid: things that are made have order."""
    x, y = _place(rng, cover)
    count, step = int(rng.integers(2, 7)), log_uniform(rng, 14, 55)
    angle = pick(rng, (0.0, 0.5 * math.pi, float(rng.uniform(0, math.tau))))
    form = pick(rng, ("one", "row", "ring", "grid"))
    if form == "one":
        return [(x, y)]
    if form == "row":
        far = [step * (index - (count - 1) / 2) for index in range(count)]
        return [(x + d * math.cos(angle), y + d * math.sin(angle)) for d in far]
    if form == "ring":
        turns = [angle + math.tau * index / count for index in range(count)]
        return [(x + step * math.cos(turn), y + step * math.sin(turn)) for turn in turns]
    return [
        (x + step * (i - 1), y + step * (j - 1)) for i in range(3) for j in range(int(rng.integers(1, 4)))
    ]


def bores(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """Drilled holes, screw heads or studs: round, all alike, in order."""
    columns, rows = grid()
    radius, disc = log_uniform(rng, 2.5, 16), np.zeros((SIZE, SIZE), np.float32)
    for x, y in _layout(rng, cover):
        disc = np.maximum(disc, np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1))
    disc = as_float(disc * cover)
    inside = picture * rng.uniform(0.05, 0.6) if chance(rng, 0.6) else colour(rng)
    out = mix(picture, as_float(inside), as_float(disc * rng.uniform(0.6, 1)))
    sign = pick(rng, (-3.0, -3.0, 3.0))
    return _lift(
        out, as_float(sign * blur(disc, 1.0)), float(rng.uniform(0, math.tau)), rng.uniform(0.1, 0.7)
    )


def shine(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """Specular rings, arcs and glints of lamps."""
    columns, rows = grid()
    x, y = _place(rng, cover)
    reach, ratio, turn = log_uniform(rng, 8, 90), rng.uniform(0.4, 1.0), rng.uniform(0, math.tau)
    along = (columns - x) * math.cos(turn) + (rows - y) * math.sin(turn)
    across = (rows - y) * math.cos(turn) - (columns - x) * math.sin(turn)
    far, angle = np.hypot(along, across / ratio), np.arctan2(across, along)
    glow = np.zeros((SIZE, SIZE), np.float32)
    if chance(rng, 0.65):
        for share in rng.uniform(0.4, 1, int(rng.integers(1, 4))):
            ring = np.exp(-(((far - share * reach) / rng.uniform(1, 5)) ** 2))
            arc = 1.0 if chance(rng, 0.4) else np.clip(np.cos(angle - rng.uniform(0, math.tau)) * 2, 0, 1)
            glow = np.maximum(glow, ring * arc)
    for _ in range(pick(rng, (0, 1, 1, 2, 4))):
        gx, gy = _place(rng, cover)
        size = log_uniform(rng, 1.5, 10)
        glow = np.maximum(glow, np.exp(-(((columns - gx) ** 2 + (rows - gy) ** 2) / size**2)))
    light = rng.uniform(40, 200) * glow * cover
    return as_float(np.clip(picture + light[..., None], 0, 255))


def hook(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """A hook, clip, wire or cable that holds the thing or hangs beside it, coming in from the border."""
    side, along = int(rng.integers(4)), float(rng.uniform(20, SIZE - 20))
    start = ((along, -3.0), (SIZE + 3.0, along), (along, SIZE + 3.0), (-3.0, along))[side]
    inward = (0.5, 1.0, 1.5, 0.0)[side] * math.pi + float(rng.normal(0, 0.25))
    ink = stroke(
        rng, start, inward, log_uniform(rng, 30, 180), rng.uniform(1.0, 6), rng.uniform(0, 0.18), False
    )
    shadow = blur(as_float(np.roll(ink, (3, 2), (0, 1))), 2.0)
    out = as_float(picture * (1 - rng.uniform(0, 0.5) * shadow)[..., None])
    out = mix(out, colour(rng, vivid=0.15), ink)
    return _lift(out, as_float(2 * blur(ink, 1.2)), float(rng.uniform(0, math.tau)), rng.uniform(0, 0.6))


def ridges(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """Ribs, threads, knurls or corrugation in a band or all over, straight or around a middle."""
    columns, rows = grid()
    turn, (x, y) = rng.uniform(0, math.tau), _place(rng, cover)
    along = (columns - x) * math.cos(turn) + (rows - y) * math.sin(turn)
    phase = np.hypot(columns - x, rows - y) if chance(rng, 0.3) else along
    wave = np.sin(math.tau * phase / log_uniform(rng, 4, 30))
    band = np.clip((log_uniform(rng, 12, 200) - np.abs(along)) / 3, 0, 1) * cover
    lean = (rng.uniform(0.06, 0.4) * np.tanh(rng.uniform(0.7, 3) * wave) * band)[..., None]
    return as_float(np.clip(picture * (1 + lean), 0, 255))


def label(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """A printed label: lines of print, perhaps a bar code, perhaps on paper of its own."""
    x, y = _place(rng, cover)
    angle = pick(rng, (0.0, 0.0, 0.5 * math.pi)) + float(rng.normal(0, 0.05))
    frame = Frame(x, y, log_uniform(rng, 14, 60), angle)
    u, v = frame.uv
    out = picture
    if chance(rng, 0.5):
        paper = frame.cover(as_float(np.maximum(np.abs(u) - 1.15, np.abs(v) - rng.uniform(0.4, 0.9))))
        out = mix(out, colour(rng, vivid=0.4), as_float(paper * cover))
    ink = np.zeros((SIZE, SIZE), np.float32)
    for line in np.linspace(-0.5, 0.5, int(rng.integers(1, 5))):
        ink = np.maximum(ink, text_cover(rng, frame, rng.uniform(0.8, 2), (0.0, float(line))))
    if chance(rng, 0.25):
        ink = np.maximum(ink, bars_cover(rng, frame, 0.6, 0.2, (0.0, 0.6)))
    return mix(out, colour(rng, vivid=0.3), as_float(ink * cover * rng.uniform(0.5, 1)))


def recess(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """A slot, pocket, window or step with straight sides, its edges lit and dark."""
    x, y = _place(rng, cover)
    angle = pick(rng, (0.0, 0.5 * math.pi, float(rng.uniform(0, math.tau))))
    frame = Frame(x, y, log_uniform(rng, 8, 70), angle)
    u, v = frame.uv
    ratio = rng.uniform(0.08, 1)
    inside = as_float(frame.cover(as_float(np.maximum(np.abs(u) - 1, np.abs(v) - ratio))) * cover)
    out = mix(picture, as_float(picture * rng.uniform(0.3, 1.3)), inside)
    sign = pick(rng, (-4.0, 4.0))
    return _lift(
        out, as_float(sign * blur(inside, 1.2)), float(rng.uniform(0, math.tau)), rng.uniform(0.1, 0.6)
    )


def grain(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """Specks, pores or short fibres spread evenly over all of it: the look of the material."""
    size = rng.uniform(1.6, 6)
    marks = np.clip((fractal(rng, size, 1, stretch=pick(rng, (1, 1, 3))) - rng.uniform(1.2, 2.2)) * 2, 0, 1)
    tone = near_colour(rng, as_float(picture.mean((0, 1))), 20, 120)
    return mix(picture, tone, as_float(marks * cover * rng.uniform(0.2, 0.8)))


def shade(rng: Rng, picture: Picture, cover: Plane) -> Picture:
    """The shadow of a neighbour or of a raised part, with one sharp side."""
    columns, rows = grid()
    x, y = _place(rng, cover)
    turn = rng.uniform(0, math.tau)
    along = (columns - x) * math.cos(turn) + (rows - y) * math.sin(turn)
    fall = np.where(along > 0, np.exp(-np.clip(along, 0, 999) / log_uniform(rng, 4, 60)), 0)
    bent = blur(as_float(fall), rng.uniform(0.5, 3))
    return as_float(np.clip(picture * (1 - rng.uniform(0.15, 0.6) * bent)[..., None], 0, 255))


STRUCTURE: dict[str, Callable[[Rng, Picture, Plane], Picture]] = {
    function.__name__: function for function in (bores, shine, hook, ridges, label, recess, grain, shade)
}
"""Every sort of hard flawless structure by its name."""


def furnish(rng: Rng, picture: Picture, cover: Plane, share: float) -> tuple[Picture, int]:
    """Add, with probability ``share``, one or more sorts of structure to what is covered, and count them."""
    count = 0
    while chance(rng, share):
        picture = STRUCTURE[pick(rng, tuple(STRUCTURE))](rng, picture, cover)
        share *= 0.55
        count += 1
    return picture, count
