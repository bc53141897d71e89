"""Small features of an object (holes, pads, screws …), kept as a list so that one of them can go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import SIZE, Picture, Plane, Rng, as_float, chance, near_colour, pick, slope
from .shapes import box, circle, polygon

Rgb = NDArray[np.float32]
Window = tuple[slice, slice]
Layers = list[tuple[Plane, int]]  # signed distance, and which of the part's two colours


@dataclass(frozen=True, eq=False)
class Part:
    """One feature: what it looks like and where it sits (pixels, radians).

    ``sprite`` (h, w, 4), colour and coverage, replaces the drawn shape where given; it is 2 ``size`` wide.
    """

    shape: str
    x: float
    y: float
    size: float
    angle: float
    aspect: float
    face: Rgb
    trim: Rgb
    relief: float
    mirrored: bool = False
    sprite: NDArray[np.float32] | None = None


def _disc(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(circle(p, q, 1), 0)]


def _hole(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(circle(p, q, 1), 0), (circle(p, q, 0.75), 1)]


def _ring(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(as_float(np.abs(np.hypot(p, q) - 0.75) - 0.25), 0)]


def _pad(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(box(p, q, 1, aspect, 0.15 * aspect), 0)]


def _pill(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(box(p, q, 1, aspect, aspect), 0), (box(as_float(p - 0.5), q, 0.5, aspect, aspect), 1)]


def _bar(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(box(p, q, 1, 0.5 * aspect, 0.5 * aspect), 0)]


def _chip(p: Plane, q: Plane, aspect: float) -> Layers:
    dot = circle(as_float(p + 0.65), as_float(q + 0.5 * aspect), 0.18)
    return [(box(p, q, 1, aspect, 0.05), 0), (dot, 1)]


def _screw(p: Plane, q: Plane, aspect: float) -> Layers:
    slot = np.minimum(box(p, q, 0.65, 0.13), box(p, q, 0.13, 0.65) if aspect > 0.7 else 9)
    return [(circle(p, q, 1), 0), (as_float(slot), 1)]


def _hex(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(polygon(p, q, 6, 0.88), 0), (circle(p, q, 0.5), 1)]


def _dee(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(as_float(np.maximum(circle(p, q, 1), p - 0.3)), 0)]


def _ell(p: Plane, q: Plane, aspect: float) -> Layers:
    foot = box(as_float(p), as_float(q - 0.65), 0.85, 0.3)
    stem = box(as_float(p + 0.55), as_float(q), 0.3, 0.95)
    return [(as_float(np.minimum(foot, stem)), 0)]


def _arrow(p: Plane, q: Plane, aspect: float) -> Layers:
    return [(polygon(p, q, 3, 0.5), 0)]


SHAPES: dict[str, Callable[[Plane, Plane, float], Layers]] = {
    "disc": _disc,
    "hole": _hole,
    "ring": _ring,
    "pad": _pad,
    "pill": _pill,
    "bar": _bar,
    "chip": _chip,
    "screw": _screw,
    "hex": _hex,
    "dee": _dee,
    "ell": _ell,
    "arrow": _arrow,
}
ROUND = ("disc", "hole", "ring")  # look the same however they are turned


def random_part(rng: Rng, ground: Rgb, shapes: tuple[str, ...] = tuple(SHAPES)) -> Part:
    """A part of unit size at the origin that stands out from the colour it will lie on."""
    shape = pick(rng, shapes)
    face = near_colour(rng, ground, 30, 140)
    trim = near_colour(rng, face, 40, 140)
    if shape == "hole":
        face, trim = near_colour(rng, ground, 10, 50), as_float(ground * rng.uniform(0.05, 0.4))
    relief = rng.uniform(0.2, 1) if chance(rng, 0.7) else 0.0
    return Part(shape, 0, 0, 1, 0, float(rng.uniform(0.3, 1)), face, trim, float(relief))


def _window(part: Part) -> Window | None:
    reach = 1.5 * part.size + 2
    left, right = max(0, int(part.x - reach)), min(SIZE, int(part.x + reach) + 1)
    top, bottom = max(0, int(part.y - reach)), min(SIZE, int(part.y + reach) + 1)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _stamp(picture: Picture, cover: Plane, part: Part, sprite: NDArray[np.float32], window: Window) -> None:
    high, wide = sprite.shape[:2]
    scale = 2 * part.size / wide
    matrix = cv2.getRotationMatrix2D((wide / 2, high / 2), -math.degrees(part.angle), scale)
    if part.mirrored:
        matrix = matrix @ np.array([[-1, 0, wide], [0, 1, 0], [0, 0, 1]])
    rows, columns = window
    matrix[:, 2] += np.array([part.x - wide / 2 - columns.start, part.y - high / 2 - rows.start])
    size = (columns.stop - columns.start, rows.stop - rows.start)
    laid = as_float(cv2.warpAffine(sprite, matrix, size))
    alpha = laid[..., 3:]
    picture[window] += (laid[..., :3] - picture[window]) * alpha
    np.maximum(cover[window], alpha[..., 0], out=cover[window])


def draw(picture: Picture, cover: Plane, part: Part, light: float) -> None:
    """Paint one part into ``picture`` (unlit colours) and its coverage into ``cover``, both in place."""
    window = _window(part)
    if window is None:
        return
    if part.sprite is not None:
        _stamp(picture, cover, part, part.sprite, window)
        return
    rows, columns = np.mgrid[window].astype(np.float32)
    cosine, sine = math.cos(part.angle), math.sin(part.angle)
    dx, dy = (columns - part.x) / part.size, (rows - part.y) / part.size
    p, q = dx * cosine + dy * sine, dy * cosine - dx * sine
    q = -q if part.mirrored else q
    patch = picture[window]
    for signed, which in SHAPES[part.shape](as_float(p), as_float(q), part.aspect):
        inside = np.clip(0.5 - signed * part.size, 0, 1)[..., None]
        bevel = slope(as_float(np.clip(-signed * part.size, 0, 3)), light) * part.relief
        bevel = -bevel if part.shape == "hole" else bevel
        patch += ((part.trim if which else part.face) * (1 + 0.5 * bevel[..., None]) - patch) * inside
        np.maximum(cover[window], inside[..., 0], out=cover[window])


def ring_of(part: Part, centre: tuple[float, float], radius: float, count: int, start: float) -> list[Part]:
    """``count`` copies of a part around a circle, each turned outwards."""
    out = []
    for index in range(count):
        angle = start + math.tau * index / count
        x, y = centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)
        out.append(_placed(part, x, y, part.angle + angle))
    return out


def _placed(part: Part, x: float, y: float, angle: float) -> Part:
    fields = {name: getattr(part, name) for name in part.__dataclass_fields__}
    return Part(**{**fields, "x": float(x), "y": float(y), "angle": float(angle)})
