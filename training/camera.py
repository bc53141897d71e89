"""The camera: geometry, light, tone, blur, noise, compression; nearly the same for both views of a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import SIZE, Picture, Rng, as_float, blur, chance, grid, pick


@dataclass(frozen=True)
class Camera:
    """Everything that happens between the scene and the file; angles in degrees, lengths in pixels."""

    angle: float
    scale: float
    dx: float
    dy: float
    mirrored: bool
    grey: bool
    warmth: tuple[float, float, float]
    light: float
    gradient: float
    gamma: float
    contrast: float
    lift: float
    blur: float
    noise: float
    quality: int | None


def random_camera(rng: Rng) -> Camera:
    """The camera of one product line."""
    warm = rng.normal(0, 0.04) if chance(rng, 0.4) else 0.0
    return Camera(
        angle=float(rng.uniform(-3, 3)) if chance(rng, 0.5) else 0.0,
        scale=float(rng.uniform(0.97, 1.06)),
        dx=0.0,
        dy=0.0,
        mirrored=chance(rng, 0.5),
        grey=chance(rng, 0.2),
        warmth=(1 + warm, 1.0, 1 - warm),
        light=float(rng.uniform(0, math.tau)),
        gradient=float(rng.uniform(0, 0.2)) if chance(rng, 0.5) else 0.0,
        gamma=float(math.exp(rng.uniform(-0.35, 0.35))) if chance(rng, 0.5) else 1.0,
        contrast=float(rng.uniform(0.75, 1.2)) if chance(rng, 0.5) else 1.0,
        lift=float(rng.uniform(-18, 18)) if chance(rng, 0.5) else 0.0,
        blur=float(rng.uniform(0.3, 1.1)) if chance(rng, 0.5) else 0.0,
        noise=float(rng.uniform(0.5, 6)) if chance(rng, 0.6) else 0.0,
        quality=int(rng.integers(45, 96)) if chance(rng, 0.3) else None,
    )


def jitter(rng: Rng, camera: Camera) -> Camera:
    """The same camera a moment later: the part lies a little differently, the lamp has drifted."""
    return replace(
        camera,
        angle=camera.angle + float(rng.normal(0, 0.8)),
        scale=camera.scale * float(rng.uniform(0.985, 1.015)),
        dx=float(rng.normal(0, 1.5)),
        dy=float(rng.normal(0, 1.5)),
        gradient=camera.gradient * float(rng.uniform(0.8, 1.2)),
        gamma=camera.gamma * float(math.exp(rng.normal(0, 0.04))),
        lift=camera.lift + float(rng.normal(0, 2.5)),
        blur=camera.blur * float(rng.uniform(0.8, 1.2)),
    )


def _matrix(camera: Camera) -> NDArray[np.float64]:
    matrix = np.asarray(cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), camera.angle, camera.scale), np.float64)
    matrix[:, 2] += np.array([camera.dx, camera.dy])
    return matrix


def tone(camera: Camera, picture: Picture) -> Picture:
    """Light and tone of the camera alone, clipped to 0 to 255: what its pictures can show at all."""
    if camera.gradient:
        columns, rows = grid()
        far = (columns - SIZE / 2) * math.cos(camera.light) + (rows - SIZE / 2) * math.sin(camera.light)
        picture = as_float(picture * (1 + camera.gradient * far / (SIZE / 2))[..., None])
    if camera.gamma != 1:
        picture = as_float(255 * (np.clip(picture, 0, 255) / 255) ** np.float32(camera.gamma))
    picture = as_float((picture * as_float(camera.warmth) - 128) * camera.contrast + 128 + camera.lift)
    if camera.grey:
        picture = as_float(np.repeat(picture.mean(-1, keepdims=True), 3, -1))
    return as_float(np.clip(picture, 0, 255))


def shoot(rng: Rng, camera: Camera, picture: Picture) -> NDArray[np.uint8]:
    """Photograph a picture: uint8 (SIZE, SIZE, 3)."""
    size = (SIZE, SIZE)
    picture = as_float(cv2.warpAffine(picture, _matrix(camera), size, borderMode=cv2.BORDER_REFLECT_101))
    picture = tone(camera, picture)
    picture = blur(picture, camera.blur) if camera.blur else picture
    if camera.noise:
        shape = (SIZE, SIZE, pick(rng, (1, 3)) if not camera.grey else 1)
        picture = as_float(picture + camera.noise * rng.standard_normal(shape, dtype=np.float32))
    image = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    image = np.ascontiguousarray(image[:, ::-1]) if camera.mirrored else image
    if camera.quality is not None:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, camera.quality])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def carry(camera: Camera, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask as this camera sees it, moved, turned and mirrored like the picture."""
    moved = cv2.warpAffine(mask.astype(np.float32), _matrix(camera), (SIZE, SIZE))
    seen = np.asarray(moved) > 0.5
    return np.ascontiguousarray(seen[:, ::-1]) if camera.mirrored else seen
