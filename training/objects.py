"""The families of objects by name: things as on an inspection table, alone or several in rows."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from . import objects_many, objects_single
from .bodies import Body, Family, label
from .noise import SIZE, Rng, as_float, chance, pick
from .parts import draw, random_part
from .shapes import Frame


def _sprite(rng: Rng, light: float) -> NDArray[np.float32]:
    """A whole small object, lit, as colour and coverage (h, w, 4)."""
    frame = Frame(SIZE / 2, SIZE / 2, 110.0, 0.0)
    names = [name for name in FAMILIES if name not in ("tray", "tile", "cable", "board", "comb")]
    body = FAMILIES[pick(rng, names)](rng, frame)
    cover, albedo = body.cover.copy(), body.albedo.copy()
    for part in body.parts:
        draw(albedo, cover, part, light)
    lean = cv2.Sobel(body.height, cv2.CV_32F, 1, 0, ksize=1) * -math.cos(light)
    lean = lean - cv2.Sobel(body.height, cv2.CV_32F, 0, 1, ksize=1) * math.sin(light)
    lit = np.clip(albedo * (1 + 0.2 * np.clip(lean, -2, 2))[..., None], 0, 255)
    sprite = np.concatenate([lit, cover[..., None]], -1)
    return as_float(cv2.resize(sprite, (96, 96), interpolation=cv2.INTER_AREA))


def tray(rng: Rng, frame: Frame) -> Body:
    """Several equal small objects in rows, or a heap-free pattern, straight on the ground."""
    nothing = np.zeros((SIZE, SIZE), np.float32)
    body = Body("tray", nothing, np.zeros((SIZE, SIZE, 3), np.float32), nothing, [])
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    step = min(200 / columns, 200 / rows)
    grey = np.full(3, 128, np.float32)
    part = replace(
        random_part(rng, grey),
        size=step * rng.uniform(0.3, 0.47),
        sprite=_sprite(rng, rng.uniform(0, math.tau)),
    )
    loose = rng.uniform(0, 0.06) * rng.integers(0, 2)
    for row in range(rows):
        for column in range(columns):
            x, y = 120 + step * (column - (columns - 1) / 2), 120 + step * (row - (rows - 1) / 2)
            spin = frame.angle + rng.normal(0, loose)
            body.parts.append(replace(part, x=x, y=y, angle=spin))
    return body


FAMILIES: dict[str, Family] = {
    function.__name__: function
    for function in (
        objects_single.bottle,
        objects_single.plate,
        objects_single.capsule,
        objects_many.nut,
        objects_single.screw,
        objects_single.fruit,
        objects_single.tile,
        objects_many.bracket,
        objects_many.flange,
        objects_many.board,
        objects_many.comb,
        objects_many.gear,
        objects_many.cable,
        objects_single.case,
        tray,
    )
}
"""Every family of objects by its name."""


def build(rng: Rng, frame: Frame, light: float, family: str | None = None) -> Body:
    """An object of the named family, or of a random one, in the given frame."""
    body = FAMILIES[family or pick(rng, tuple(FAMILIES))](rng, frame)
    if body.family not in ("bottle", "case", "tray", "tile") and chance(rng, 0.2):
        label(rng, frame, body, rng.uniform(0.25, 0.7), (0.0, float(rng.uniform(-0.3, 0.3))))
    return body
