"""Shapes of flaws: lines that wander, lines that break, blots with ragged edges."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .canvas import PIXEL, Canvas, Field, noise

Points: TypeAlias = NDArray[np.float64]


def swing(rng: np.random.Generator, centre: tuple[float, float], length: float, angle: float) -> Points:
    """Return the points ``(n, 2)`` of a slightly bent line through ``centre``."""
    along = np.linspace(-0.5, 0.5, 9)
    bend = rng.uniform(-0.12, 0.12) * length
    local = np.stack([along * length, bend * (4 * along**2 - 0.5)], axis=1)
    points: Points = local @ _turn(angle) + np.asarray(centre)
    return points


def zigzag(rng: np.random.Generator, start: tuple[float, float], length: float, angle: float) -> Points:
    """Return the points ``(n, 2)`` of a line that starts somewhere and breaks its way in one direction."""
    steps = max(6, round(length / 0.045))
    headings = angle + np.cumsum(rng.normal(0, 0.2, steps)) * 0.6 + rng.normal(0, 0.45, steps)
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps)
    return np.vstack([[start], np.asarray(start) + np.cumsum(moves, axis=0)])


def _turn(angle: float) -> Points:
    return np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])


def distance_to(shot: Canvas, points: Points) -> tuple[Field, Field]:
    """Return each pixel's distance to a line and the place along it, 0..1, that is nearest."""
    nearest = np.full(shot.u.shape, np.inf, np.float32)
    place = np.zeros_like(nearest)
    count = len(points) - 1
    for index, (one, other) in enumerate(itertools.pairwise(points)):
        (du, dv), (pu, pv) = other - one, (shot.u - one[0], shot.v - one[1])
        share = np.clip((pu * du + pv * dv) / max(du * du + dv * dv, 1e-9), 0, 1)
        far = np.hypot(pu - share * du, pv - share * dv)
        closer = far < nearest
        nearest[closer] = far[closer]
        place[closer] = (index + share[closer]) / count
    return nearest, place


def stroke(shot: Canvas, points: Points, width: float) -> Field:
    """Return the distance to a line ``width`` pixels wide that thins out towards both ends."""
    far, place = distance_to(shot, points)
    taper = np.sqrt(np.clip(4 * place * (1 - place), 0.05, 1))
    distance: Field = far - taper * (width * PIXEL / 2)
    return distance


def crack(shot: Canvas, start: tuple[float, float], length: float, angle: float, width: float) -> Field:
    """Return the distance to a crack: wide at its start, thin at its end, with a branch."""
    rng = shot.rng
    points = zigzag(rng, start, length, angle)
    fork = points[len(points) // 2]
    side = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
    branch = zigzag(rng, (fork[0], fork[1]), length * rng.uniform(0.25, 0.45), side)
    parts = []
    for line, wide in ((points, width), (branch, width * 0.6)):
        far, place = distance_to(shot, line)
        parts.append(far - (1.05 - place) * (wide * PIXEL / 2))
    return np.minimum(*parts)


def blot(shot: Canvas, centre: tuple[float, float], radius: float, ragged: float) -> Field:
    """Return the distance to a blot; ``ragged`` is how far its edge strays, as a share of the radius."""
    far = np.hypot(shot.u - centre[0], (shot.v - centre[1]) * shot.rng.uniform(0.8, 1.25))
    distance: Field = far - radius * (1 + ragged * noise(shot.rng, round(2.2 / radius), octaves=3))
    return distance
