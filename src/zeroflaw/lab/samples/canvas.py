"""The rendering kit: a posed coordinate grid, noise, shapes given by distance, light, and the camera.

Everything is float32. Distances are in units of half the picture's width; inside of a shape is negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 352  # pixels a side
PIXEL = 2 / SIZE

Field: TypeAlias = NDArray[np.floating]
Rgb: TypeAlias = "tuple[float, float, float]"


@dataclass(frozen=True, slots=True)
class Canvas:
    """One shot of one product.

    Attributes:
        rng: where this picture's chances come from.
        u: coordinate to the right on the product, ``(SIZE, SIZE)``, about -1..1.
        v: coordinate downwards on the product.
        light: unit vector to the lamp: right, down, towards the viewer.
    """

    rng: np.random.Generator
    u: Field
    v: Field
    light: Field


def canvas(rng: np.random.Generator, *, turn: float) -> Canvas:
    """Place a product: turned by up to ``turn`` degrees, shifted and scaled a little, lamp moved."""
    angle = np.deg2rad(rng.uniform(-turn, turn))
    scale = rng.uniform(0.96, 1.04)
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float32) * PIXEL - 1
    across, down = column - rng.uniform(-0.05, 0.05), row - rng.uniform(-0.05, 0.05)
    u = (np.cos(angle) * across + np.sin(angle) * down) * scale
    v = (np.cos(angle) * down - np.sin(angle) * across) * scale
    light = np.array([rng.uniform(-0.55, -0.4), rng.uniform(-0.6, -0.45), 0.75], np.float32)
    return Canvas(rng, u.astype(np.float32), v.astype(np.float32), light / np.linalg.norm(light))


def noise(rng: np.random.Generator, cells: int | tuple[int, int], octaves: int = 1) -> Field:
    """Return smooth noise of mean 0 and spread about 1, with ``cells`` (or down, across) features a side."""
    down, across = (cells, cells) if isinstance(cells, int) else cells
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        grid = rng.standard_normal((down * 2**octave + 1, across * 2**octave + 1)).astype(np.float32)
        fine = Image.fromarray(grid).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        total += np.asarray(fine) * 0.5**octave
    return total


def smooth(share: Field) -> Field:
    """Return the usual S-curve of 0..1, flat at both ends."""
    share = np.clip(share, 0, 1)
    curve: Field = share * share * (3 - 2 * share)
    return curve


def cover(distance: Field, soft: float = 1.0) -> Field:
    """Return how much of each pixel lies in a shape, 0..1; ``soft`` is its edge's width in pixels."""
    inside: Field = np.clip(0.5 - distance / (soft * PIXEL), 0, 1)
    return inside


def blurred(share: Field, radius: float) -> Field:
    """Return a field of 0..1 blurred with a Gaussian of ``radius`` pixels (8 bit deep)."""
    picture = Image.fromarray((np.clip(share, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def mixed(below: Field, above: Field | Rgb, share: Field) -> Field:
    """Lay a colour or a picture ``(SIZE, SIZE, 3)`` over another, opaque where ``share`` is 1."""
    result: Field = below + (np.asarray(above, np.float32) - below) * share[:, :, None].astype(np.float32)
    return result


def lit(shot: Canvas, albedo: Field, height: Field, *, ambient: float, gloss: float, focus: float) -> Field:
    """Return the picture ``(SIZE, SIZE, 3)`` of a relief under one lamp (Blinn and Phong's model).

    Args:
        shot: gives the lamp.
        albedo: colour of the surface, ``(SIZE, SIZE, 3)``.
        height: relief, in the units of the distances.
        ambient: share of light that comes from everywhere.
        gloss: strength of the highlight.
        focus: exponent of the highlight; higher is smaller.
    """
    down, across = np.gradient(height, PIXEL)
    steep = 1 / np.sqrt(across**2 + down**2 + 1)
    half = shot.light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    towards = np.clip((shot.light[2] - across * shot.light[0] - down * shot.light[1]) * steep, 0, 1)
    mirror = np.clip((half[2] - across * half[0] - down * half[1]) * steep, 0, 1) ** focus
    flat = float(shot.light[2])  # a level surface keeps its albedo
    shade = ambient + (1 - ambient) * towards / flat
    lighted: Field = (albedo * shade[:, :, None] + gloss * mirror[:, :, None]).astype(np.float32)
    return lighted


def on_ground(shot: Canvas, ground: Field, thing: Field, inside: Field, *, drop: float = 6) -> Field:
    """Put a thing with its soft shadow on the ground; ``drop`` is its height in pixels."""
    shift = (round(-shot.light[1] * drop * 1.6), round(-shot.light[0] * drop * 1.6))
    cast = np.roll(blurred(inside, drop), shift, axis=(0, 1))
    contact = blurred(inside, drop / 3)
    dark = 1 - 0.4 * cast - 0.25 * contact
    return mixed(ground * dark[:, :, None], thing, inside)


def exposed(shot: Canvas, scene: Field) -> NDArray[np.uint8]:
    """Return the photo of a scene: exposure, fall-off towards the corners, lens blur, grain, 8 bits."""
    rng = shot.rng
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float32) * PIXEL - 1
    towards_lamp = row * shot.light[1] + column * shot.light[0]
    falloff = 1 - 0.07 * (row**2 + column**2) + 0.05 * towards_lamp
    light = np.clip(scene * (falloff * rng.uniform(0.95, 1.04))[:, :, None], 0, 1)
    picture = Image.fromarray((light * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * 2.2
    photo: NDArray[np.uint8] = np.clip(np.asarray(picture, np.float32) + grain, 0, 255).astype(np.uint8)
    return photo
