"""Surfaces without a defect: stone, metal, cloth, wood … each a function from a generator to a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from .noise import (
    SIZE,
    Picture,
    Plane,
    Rng,
    as_float,
    blur,
    cells,
    chance,
    colour,
    fractal,
    grid,
    log_uniform,
    mix,
    pick,
    ramp,
    turn,
)

Texture = Callable[[Rng], Picture]


def _turned(rng: Rng, share: float = 0.6) -> tuple[Plane, Plane]:
    """Pixel coordinates, with probability ``share`` rotated by any angle, otherwise upright."""
    angle = rng.uniform(0, math.tau) if chance(rng, share) else 0.0
    columns, rows = grid()
    cosine, sine = math.cos(angle), math.sin(angle)
    return as_float(columns * cosine + rows * sine), as_float(rows * cosine - columns * sine)


def _wave(phase: Plane) -> Plane:
    return as_float(np.sin(math.tau * phase))


def stone(rng: Rng) -> Picture:
    """Clouds of all sizes: stone, plaster, patina."""
    return ramp(rng, 0.5 + 0.25 * fractal(rng, log_uniform(rng, 8, 90), 5))


def grain(rng: Rng) -> Picture:
    """Fine even grain: sand paper, cast plastic."""
    return ramp(rng, 0.5 + 0.22 * fractal(rng, rng.uniform(1.6, 5), 2, 0.7))


def brushed(rng: Rng) -> Picture:
    """Metal brushed in one direction, with faint bands."""
    lines = fractal(rng, rng.uniform(1.6, 4), 2, stretch=rng.uniform(8, 40))
    bands = fractal(rng, 70, 2)
    plane = 0.5 + 0.18 * lines + rng.uniform(0, 0.15) * bands
    return ramp(rng, turn(plane, pick(rng, (0.0, 90.0, rng.uniform(0, 180)))), 8, 55)


def weave(rng: Rng) -> Picture:
    """Cloth of warp and weft."""
    u, v = _turned(rng)
    period = rng.uniform(4, 18)
    warp, weft = _wave(u / period), _wave(v / (period * rng.uniform(0.8, 1.25)))
    plane = 0.5 + 0.2 * (warp + weft) + rng.uniform(-0.3, 0.3) * warp * weft + 0.06 * fractal(rng, 3, 2)
    return ramp(rng, as_float(plane))


def stripes(rng: Rng) -> Picture:
    """Stripes or ribs with soft or hard edges, slightly wavy."""
    u, v = _turned(rng)
    period = rng.uniform(4, 40)
    edge = rng.uniform(0.5, 5)
    sway = rng.uniform(0, 0.04) * fractal(rng, 60, 2)
    plane = 0.5 + 0.5 * np.tanh(edge * _wave(as_float((u + pick(rng, (0.0, 0.5)) * v) / period + sway)))
    return ramp(rng, as_float(plane + 0.04 * fractal(rng, 3, 2)))


def _wood_colours(rng: Rng, plane: Plane) -> Picture:
    light = np.array([rng.uniform(150, 225), rng.uniform(115, 185), rng.uniform(70, 140)], np.float32)
    light = light if chance(rng, 0.8) else as_float(np.full(3, light.mean()))
    return as_float(light * (1 - np.clip(plane, 0, 1) * rng.uniform(0.2, 0.6))[..., None])


def wood(rng: Rng) -> Picture:
    """Sawn wood: rings, fibres, sometimes boards with joints."""
    bend = fractal(rng, rng.uniform(25, 60), 2, stretch=rng.uniform(4, 9))
    _, rows = grid()
    rings = _wave(as_float(rows / rng.uniform(10, 45) + rng.uniform(0.2, 0.7) * bend))
    fibres = fractal(rng, 2.0, 2, stretch=rng.uniform(10, 25))
    picture = _wood_colours(rng, as_float(0.4 + 0.22 * rings + 0.13 * fibres))
    if chance(rng, 0.3):
        picture = _boards(rng, picture)
    angle = pick(rng, (0.0, 90.0)) + (rng.uniform(-8, 8) if chance(rng, 0.5) else 0.0)
    return turn(picture, angle)


def _boards(rng: Rng, picture: Picture) -> Picture:
    """Saw the picture into boards: own tone and grain offset each, a dark joint between them."""
    count = int(rng.integers(2, 6))
    edges = np.linspace(0, SIZE, count + 1).astype(int)
    out = picture.copy()
    for top, bottom in pairwise(edges):
        moved = np.roll(picture[top:bottom], int(rng.integers(SIZE)), axis=1)
        out[top:bottom] = moved * np.float32(rng.uniform(0.85, 1.1))
        out[top : top + int(rng.integers(1, 3))] *= np.float32(rng.uniform(0.3, 0.7))
    return out


def leather(rng: Rng) -> Picture:
    """Leather: small raised cells between grooves."""
    _, border, _ = cells(rng, int(log_uniform(rng, 250, 2200)))
    height = blur(np.minimum(border, 3), rng.uniform(0.6, 1.4))
    return ramp(rng, as_float(height / 2.6 + 0.08 * fractal(rng, 40, 3)), 12, 60)


def gravel(rng: Rng) -> Picture:
    """Gravel, flakes or mosaic: cells of different tones."""
    _, border, label = cells(rng, int(log_uniform(rng, 80, 1200)))
    tone = rng.uniform(0, 1, int(label.max()) + 1).astype(np.float32)[label]
    plane = (0.2 + 0.7 * tone) * (0.45 + 0.55 * np.clip(border / 3, 0, 1))
    return ramp(rng, as_float(plane + 0.05 * fractal(rng, 3, 2)))


def tiles(rng: Rng) -> Picture:
    """Tiles or bricks with joints, straight or staggered."""
    u, v = _turned(rng, 0.4)
    wide, joint = rng.uniform(16, 90), rng.uniform(1.2, 5)
    high = wide * pick(rng, (1.0, rng.uniform(0.4, 1)))
    row = np.floor(v / high)
    u = as_float(u + (row % 2) * wide / 2 * rng.integers(0, 2))
    column = np.floor(u / wide)
    gap = np.minimum(np.minimum(u % wide, wide - u % wide), np.minimum(v % high, high - v % high))
    tone = rng.uniform(-0.15, 0.15, (64, 64)).astype(np.float32)[
        row.astype(int) % 64, column.astype(int) % 64
    ]
    body = ramp(rng, as_float(0.5 + tone * rng.integers(0, 2) + 0.1 * fractal(rng, log_uniform(rng, 3, 40))))
    return mix(body, colour(rng), as_float(np.clip(joint / 2 + 0.5 - gap, 0, 1)))


def perforated(rng: Rng) -> Picture:
    """Holes or dots in rows."""
    u, v = _turned(rng)
    period = rng.uniform(8, 40)
    stagger = (np.floor(v / period) % 2) * (period / 2) * rng.integers(0, 2)
    distance = np.hypot((u + stagger) % period - period / 2, v % period - period / 2)
    hole = np.clip(period * rng.uniform(0.15, 0.4) - distance + 0.5, 0, 1)
    return as_float(mix(ramp(rng, 0.5 + 0.2 * fractal(rng, 3, 3), 5, 25), colour(rng), as_float(hole)))


def terrazzo(rng: Rng) -> Picture:
    """Chips of other colours in a plain ground."""
    picture = ramp(rng, 0.5 + 0.2 * fractal(rng, 4, 3), 5, 30)
    for _ in range(int(rng.integers(1, 4))):
        chips = fractal(rng, rng.uniform(4, 14), 2) - rng.uniform(0.8, 1.7)
        picture = mix(picture, colour(rng, vivid=0.1), as_float(np.clip(chips * 4, 0, 1)))
    return picture


def plain(rng: Rng) -> Picture:
    """Almost one colour: paint, paper, plastic."""
    tone = 0.5 + 0.2 * fractal(rng, log_uniform(rng, 20, 90), 2) + 0.1 * fractal(rng, 2, 1)
    return ramp(rng, as_float(tone), 2, 12)


def casting(rng: Rng) -> Picture:
    """A rough dark surface, ground or cast, with weak lines and a soft glow: little contrast anywhere."""
    rough = fractal(rng, rng.uniform(1.6, 4), 3, 0.7)
    lines = turn(fractal(rng, 2, 2, stretch=rng.uniform(5, 30)), pick(rng, (0.0, 90.0)))
    plane = rough * rng.uniform(3, 11) + lines * rng.uniform(0, 9) + fractal(rng, 80, 3) * rng.uniform(2, 14)
    return as_float(np.clip(colour(rng, 28, 120) + plane[..., None], 0, 255))


def worn_metal(rng: Rng) -> Picture:
    """Flat metal or paint in use: cloudy gloss, faint streaks, dull patches. All of it is normal."""
    streaks = turn(fractal(rng, 2, 2, stretch=25), rng.uniform(0, 180))
    cloud = fractal(rng, rng.uniform(30, 90), 4)
    patch = np.clip((fractal(rng, rng.uniform(20, 60), 4) - rng.uniform(0.3, 1.2)) * 2, 0, 1)
    plane = (
        5 * streaks * rng.uniform(0.2, 1.2) + 7 * cloud * rng.uniform(0.2, 1.4) + patch * rng.uniform(-18, 18)
    )
    return as_float(np.clip(colour(rng, 60, 220, 0.2) + plane[..., None], 0, 255))


def concrete(rng: Rng) -> Picture:
    """A grey wall with pores and dirty clouds everywhere, which make the surface and are no flaw of it."""
    picture = ramp(rng, as_float(0.5 + 0.2 * fractal(rng, 60, 5) + 0.08 * fractal(rng, 2, 1)), 8, 35)
    pores = np.clip((fractal(rng, rng.uniform(3, 6), 1) - rng.uniform(1.9, 2.6)) * 2, 0, 1)
    return as_float(picture * (1 - rng.uniform(0.2, 0.6) * pores[..., None]))


def carpet(rng: Rng) -> Picture:
    """Short pile of mixed colours."""
    fine = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    picture = ramp(rng, as_float(0.5 + 0.25 * blur(fine, 0.8) * 2), 20, 80)
    return as_float(np.clip(picture + 12 * fractal(rng, 2, 1)[..., None] * rng.standard_normal(3), 0, 255))


def corrugated(rng: Rng) -> Picture:
    """Round folds that catch the light."""
    u, _ = _turned(rng)
    period = rng.uniform(12, 60)
    shade = 0.5 + 0.4 * _wave(u / period) + 0.1 * _wave(2 * u / period + rng.uniform())
    return ramp(rng, as_float(shade + 0.05 * fractal(rng, 3, 3)), 20, 90)


def mesh(rng: Rng) -> Picture:
    """Round wires crossed over a ground."""
    u, v = _turned(rng)
    period = rng.uniform(9, 36)
    wire = period * rng.uniform(0.08, 0.25)
    near = np.minimum(np.abs(u % period - period / 2), np.abs(v % period - period / 2))
    ground = ramp(rng, 0.5 + 0.2 * fractal(rng, 20, 3), 3, 30)
    tube = np.clip(1 - near / wire, 0, 1)
    wires = colour(rng) * (0.5 + 0.5 * np.sqrt(tube))[..., None]
    return mix(ground, as_float(wires), as_float(np.clip(wire - near + 0.5, 0, 1)))


def knit(rng: Rng) -> Picture:
    """Knitted loops in columns."""
    u, v = _turned(rng, 0.3)
    period = rng.uniform(7, 22)
    lean = np.abs(u % period - period / 2) * rng.uniform(0.5, 1.1)
    loops = _wave(as_float((v + lean) / (period * rng.uniform(0.6, 1))))
    columns = np.cos(math.tau * u / period)
    return ramp(rng, as_float(0.5 + 0.25 * loops + 0.2 * columns + 0.07 * fractal(rng, 2, 2)), 20, 80)


def printed(rng: Rng) -> Picture:
    """A plain ground with a regular print on it: motifs in rows, as on paper, foil or cloth."""
    picture = plain(rng)
    stamp = np.zeros((SIZE, SIZE), np.uint8)
    step, kind = int(rng.integers(24, 70)), int(rng.integers(0, 3))
    word = "".join(pick(rng, "ABCEHKLMNORSTXZ0258#*+") for _ in range(int(rng.integers(1, 4))))
    for row, y in enumerate(range(step // 2, SIZE + step, step)):
        for x in range((row % 2) * step // 2, SIZE + step, step):
            if kind == 0:
                cv2.putText(stamp, word, (x, y), 0, step / 75, (255,), 1, cv2.LINE_AA)
            elif kind == 1:
                cv2.circle(stamp, (x, y), step // 4, (255,), max(1, step // 12), cv2.LINE_AA)
            else:
                cv2.drawMarker(stamp, (x, y), (255,), step % 7, step // 2, max(1, step // 20), cv2.LINE_AA)
    cover = turn(as_float(stamp / 255), pick(rng, (0.0, 90.0, rng.uniform(0, 360))))
    return mix(picture, colour(rng, vivid=0.4), as_float(cover * rng.uniform(0.4, 1)))


TEXTURES: dict[str, Texture] = {
    function.__name__: function
    for function in (
        stone,
        grain,
        brushed,
        weave,
        stripes,
        wood,
        leather,
        gravel,
        tiles,
        perforated,
        terrazzo,
        plain,
        casting,
        worn_metal,
        concrete,
        carpet,
        corrugated,
        mesh,
        knit,
        printed,
    )
}
"""Every texture by its name."""


def texture(rng: Rng, name: str | None = None) -> Picture:
    """A picture of the named texture, or of a random one."""
    return as_float(np.clip(TEXTURES[name or pick(rng, tuple(TEXTURES))](rng), 0, 255))
