"""Five products, each with three kinds of flaw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .canvas import SIZE, Canvas, Field, Rgb, blurred, cover, lit, mixed, noise, on_ground, smooth
from .flaws import blot, crack, stroke, swing, zigzag

Scene: TypeAlias = "tuple[Field, Field]"


@dataclass(frozen=True, slots=True)
class Product:
    """What can be rendered.

    Attributes:
        render: from a shot and the name of a flaw (or None) to the scene ``(SIZE, SIZE, 3)`` and how much
            of each pixel is flawed, 0..1.
        flaws: the names that ``render`` knows.
        turn: how far the product may lie turned, in degrees.
    """

    render: Callable[[Canvas, str | None], Scene]
    flaws: tuple[str, ...]
    turn: float


def _plain(colour: Rgb, texture: Field) -> Field:
    return (np.asarray(colour, np.float32) * (1 + texture[:, :, None])).astype(np.float32)


def _nothing() -> Field:
    return np.zeros((SIZE, SIZE), np.float32)


def _spot(shot: Canvas, near: float, far: float) -> tuple[tuple[float, float], float]:
    """Return a place at a random angle between two radii, and that angle."""
    angle = shot.rng.uniform(0, 2 * np.pi)
    radius = shot.rng.uniform(near, far)
    return (float(radius * np.cos(angle)), float(radius * np.sin(angle))), float(angle)


def _scratched(shot: Canvas, scene: Field, path: Field, depth: float) -> Field:
    """Draw a scratch: a dark groove with a bright lip on the side away from the lamp."""
    lip = np.roll(path, (1, 1), axis=(0, 1))
    return mixed(mixed(scene, (0.95, 0.95, 0.93), 0.75 * lip), (0.12, 0.12, 0.13), depth * path)


def washer(shot: Canvas, flaw: str | None) -> Scene:
    """Render a turned steel washer on a dark mat."""
    rng, mask = shot.rng, _nothing()
    r, theta = np.hypot(shot.u, shot.v), np.arctan2(shot.v, shot.u)
    shape = np.maximum(r - 0.76, 0.34 - r)
    if flaw == "chipped":
        at, _ = _spot(shot, 0.74, 0.78)
        gap = blot(shot, at, rng.uniform(0.11, 0.16), 0.14)
        mask = cover(shape) * cover(gap)
        shape = np.maximum(shape, -gap)
    rings = np.interp(r, np.linspace(0, 1.5, 400), rng.normal(0, 1, 400)).astype(np.float32)
    sheen = 0.5 + 0.5 * np.cos(2 * (theta - rng.uniform(0.6, 1.0)))
    grey = 0.42 + 0.22 * sheen**2 + 0.028 * rings + 0.012 * noise(rng, 40)
    steel = grey[:, :, None] * np.array([1.0, 1.0, 1.03], np.float32)
    bevel = 0.03 * smooth(-shape / 0.05)
    metal = lit(shot, steel.astype(np.float32), bevel, ambient=0.45, gloss=0.10, focus=30)
    if flaw == "scratched":
        at, angle = _spot(shot, 0.5, 0.6)
        length, heading = rng.uniform(0.35, 0.6), angle + rng.uniform(0.6, 2.5)
        mask = cover(stroke(shot, swing(rng, at, length, heading), 3.2)) * cover(shape)
        metal = _scratched(shot, metal, mask, 0.75)
    if flaw == "rusty":
        at, _ = _spot(shot, 0.45, 0.65)
        mask = cover(blot(shot, at, rng.uniform(0.14, 0.2), 0.28), soft=9) * cover(shape)
        rust = _plain((0.42, 0.21, 0.09), 0.22 * noise(rng, 30, 3))
        metal = mixed(metal, rust, mask * np.clip(0.8 + 0.25 * noise(rng, 24, 2), 0, 1))
    mat = _plain((0.16, 0.18, 0.21), 0.05 * noise(rng, 90) + 0.03 * noise(rng, 5))
    return on_ground(shot, mat, metal, cover(shape)), mask


def capsule(shot: Canvas, flaw: str | None) -> Scene:
    """Render a two-coloured capsule on white paper."""
    rng, mask = shot.rng, _nothing()
    radius = 0.27 + 0.008 * (shot.u < 0.04)  # the cap goes over the body
    far = np.hypot(np.maximum(np.abs(shot.u) - 0.45, 0), shot.v)
    shape = (far - radius).astype(np.float32)
    dome = np.sqrt(np.clip(radius**2 - far**2, 1e-6, None)).astype(np.float32)
    if flaw == "squeezed":
        at = (rng.uniform(-0.5, 0.5), rng.choice([-1, 1]) * rng.uniform(0.1, 0.17))
        pit = np.exp(-((shot.u - at[0]) ** 2 + 1.6 * (shot.v - at[1]) ** 2) / rng.uniform(0.010, 0.016))
        dome = dome - 0.15 * pit + 0.012 * pit * noise(rng, 14, 2)
        shape = shape + 0.05 * pit
        mask = cover(0.3 - pit) * cover(shape)
    side = cover(shot.u - 0.04)
    albedo = mixed(_plain((0.86, 0.80, 0.62), 0.01 * noise(rng, 6)), (0.55, 0.11, 0.10), side)
    seam = cover(np.abs(shot.u - 0.045) - 0.006, 2)
    albedo = mixed(albedo, (0.25, 0.10, 0.08), 0.55 * seam)
    shell = lit(shot, albedo, dome, ambient=0.42, gloss=0.55, focus=45)
    if flaw == "cracked":
        start = (rng.uniform(-0.45, 0.35), rng.uniform(-0.2, -0.1))
        mask = cover(crack(shot, start, rng.uniform(0.35, 0.5), rng.uniform(0.5, 1.4), 5)) * cover(shape)
        shell = mixed(shell, (0.10, 0.05, 0.04), 0.9 * mask)
    if flaw == "soiled":
        at = (rng.uniform(-0.5, 0.5), rng.uniform(-0.14, 0.14))
        mask = cover(blot(shot, at, rng.uniform(0.07, 0.11), 0.3), soft=4) * cover(shape)
        shell = mixed(shell, (0.13, 0.12, 0.10), 0.8 * mask)
    paper = _plain((0.84, 0.84, 0.83), 0.012 * noise(rng, 60))
    return on_ground(shot, paper, shell, cover(shape), drop=9), mask


def cloth(shot: Canvas, flaw: str | None) -> Scene:
    """Render a plain weave that fills the picture."""
    rng, mask = shot.rng, _nothing()
    at = (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5))
    height, tone = _weave(shot)
    yarn = _plain((0.40, 0.47, 0.56), tone * (0.55 + 0.45 * height) * (1 + 0.05 * noise(rng, 120)) - 1)
    relief = 0.009 * height + 0.02 * noise(rng, 4)
    scene = lit(shot, yarn, relief, ambient=0.5, gloss=0.0, focus=1)
    if flaw == "snagged":  # a thread is gone from its place and stands out as a loop
        gap = cover(stroke(shot, swing(rng, at, rng.uniform(0.5, 0.7), 0), 6), 3)
        loop = stroke(shot, zigzag(rng, (at[0] - 0.18, at[1]), 0.4, rng.uniform(-0.4, 0.4)), 6)
        thread = cover(loop, 2)
        shadow = np.roll(blurred(thread, 2), (4, 3), axis=(0, 1))
        mask = np.maximum(gap, thread)
        scene = mixed(mixed(scene, (0.10, 0.12, 0.15), 0.75 * gap), (0.05, 0.06, 0.08), 0.6 * shadow)
        scene = mixed(scene, (0.60, 0.68, 0.77), thread * np.clip(0.8 - 25 * np.abs(loop + 0.012), 0.3, 0.95))
    if flaw == "torn":
        gap = blot(shot, at, rng.uniform(0.10, 0.15), 0.22) + 0.03 * (0.5 - height)
        mask = cover(gap)
        scene = mixed(scene, (0.62, 0.66, 0.70), 0.55 * cover(np.abs(gap) - 0.022, 5) * height)
        scene = mixed(scene, (0.06, 0.06, 0.07), cover(gap, 3))
    if flaw == "stained":
        edge = blot(shot, at, rng.uniform(0.2, 0.28), 0.16)
        mask = cover(edge, 6)
        rim = np.exp(-((edge / 0.035) ** 2)) * mask
        scene = scene * (1 - (0.42 * mask + 0.3 * rim)[:, :, None] * np.array([0.55, 0.8, 1.0]))
    return scene, mask


def _weave(shot: Canvas) -> tuple[Field, Field]:
    """Return how high the threads lie, 0..1, and how light each one is dyed."""
    pitch = 0.056
    u, v = shot.u + 0.006 * noise(shot.rng, 5), shot.v + 0.006 * noise(shot.rng, 5)
    warp, weft = np.floor(u / pitch).astype(int), np.floor(v / pitch).astype(int)
    across, down = np.sin(np.pi * u / pitch) ** 2, np.sin(np.pi * v / pitch) ** 2
    over = np.where((warp + weft) % 2 == 0, 1, -1)
    upright, lying = across * (0.55 + 0.45 * over * down), down * (0.55 - 0.45 * over * across)
    shade = shot.rng.normal(1, 0.045, (2, 200))
    tone = np.where(upright > lying, shade[0][warp % 200], shade[1][weft % 200] * 1.08)
    return np.maximum(upright, lying).astype(np.float32), tone.astype(np.float32)


_TEETH = 18


def gear(shot: Canvas, flaw: str | None) -> Scene:
    """Render a nylon gear wheel on a dark bench."""
    rng, mask = shot.rng, _nothing()
    r, theta = np.hypot(shot.u, shot.v), np.arctan2(shot.v, shot.u)
    rim = 0.70 + 0.075 * np.clip(1.7 * np.cos(_TEETH * theta), -1, 1)
    webs = np.hypot(r - 0.42, 0.42 * (np.mod(theta * 5 / (2 * np.pi), 1) - 0.5) * 2 * np.pi / 5) - 0.105
    shape = np.maximum(np.maximum((r - rim) * 0.7, 0.13 - r), -webs)
    whole = cover(shape)
    if flaw == "tooth_missing":
        wide = rng.choice([1, 2])  # one tooth, or it and the next
        middle = (rng.integers(_TEETH) + (wide - 1) / 2) * 2 * np.pi / _TEETH
        off = np.abs(np.mod(theta - middle + np.pi, 2 * np.pi) - np.pi)
        stump = r - 0.655 - 0.014 * noise(rng, 16, 2)
        shape = np.where(off < wide * np.pi / _TEETH, np.maximum(shape, stump), shape)
        mask = np.clip(whole - cover(shape), 0, 1)
    rims = smooth((r - 0.57) / 0.02) + smooth((0.24 - r) / 0.02)
    steps = 0.035 * smooth(-shape / 0.03) + 0.02 * rims
    nylon = _plain((0.80, 0.77, 0.68), 0.012 * noise(rng, 30, 2))
    part = lit(shot, nylon, steps.astype(np.float32), ambient=0.45, gloss=0.10, focus=25)
    if flaw == "cracked":
        angle = (rng.integers(5) * 2) * np.pi / 5
        start = (0.14 * np.cos(angle), 0.14 * np.sin(angle))
        mask = cover(crack(shot, start, rng.uniform(0.4, 0.52), angle, 6)) * cover(shape)
        part = mixed(part, (0.16, 0.13, 0.10), 0.9 * mask)
    if flaw == "burnt":
        at, _ = _spot(shot, 0.45, 0.62)
        edge = blot(shot, at, rng.uniform(0.14, 0.2), 0.25)
        mask = cover(edge, 14) * cover(shape)
        part = part * (1 - mask[:, :, None] * np.array([0.45, 0.6, 0.75], np.float32))
    bench = _plain((0.20, 0.25, 0.24), 0.06 * noise(rng, (4, 110)) + 0.04 * noise(rng, 6))
    return on_ground(shot, bench, part, cover(shape), drop=8), mask


def tile(shot: Canvas, flaw: str | None) -> Scene:
    """Render a glazed, speckled tile on a light table."""
    rng, mask = shot.rng, _nothing()
    inner = np.maximum(np.abs(shot.u), np.abs(shot.v)) - 0.72
    corner = np.hypot(np.maximum(np.abs(shot.u) - 0.72, 0), np.maximum(np.abs(shot.v) - 0.72, 0))
    shape = (np.where(inner > 0, corner, inner) - 0.06).astype(np.float32)
    speckle = np.clip(noise(rng, 110) - 1.35, 0, 1) * 0.5 + np.clip(noise(rng, 60) - 1.6, 0, 1) * 0.5
    glaze = _plain((0.62, 0.70, 0.66), 0.025 * noise(rng, 5, 3))
    glaze = mixed(glaze, (0.24, 0.22, 0.20), np.clip(speckle, 0, 0.85))
    relief = 0.03 * smooth(-shape / 0.07) + 0.0016 * noise(rng, 14, 2)
    face = lit(shot, glaze, relief, ambient=0.5, gloss=0.30, focus=60)
    if flaw == "chipped":
        along, edge = rng.uniform(-0.6, 0.6), rng.choice([-0.78, 0.78])
        at = (along, edge) if rng.random() < 0.5 else (edge, along)
        gap = blot(shot, at, rng.uniform(0.13, 0.19), 0.16)
        mask = cover(gap) * cover(shape)
        body = _plain((0.54, 0.40, 0.32), 0.10 * noise(rng, 40, 2))
        broken = 0.12 * np.clip(gap, -0.1, 0) + 0.003 * noise(rng, 40, 2)
        rough = lit(shot, body, broken, ambient=0.5, gloss=0, focus=1)
        face = mixed(face, rough, mask)
    if flaw == "cracked":
        at, angle = _spot(shot, 0.5, 0.7)
        length, heading = rng.uniform(0.8, 1.2), angle + np.pi + rng.uniform(-0.4, 0.4)
        mask = cover(crack(shot, at, length, heading, 5)) * cover(shape)
        face = mixed(face, (0.13, 0.11, 0.10), 0.9 * mask)
    if flaw == "soiled":
        at = (rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4))
        mask = cover(blot(shot, at, rng.uniform(0.14, 0.22), 0.3), soft=6) * cover(shape)
        face = mixed(face, (0.36, 0.30, 0.14), 0.7 * mask * np.clip(0.9 + 0.2 * noise(rng, 12, 2), 0, 1))
    table = _plain((0.74, 0.72, 0.69), 0.02 * noise(rng, (110, 5)) + 0.02 * noise(rng, 5))
    return on_ground(shot, table, face, cover(shape), drop=7), mask


PRODUCTS = {
    "capsule": Product(capsule, ("cracked", "soiled", "squeezed"), turn=12),
    "cloth": Product(cloth, ("snagged", "stained", "torn"), turn=4),
    "gear": Product(gear, ("burnt", "cracked", "tooth_missing"), turn=180),
    "tile": Product(tile, ("chipped", "cracked", "soiled"), turn=6),
    "washer": Product(washer, ("chipped", "rusty", "scratched"), turn=180),
}
