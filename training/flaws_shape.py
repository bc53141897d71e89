"""Defects of form and order: pieces broken off, bent places, parts missing, moved, turned or deformed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Spot, Zoned, behind, dark_at, emboss, paint, tone_at
from .noise import SIZE, Picture, Plane, Rng, as_float, blob, blur, chance, grid, pick, soft
from .parts import ROUND, Part
from .scenes import Scene


def missing(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A piece of the object is gone; the fracture shows as a dark or bright edge."""
    field = blob(rng, spot.x, spot.y, 4 + spot.size * 1.1, rng.uniform(0.1, 0.7))
    cover = as_float(soft(field, 0.08) * scene.cover)
    out = paint(picture, behind(rng, scene, picture, spot), cover)
    if chance(rng, 0.6):
        wall = as_float(np.clip(soft(as_float(field - 0.15), 0.1) - cover, 0, 1) * scene.cover)
        out = paint(out, tone_at(rng, spot, 20, 90), as_float(wall * rng.uniform(0.3, 1)))
    return out


def edge(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """A chip off the border of the object, or a burr that stands out over it."""
    if scene.ground is not None and chance(rng, 0.2):
        field = blob(rng, spot.x, spot.y, 2.5 + 0.35 * spot.size, 0.6)
        burr = soft(field, 0.2)
        return emboss(scene, paint(picture, spot.tone, burr), blur(burr, 1.0), rng.uniform(0.4, 1.2))
    return missing(rng, scene, picture, replace(spot, size=spot.size * 0.7))


def _remap(picture: Picture, columns: NDArray[Any], rows: NDArray[Any]) -> Picture:
    mode = cv2.BORDER_REFLECT_101
    return as_float(cv2.remap(picture, as_float(columns), as_float(rows), cv2.INTER_LINEAR, borderMode=mode))


def warp(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Zoned:
    """A place pushed, pinched or twisted out of shape."""
    columns, rows = grid()
    dx, dy = columns - spot.x, rows - spot.y
    reach = 7 + spot.size
    near = np.exp(-(dx**2 + dy**2) / (2 * (0.7 * reach) ** 2))
    kind = pick(rng, ("push", "twist", "pinch"))
    if kind == "push":
        angle, far = rng.uniform(0, math.tau), reach * rng.uniform(0.4, 0.8)
        out = _remap(picture, columns - far * near * math.cos(angle), rows - far * near * math.sin(angle))
    elif kind == "twist":
        angles = near * rng.uniform(0.8, 2.0) * pick(rng, (-1, 1))
        cosine, sine = np.cos(angles), np.sin(angles)
        out = _remap(picture, spot.x + dx * cosine - dy * sine, spot.y + dx * sine + dy * cosine)
    else:
        factor = 1 + pick(rng, (-0.5, 0.9)) * near
        out = _remap(picture, spot.x + dx * factor, spot.y + dy * factor)
    return Zoned(out, np.asarray(near > 0.15))


def _nearest(scene: Scene, spot: Spot) -> int:
    far = [math.hypot(part.x - spot.x, part.y - spot.y) for part in scene.parts]
    return int(np.argmin(far))


def _rearranged(scene: Scene, picture: Picture, index: int, others: tuple[Part, ...]) -> Picture:
    """The picture with part ``index`` replaced by ``others``; defects elsewhere stay as they are."""
    after = scene.with_parts((*scene.parts[:index], *others, *scene.parts[index + 1 :]))
    changed = np.abs(after - scene.bare).max(-1) > 1.0
    cover = blur(as_float(cv2.dilate(changed.astype(np.float32), np.ones((3, 3), np.uint8))), 0.5)
    return paint(picture, after, cover)


def _lifted(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> tuple[Plane, Picture]:
    """Without parts, a rounded patch of the surface acts as one: its coverage, and the picture without it."""
    columns, rows = grid()
    size = 5 + spot.size
    cover = as_float(np.clip(size - np.hypot(columns - spot.x, rows - spot.y) + 0.5, 0, 1))
    return cover, paint(picture, behind(rng, scene, picture, spot), cover)


def _carried(
    picture: Picture, cover: Plane, spot: Spot, angle: float, scale: float, dx: float, dy: float
) -> Picture:
    """The covered patch laid on the picture again, turned, scaled and moved."""
    matrix = cv2.getRotationMatrix2D((spot.x, spot.y), angle, scale)
    matrix[:, 2] += np.array([dx, dy])
    mode = cv2.BORDER_REFLECT_101
    moved = as_float(cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=mode))
    where = as_float(cv2.warpAffine(cover, matrix, (SIZE, SIZE)))
    return paint(picture, moved, where)


def part_missing(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One part, or a patch of a surface without parts, is not there; perhaps its seat is."""
    if not scene.parts:
        return _lifted(rng, scene, picture, spot)[1]
    index = _nearest(scene, spot)
    part = scene.parts[index]
    seat = replace(
        part, face=dark_at(rng, spot), trim=dark_at(rng, spot), relief=0.0, shape="disc", size=part.size * 0.6
    )
    left = (replace(seat, sprite=None),) if chance(rng, 0.2) else ()
    return _rearranged(scene, picture, index, left)


def part_moved(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One part, or a patch, sits beside its place."""
    angle = rng.uniform(0, math.tau)
    if not scene.parts:
        cover, bare = _lifted(rng, scene, picture, spot)
        far = (5 + spot.size) * rng.uniform(0.4, 1.2)
        dx, dy = far * math.cos(angle), far * math.sin(angle)
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = as_float(cv2.warpAffine(picture, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT_101))
        return paint(bare, moved, as_float(cv2.warpAffine(cover, matrix, (SIZE, SIZE))))
    index = _nearest(scene, spot)
    part = scene.parts[index]
    far = max(3.0, part.size * rng.uniform(0.35, 1.3))
    x, y = part.x + far * math.cos(angle), part.y + far * math.sin(angle)
    return _rearranged(
        scene, picture, index, (replace(part, x=x, y=y, angle=part.angle + rng.normal(0, 0.25)),)
    )


def part_turned(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One part, or a patch, is turned or flipped in place; a round part becomes one that is not."""
    angle = pick(rng, (math.pi, math.pi / 2, rng.uniform(0.3, 1.3), -rng.uniform(0.3, 1.3)))
    if not scene.parts:
        columns, rows = grid()
        cover = as_float(np.clip(5 + spot.size - np.hypot(columns - spot.x, rows - spot.y), 0, 1))
        return _carried(picture, cover, spot, math.degrees(angle), 1.0, 0, 0)
    index = _nearest(scene, spot)
    part = scene.parts[index]
    turned = replace(part, angle=part.angle + angle, mirrored=part.mirrored ^ chance(rng, 0.3))
    if part.sprite is None and part.shape in ROUND:
        turned = replace(part, shape=pick(rng, ("pad", "hex", "dee", "ell")), angle=part.angle + angle)
    return _rearranged(scene, picture, index, (turned,))


def part_deformed(rng: Rng, scene: Scene, picture: Picture, spot: Spot) -> Picture:
    """One part, or a patch, has the wrong size, colour or proportions."""
    scale = pick(rng, (rng.uniform(0.45, 0.75), rng.uniform(1.25, 1.6)))
    if not scene.parts:
        columns, rows = grid()
        cover = as_float(np.clip(5 + spot.size - np.hypot(columns - spot.x, rows - spot.y), 0, 1))
        return _carried(picture, cover, spot, rng.uniform(-20, 20), scale, 0, 0)
    index = _nearest(scene, spot)
    part = scene.parts[index]
    if part.sprite is None and chance(rng, 0.45):
        part = replace(part, face=tone_at(rng, spot, 35, 150), trim=tone_at(rng, spot, 35, 150))
    else:
        part = replace(part, size=part.size * scale, aspect=part.aspect * rng.uniform(0.6, 1.5))
    return _rearranged(scene, picture, index, (part,))
