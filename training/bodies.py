"""A body before light falls on it, and the steps from which the families of objects build theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import Picture, Plane, Rng, as_float, blur, chance, colour, fractal, mix, near_colour
from .parts import Part
from .shapes import Frame, bars_cover, box, text_cover
from .textures import texture


@dataclass(eq=False)
class Body:
    """An object before light falls on it.

    Attributes:
        family: name of its family.
        cover: coverage (SIZE, SIZE), 0 to 1.
        albedo: unlit colours (SIZE, SIZE, 3); outside the object they do not matter.
        height: relief in pixels (SIZE, SIZE).
        parts: features to be drawn on it.
    """

    family: str
    cover: Plane
    albedo: Picture
    height: Plane
    parts: list[Part]


Family = Callable[[Rng, Frame], Body]


def rounded(cover: Plane, width: float) -> Plane:
    """Height of a body whose border is rounded over ``width`` pixels."""
    inside = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.clip(inside / width, 0, 1)
    return blur(as_float(width * np.sqrt(np.clip(1 - (1 - edge) ** 2, 0, 1))), 0.6 + 0.12 * width)


def material(rng: Rng, plain: float = 0.6) -> Picture:
    """Unlit colours of a body: painted or moulded plainly, or any texture with its contrast reduced."""
    if chance(rng, plain):
        cloud = rng.uniform(0, 5) * fractal(rng, 50, 3) + rng.uniform(0, 4) * fractal(rng, 2, 1)
        return as_float(np.clip(colour(rng, 25, 225, 0.12) + cloud[..., None], 0, 255))
    picture = texture(rng)
    mean = picture.mean((0, 1))
    return as_float(mean + (picture - mean) * rng.uniform(0.25, 1))


def ground_of(body: Body) -> NDArray[np.float32]:
    """Mean colour of the body, against which features are made to stand out."""
    inside = body.cover > 0.5
    return as_float(body.albedo[inside].mean(0)) if inside.any() else as_float(body.albedo.mean((0, 1)))


def shaped(
    rng: Rng, family: str, frame: Frame, signed: Plane, bevel: float | None = None, plain: float = 0.6
) -> Body:
    """A body of random material with the given outline; ``bevel`` is the width of its edge in pixels."""
    cover = frame.cover(signed)
    width = frame.radius * rng.uniform(0.03, 0.35) if bevel is None else bevel
    return Body(family, cover, material(rng, plain), rounded(cover, max(width, 1.5)), [])


def lay(body: Body, cover: Plane, tone: NDArray[np.float32], step: float = 0.0) -> None:
    """Lay a colour on the body and raise or sink it by ``step`` pixels there."""
    body.albedo = mix(body.albedo, tone, cover)
    body.height = as_float(body.height + step * blur(cover, 0.7))


def placed(frame: Frame, part: Part, u: float, v: float, size: float, turn: float = 0.0) -> Part:
    """The part at the point (u, v) of the frame; ``size`` in radii, ``turn`` in radians."""
    x, y = frame.at(u, v)
    return replace(part, x=x, y=y, size=max(2.0, size * frame.radius), angle=frame.angle + turn)


def label(rng: Rng, frame: Frame, body: Body, width: float, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Print: text, mostly, or a bar code; sometimes on a sticker of another colour."""
    u, v = frame.uv
    ground = ground_of(body)
    if chance(rng, 0.3):
        sticker = frame.cover(box(as_float(u - at[0]), as_float(v - at[1]), 0.55 * width, 0.22 * width, 0.03))
        ground = near_colour(rng, ground, 40, 140)
        lay(body, sticker, ground)
    ink = near_colour(rng, ground, 60, 180)
    if chance(rng, 0.75):
        lay(body, text_cover(rng, frame, width * 0.9, at), ink)
    else:
        lay(body, bars_cover(rng, frame, 0.4 * width, 0.14 * width, at), ink)
