"""A scene: one flawless picture with everything a defect needs to know about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .bodies import Body
from .distractors import QUIET, distract
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
    pick,
    slope,
)
from .objects import build
from .outline import find_outline
from .parts import Part, draw
from .shapes import random_frame
from .sources import Photos
from .structure import furnish
from .textures import TEXTURES, texture

WOODEN, ROUGH, METALLIC = (
    ("wood",),
    ("casting", "concrete", "stone"),
    ("brushed", "worn_metal", "casting", "plain"),
)

_PHOTOS = 0.58  # of the scenes, where there are photographs
_TWINS = 0.35  # of the photographs are compared with another of their kind instead of themselves
_FURNISHED, _FURNISHED_PHOTO = 0.4, 0.25  # of the scenes have hard structure drawn on them


@dataclass(frozen=True)
class Cast:
    """The shadow an object casts on its ground: shift and softness in pixels, depth 0 to 1."""

    dx: float
    dy: float
    softness: float
    depth: float

    def on(self, cover: Plane) -> Plane:
        """Factor by which what has this coverage darkens the ground."""
        shift = np.array([[1, 0, self.dx], [0, 1, self.dy]], np.float32)
        shadow = blur(as_float(cv2.warpAffine(cover, shift, (SIZE, SIZE))), self.softness)
        return as_float(1 - self.depth * shadow)


@dataclass(frozen=True, eq=False)
class Solid:
    """What redrawing an object with other parts needs: coverage and shade of its body, vignette, shadow."""

    cover: Plane
    shade: Plane
    vignette: Plane
    cast: Cast

    def shading(self, cover: Plane) -> Plane:
        """Light and shadow over the whole picture when body and parts together have this coverage."""
        ground = (1 - self.cover) * self.cast.on(cover)
        return as_float((ground + self.cover * self.shade) * self.vignette)


@dataclass(frozen=True, eq=False)
class Scene:
    """A flawless picture, taken apart.

    Attributes:
        image: the lit picture (SIZE, SIZE, 3), 0 to 255.
        cover: coverage of the object (SIZE, SIZE), 0 to 1; all ones where the surface fills the picture.
        ground: what lies behind the object, lit (SIZE, SIZE, 3), or None where nothing does.
        under: the unlit colours below the parts.
        shade: factor by which light and shadow change an unlit colour (SIZE, SIZE).
        gloss: what reflections add (SIZE, SIZE).
        bare: ``image`` before distractors were laid over it.
        light: angle the light comes from, radians.
        base: "texture", "object" or "photo".
        material: name of the texture or object family, or the kind of the photograph.
        parts: the features that lie on it, in drawing order.
        solid: what redrawing needs; None where there are no parts.
        twin: another flawless picture of the same kind of thing, or None.
        other: a picture of something else, or None.
        furnished: how many sorts of hard flawless structure were drawn on it.
    """

    image: Picture
    cover: Plane
    ground: Picture | None
    under: Picture
    shade: Plane
    gloss: Plane
    bare: Picture
    light: float
    base: str
    material: str
    parts: tuple[Part, ...] = ()
    solid: Solid | None = None
    twin: Picture | None = None
    other: Picture | None = None
    furnished: int = 0

    def lit(self, albedo: NDArray[np.float32]) -> Picture:
        """The colour (3) or picture as this scene's light would show it."""
        return as_float(np.clip(albedo * self.shade[..., None] + self.gloss[..., None], 0, 255))

    def with_parts(self, parts: tuple[Part, ...]) -> Picture:
        """The lit picture with other parts than its own, without distractors; equals ``bare`` for its own.

        Raises:
            ValueError: the scene is no drawn object.
        """
        if self.solid is None:
            raise ValueError(
                f"Wanted a drawn object to redraw, got a {self.base}; ask only where there are parts."
            )
        drawn, cover = _with_parts(self.under, self.solid.cover, parts, self.light)
        return as_float(np.clip(drawn * self.solid.shading(cover)[..., None] + self.gloss[..., None], 0, 255))


def _with_parts(under: Picture, cover: Plane, parts: tuple[Part, ...], light: float) -> tuple[Picture, Plane]:
    picture, cover = under.copy(), cover.copy()
    for part in parts:
        draw(picture, cover, part, light)
    return picture, cover


def backdrop(rng: Rng) -> Picture:
    """What an object lies on: usually plain with soft light, sometimes black, white or a texture."""
    kind = rng.random()
    if kind < 0.15:
        return np.full((SIZE, SIZE, 3), pick(rng, (3.0, 12.0, 248.0)), np.float32)
    if kind < 0.75:
        tone = rng.uniform(0, 8) * fractal(rng, 70, 2) + rng.uniform(0, 3) * fractal(rng, 2, 1)
        return as_float(np.clip(colour(rng, 5, 250) + tone[..., None], 0, 255))
    picture = texture(rng)
    return as_float(picture.mean((0, 1)) + (picture - picture.mean((0, 1))) * rng.uniform(0.3, 1))


def _vignette(rng: Rng) -> Plane:
    columns, rows = grid()
    x, y = SIZE / 2 + rng.uniform(-50, 50, 2)
    far = ((columns - x) ** 2 + (rows - y) ** 2) / (SIZE * 0.7) ** 2
    return as_float(1.0 - rng.uniform(0, 0.35) * far)


def _body_light(rng: Rng, body: Body, light: float) -> tuple[Plane, Plane]:
    """Shade and gloss of the object from its height."""
    lean = slope(blur(body.height, 0.8), light)
    shade = 1 + rng.uniform(0.15, 0.6) * np.clip(lean, -1.2, 1.2)
    shine = rng.uniform(20, 110) if chance(rng, 0.5) else 0.0
    gloss = shine * np.clip(1 - np.abs(lean - rng.uniform(0.25, 0.6)) * rng.uniform(4, 9), 0, 1) ** 2
    return as_float(shade), as_float(gloss * body.cover)


def _random_cast(rng: Rng, light: float) -> Cast:
    reach = rng.uniform(1, 10)
    depth = 0.0 if chance(rng, 0.35) else rng.uniform(0.1, 0.6)
    dx, dy = -reach * math.cos(light), -reach * math.sin(light)
    return Cast(float(dx), float(dy), float(rng.uniform(2, 9)), float(depth))


def object_scene(rng: Rng, family: str | None = None) -> Scene:
    """A random object of the named family, or of any, on a random backdrop."""
    frame, light = random_frame(rng), float(rng.uniform(0, math.tau))
    ground = backdrop(rng)
    body = build(rng, frame, light, family)
    shade, gloss = _body_light(rng, body, light)
    vignette = _vignette(rng) if chance(rng, 0.6) else np.ones((SIZE, SIZE), np.float32)
    solid = Solid(body.cover, shade, vignette, _random_cast(rng, light))
    under = as_float(ground + (body.albedo - ground) * body.cover[..., None])
    parts = tuple(body.parts)
    drawn, cover = _with_parts(under, body.cover, parts, light)
    shade = solid.shading(cover)
    bare = as_float(np.clip(drawn * shade[..., None] + gloss[..., None], 0, 255))
    image, furnished = furnish(rng, distract(rng, bare, 0.25, QUIET), body.cover, _FURNISHED)
    lit_ground = as_float(np.clip(ground * (solid.cast.on(cover) * vignette)[..., None], 0, 255))
    scene = Scene(
        image, cover, lit_ground, under, shade, gloss, bare, light, "object", body.family, parts, solid
    )
    return replace(scene, furnished=furnished)


def _flat(image: Picture, light: float, base: str, material: str) -> Scene:
    ones = np.ones((SIZE, SIZE), np.float32)
    return Scene(image, ones, None, image, ones, np.zeros_like(ones), image, light, base, material)


def texture_scene(rng: Rng, photos: Photos | None = None, name: str | None = None) -> Scene:
    """A surface that fills the picture: the named texture, a random one, or a piece of a photographed one."""
    light = float(rng.uniform(0, math.tau))
    if name is None and photos is not None and photos.surfaces and chance(rng, 0.08):
        return _flat(photos.surface(rng), light, "texture", "photo")
    name = name or pick(rng, tuple(TEXTURES))
    image = texture(rng, name)
    if chance(rng, 0.5):
        image = as_float(image * _vignette(rng)[..., None])
    scene = _flat(distract(rng, image, 0.35), light, "texture", name)
    image, furnished = furnish(rng, scene.image, scene.cover, _FURNISHED)
    return replace(scene, image=image, furnished=furnished)


def photo_scene(rng: Rng, photos: Photos, kind: str | None = None) -> Scene:
    """A real photograph of a flawless thing, of the named kind or any, told from an even ground."""
    kind = kind or photos.kind(rng)
    picture = photos.photo(rng, kind)
    scene = _flat(picture, float(rng.uniform(0, math.tau)), "photo", kind)
    found = find_outline(picture)
    if found is not None:
        scene = replace(scene, cover=found.cover, ground=found.backdrop(rng))
    image, furnished = furnish(rng, picture, scene.cover, _FURNISHED_PHOTO)
    twin = photos.photo(rng, kind) if chance(rng, _TWINS) else None
    other = photos.photo(rng, photos.kind(rng))
    return replace(scene, image=image, twin=twin, other=other, furnished=furnished)


def random_scene(rng: Rng, photos: Photos | None) -> Scene:
    """Any scene: more than half photographs where there are any, the rest textures and objects."""
    share = rng.random()
    if share < _PHOTOS and photos is not None and photos.kinds:
        return photo_scene(rng, photos)
    return texture_scene(rng, photos) if chance(rng, 0.45) else object_scene(rng)
