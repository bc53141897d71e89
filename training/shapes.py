"""Outlines as signed distances (negative inside) in an object's own coordinates, and the frame for these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from .noise import SIZE, Plane, Rng, as_float, chance, grid, pick


@dataclass(frozen=True)
class Frame:
    """Where an object lies: centre and radius in pixels, angle in radians. Its coordinates are in radii."""

    x: float
    y: float
    radius: float
    angle: float

    @cached_property
    def uv(self) -> tuple[Plane, Plane]:
        """Coordinates of every pixel in the object's frame, in radii."""
        columns, rows = grid()
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        dx, dy = (columns - self.x) / self.radius, (rows - self.y) / self.radius
        return as_float(dx * cosine + dy * sine), as_float(dy * cosine - dx * sine)

    def at(self, u: float, v: float) -> tuple[float, float]:
        """The pixel (x, y) of a point given in radii."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return self.x + self.radius * (u * cosine - v * sine), self.y + self.radius * (u * sine + v * cosine)

    def cover(self, signed: Plane) -> Plane:
        """Anti-aliased coverage of the inside of a signed distance in radii."""
        return as_float(np.clip(0.5 - signed * self.radius, 0, 1))


def random_frame(rng: Rng) -> Frame:
    """Mostly centred and large, sometimes small in the picture; upright, slightly tilted or at any angle."""
    radius = rng.uniform(78, 112) if chance(rng, 0.7) else rng.uniform(30, 78)
    slack = max(4.0, 0.35 * (112 - radius))
    angle: float = pick(rng, (0.0, 0.5, 1.0, 1.5)) * math.pi + float(rng.normal(0, 0.06) * rng.integers(0, 2))
    if chance(rng, 0.35):
        angle = float(rng.uniform(0, math.tau))
    x, y = SIZE / 2 + rng.uniform(-slack, slack, 2)
    return Frame(float(x), float(y), float(radius), float(angle))


def circle(u: Plane, v: Plane, radius: float) -> Plane:
    """Disc of the given radius around the origin."""
    return as_float(np.hypot(u, v) - radius)


def box(u: Plane, v: Plane, half_u: float, half_v: float, corner: float = 0.0) -> Plane:
    """Rectangle with half sides and rounded corners."""
    du, dv = np.abs(u) - (half_u - corner), np.abs(v) - (half_v - corner)
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return as_float(outside + np.minimum(np.maximum(du, dv), 0) - corner)


def polygon(u: Plane, v: Plane, sides: int, radius: float) -> Plane:
    """Regular polygon whose inscribed circle has the given radius."""
    step = math.tau / sides
    angle = np.mod(np.arctan2(v, u), step) - step / 2
    return as_float(np.hypot(u, v) * np.cos(angle) - radius)


def lobes(u: Plane, v: Plane, count: int, depth: float, square: float = 0.0) -> Plane:
    """Disc with ``count`` lobes around it; ``square`` above 0 makes teeth of them."""
    wave = np.cos(count * np.arctan2(v, u))
    wave = np.tanh(square * wave) if square else wave
    return as_float(np.hypot(u, v) - (1 - depth + depth * wave))


def organic(rng: Rng, u: Plane, v: Plane, rough: float, mirrored: bool) -> Plane:
    """A closed outline of low harmonics; with ``mirrored`` it is symmetric about the u axis."""
    angle = np.arctan2(v, u)
    radius = np.ones_like(angle)
    for order in range(1, 6):
        phase = 0.0 if mirrored else rng.uniform(0, math.tau)
        radius += rough * float(rng.standard_normal()) / order * np.cos(order * angle + phase)
    return as_float(np.hypot(u, v) - np.clip(radius, 0.4, 1.3) / 1.25)


def text_cover(rng: Rng, frame: Frame, width: float, at: tuple[float, float] = (0.0, 0.0)) -> Plane:
    """Coverage of a short line of print, about ``width`` radii long, centred at ``at`` in the frame."""
    word = "".join(pick(rng, "ABCDEFGHKLMNPRSTXYZ0123456789-.") for _ in range(int(rng.integers(2, 9))))
    font, thick = int(rng.integers(0, 4)), int(rng.integers(2, 6))
    (wide, high), _ = cv2.getTextSize(word, font, 2.0, thick)
    sheet = np.zeros((high + 24, wide + 24), np.uint8)
    cv2.putText(sheet, word, (12, high + 10), font, 2.0, (255,), thick, cv2.LINE_AA)
    scale = min(width * frame.radius / wide, 0.5)
    matrix = cv2.getRotationMatrix2D(
        (sheet.shape[1] / 2, sheet.shape[0] / 2), -math.degrees(frame.angle), scale
    )
    x, y = frame.at(*at)
    matrix[:, 2] += np.array([x - sheet.shape[1] / 2, y - sheet.shape[0] / 2])
    half = cv2.GaussianBlur(sheet, (0, 0), max(0.1, 0.45 / scale))
    return as_float(cv2.warpAffine(half, matrix, (SIZE, SIZE))) / np.float32(255)


def bars_cover(rng: Rng, frame: Frame, half_u: float, half_v: float, at: tuple[float, float]) -> Plane:
    """Coverage of a bar code of the given half sides (radii) at ``at``."""
    u, v = frame.uv
    inside = frame.cover(box(as_float(u - at[0]), as_float(v - at[1]), half_u, half_v))
    bits = rng.integers(0, 2, 48)
    bits[[0, -1]] = 1
    index = np.clip(((u - at[0]) / half_u + 1) * 24, 0, 47).astype(int)
    return as_float(inside * bits[index])
