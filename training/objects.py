"""Families of objects: outline, colours, relief and parts of things like those on an inspection table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import SIZE, Picture, Plane, Rng, as_float, blur, chance, colour, fractal, mix, near_colour, pick
from .parts import Part, draw, random_part, ring_of
from .shapes import Frame, bars_cover, box, circle, lobes, organic, polygon, text_cover
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


def _bevel(cover: Plane, width: float) -> Plane:
    """Height of a body whose border is rounded over ``width`` pixels."""
    inside = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.clip(inside / width, 0, 1)
    return blur(as_float(width * np.sqrt(np.clip(1 - (1 - edge) ** 2, 0, 1))), 0.6 + 0.12 * width)


def _material(rng: Rng, plain: float = 0.6) -> Picture:
    """Unlit colours of a body: painted or moulded plainly, or any texture with its contrast reduced."""
    if chance(rng, plain):
        cloud = rng.uniform(0, 5) * fractal(rng, 50, 3) + rng.uniform(0, 4) * fractal(rng, 2, 1)
        return as_float(np.clip(colour(rng, 25, 225, 0.12) + cloud[..., None], 0, 255))
    picture = texture(rng)
    mean = picture.mean((0, 1))
    return as_float(mean + (picture - mean) * rng.uniform(0.25, 1))


def _ground(body: Body) -> NDArray[np.float32]:
    inside = body.cover > 0.5
    return as_float(body.albedo[inside].mean(0)) if inside.any() else as_float(body.albedo.mean((0, 1)))


def _new(
    rng: Rng, family: str, frame: Frame, signed: Plane, bevel: float | None = None, plain: float = 0.6
) -> Body:
    cover = frame.cover(signed)
    width = frame.radius * rng.uniform(0.03, 0.35) if bevel is None else bevel
    return Body(family, cover, _material(rng, plain), _bevel(cover, max(width, 1.5)), [])


def _paint(body: Body, cover: Plane, tone: NDArray[np.float32], step: float = 0.0) -> None:
    """Lay a colour on the body and raise or sink it by ``step`` pixels there."""
    body.albedo = mix(body.albedo, tone, cover)
    body.height = as_float(body.height + step * blur(cover, 0.7))


def _place(frame: Frame, part: Part, u: float, v: float, size: float, turn: float = 0.0) -> Part:
    x, y = frame.at(u, v)
    return replace(part, x=x, y=y, size=max(2.0, size * frame.radius), angle=frame.angle + turn)


def _label(rng: Rng, frame: Frame, body: Body, width: float, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Print: text, mostly, or a bar code; sometimes on a sticker of another colour."""
    u, v = frame.uv
    ground = _ground(body)
    if chance(rng, 0.3):
        sticker = frame.cover(box(as_float(u - at[0]), as_float(v - at[1]), 0.55 * width, 0.22 * width, 0.03))
        ground = near_colour(rng, ground, 40, 140)
        _paint(body, sticker, ground)
    ink = near_colour(rng, ground, 60, 180)
    if chance(rng, 0.75):
        _paint(body, text_cover(rng, frame, width * 0.9, at), ink)
    else:
        _paint(body, bars_cover(rng, frame, 0.4 * width, 0.14 * width, at), ink)


def bottle(rng: Rng, frame: Frame) -> Body:
    """The mouth of a bottle, a bearing, a lid: concentric rings, each with its own gloss around it."""
    u, v = frame.uv
    body = _new(rng, "bottle", frame, circle(u, v, 1.0), plain=0.9)
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    edges = np.sort(rng.uniform(0.2, 0.97, int(rng.integers(2, 7))))[::-1]
    tone = _ground(body)
    for edge in edges:
        tone = near_colour(rng, tone, 15, 110)
        shimmer = 1 + rng.uniform(0, 0.5) * np.cos(pick(rng, (1, 1, 2, 3)) * theta + rng.uniform(0, math.tau))
        ring = frame.cover(as_float(rho - edge))
        body.albedo = mix(body.albedo, as_float(tone * shimmer[..., None]), ring)
        body.height = as_float(body.height + rng.uniform(-3, 3) * blur(ring, 1.2))
    if chance(rng, 0.6):
        glow = rng.uniform(0.1, 0.9) * (1 - np.clip(rho / edges[-1], 0, 1) ** 2)
        body.albedo = as_float(body.albedo * (1 + pick(rng, (-1.0, 0.6)) * glow[..., None]))
    return body


def plate(rng: Rng, frame: Frame) -> Body:
    """A painted or metal plate, symmetric, with holes or screws in its corners and perhaps print."""
    u, v = frame.uv
    half = rng.uniform(0.35, 0.95)
    body = _new(rng, "plate", frame, box(u, v, 0.95, half, rng.uniform(0.01, 0.3)), rng.uniform(1.5, 6))
    ground = _ground(body)
    if chance(rng, 0.4):
        inset = frame.cover(box(u, v, 0.95 - 0.15, max(half - 0.15, 0.1), 0.05))
        _paint(body, inset, near_colour(rng, ground, 10, 60), rng.uniform(-3, 3))
    if chance(rng, 0.8):
        part = random_part(rng, ground, ("hole", "screw", "hex", "disc", "ring"))
        size, inset_by = rng.uniform(0.05, 0.12), rng.uniform(0.14, 0.22)
        du, dv = 0.95 - inset_by, half - min(inset_by, half * 0.4)
        for side_u in (-1, 1):
            for side_v in (-1, 1):
                body.parts.append(_place(frame, part, side_u * du, side_v * dv, size))
    if chance(rng, 0.45):
        _label(rng, frame, body, rng.uniform(0.4, 1))
    return body


def capsule(rng: Rng, frame: Frame) -> Body:
    """A capsule, vial, fuse or pen: a glossy cylinder with round ends, halves of two colours, print."""
    u, v = frame.uv
    half = rng.uniform(0.16, 0.45)
    body = _new(
        rng, "capsule", frame, box(u, v, 1.0, half, half * rng.uniform(0.3, 1)), half * frame.radius, 0.9
    )
    ground = _ground(body)
    if chance(rng, 0.7):
        joint = rng.uniform(-0.3, 0.3)
        second = near_colour(rng, ground, 30, 150)
        _paint(body, frame.cover(as_float(joint - u)), second, rng.uniform(0, 2))
        _paint(body, frame.cover(as_float(np.abs(u - joint) - 0.012)), as_float(second * 0.6))
    for _ in range(int(rng.integers(0, 3))):
        ring = np.abs(u - rng.uniform(-0.7, 0.7)) - rng.uniform(0.01, 0.08)
        _paint(body, frame.cover(as_float(ring)), near_colour(rng, ground, 20, 120))
    if chance(rng, 0.5):
        at = (float(rng.uniform(-0.4, 0.4)), 0.0)
        _paint(body, text_cover(rng, frame, rng.uniform(0.3, 0.8), at), near_colour(rng, ground, 60, 150))
    return body


def nut(rng: Rng, frame: Frame) -> Body:
    """A metal nut, knob, rosette or star: n-fold outline, hole in the middle, perhaps marks around it."""
    u, v = frame.uv
    count = int(rng.integers(3, 13))
    if chance(rng, 0.4):
        signed = polygon(u, v, count, 0.85)
    else:
        signed = lobes(u, v, count, rng.uniform(0.04, 0.2), pick(rng, (0.0, 0.0, 2.0, 8.0)))
    body = _new(rng, "nut", frame, signed, frame.radius * rng.uniform(0.03, 0.2), 0.5)
    ground = _ground(body)
    inner = rng.uniform(0.2, 0.5)
    rho = np.hypot(u, v)
    if chance(rng, 0.6):
        _paint(
            body,
            frame.cover(as_float(rho - inner * rng.uniform(1.15, 1.5))),
            near_colour(rng, ground, 8, 50),
            2.0,
        )
    if chance(rng, 0.5):
        part = random_part(rng, ground)
        body.parts = ring_of(
            replace(part, size=max(2.5, frame.radius * rng.uniform(0.05, 0.11))),
            (frame.x, frame.y),
            frame.radius * 0.68,
            count,
            frame.angle + math.pi / count * rng.integers(0, 2),
        )
    if chance(rng, 0.75):
        _paint(body, frame.cover(as_float(rho - inner)), as_float(ground * rng.uniform(0.05, 0.4)), -3.0)
    return body


def screw(rng: Rng, frame: Frame) -> Body:
    """A screw, bolt, shaft or needle seen from the side: head, shank, thread, point."""
    u, v = frame.uv
    shank, head = rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.42)
    neck = rng.uniform(-0.8, -0.55)
    tip = np.clip((1 - u) / rng.uniform(0.08, 0.5), 0, 1)
    pitch = rng.uniform(0.05, 0.13)
    thread = np.abs(np.mod(u / pitch + 0.25 * v / shank, 1) - 0.5) * 2
    start = rng.uniform(neck, 0.1)
    depth = np.where(u > start, rng.uniform(0.015, 0.05) * thread, 0)
    rod = np.maximum(np.abs(v) - (shank - depth) * tip, np.maximum(u - 1, neck - 0.05 - u))
    cap = box(as_float(u - neck + 0.1), v, 0.12, head, rng.uniform(0.01, 0.1))
    body = _new(rng, "screw", frame, as_float(np.minimum(rod, cap)), shank * frame.radius, 0.9)
    lines = np.where((u > start) & (np.abs(v) < shank), thread, 0.5)
    body.albedo = as_float(body.albedo * (0.75 + 0.5 * lines[..., None]))
    return body


def fruit(rng: Rng, frame: Frame) -> Body:
    """A hazelnut, bean, potato, stone, cookie: round and irregular, mottled, matt."""
    u, v = frame.uv
    v = as_float(v / rng.uniform(0.65, 1))
    signed = organic(rng, u, v, rng.uniform(0.02, 0.12), chance(rng, 0.4))
    body = _new(rng, "fruit", frame, signed, frame.radius * rng.uniform(0.4, 0.75), 0.3)
    base = np.array([rng.uniform(90, 215), rng.uniform(55, 160), rng.uniform(25, 100)], np.float32)
    if chance(rng, 0.8):
        mottle = rng.uniform(0.05, 0.2) * fractal(rng, rng.uniform(6, 30), 5)
        streak = rng.uniform(0, 0.12) * np.sin(rng.uniform(8, 26) * np.arctan2(v, u) + fractal(rng, 30, 2))
        body.albedo = as_float(np.clip(base * (1 + mottle + streak)[..., None], 0, 255))
    if chance(rng, 0.4):
        cap = circle(as_float(u - rng.uniform(0.2, 0.7)), v, rng.uniform(0.2, 0.45)) + 0.03 * fractal(
            rng, 15, 3
        )
        _paint(body, frame.cover(as_float(cap)), near_colour(rng, _ground(body), 20, 60))
    if chance(rng, 0.3):
        chips = fractal(rng, rng.uniform(8, 16), 1) - rng.uniform(1.3, 1.8)
        _paint(body, as_float(np.clip(chips * 4, 0, 1)), near_colour(rng, _ground(body), 30, 90), 1.0)
    return body


def tile(rng: Rng, frame: Frame) -> Body:
    """A tile, wafer, solar cell or piece of cloth: a square with a surface, often filling the picture."""
    if chance(rng, 0.5):
        frame = replace(frame, radius=frame.radius * 1.25)
    u, v = frame.uv
    body = _new(
        rng, "tile", frame, box(u, v, 0.92, 0.92 * rng.uniform(0.7, 1), 0.03), rng.uniform(1.5, 8), 0.15
    )
    if chance(rng, 0.3):
        count = int(rng.integers(1, 6))
        lines = np.abs(np.mod(u * count + 0.5, 1) - 0.5) / count - rng.uniform(0.005, 0.03)
        _paint(body, frame.cover(as_float(lines)), near_colour(rng, _ground(body), 30, 120))
    return body


def bracket(rng: Rng, frame: Frame) -> Body:
    """A stamped or moulded part, symmetric about its long axis, with pairs of features."""
    u, v = frame.uv
    body = _new(
        rng, "bracket", frame, organic(rng, u, v, rng.uniform(0.1, 0.3), True), rng.uniform(2, 14), 0.7
    )
    ground = _ground(body)
    for _ in range(int(rng.integers(1, 4))):
        part = random_part(rng, ground)
        along, aside = rng.uniform(-0.4, 0.4), rng.uniform(0.15, 0.4)
        size, turn = rng.uniform(0.06, 0.16), rng.uniform(0, math.tau)
        body.parts.append(_place(frame, part, along, aside, size, turn))
        body.parts.append(replace(_place(frame, part, along, -aside, size, -turn), mirrored=True))
    if chance(rng, 0.5):
        groove = np.abs(np.abs(v) - rng.uniform(0.02, 0.3)) - rng.uniform(0.01, 0.03)
        _paint(body, frame.cover(as_float(groove)), as_float(ground * 0.6), -1.5)
    return body


def flange(rng: Rng, frame: Frame) -> Body:
    """A flange, dial, wheel or filter: a disc with one or two circles of equal parts."""
    u, v = frame.uv
    body = _new(rng, "flange", frame, circle(u, v, 1.0), frame.radius * rng.uniform(0.02, 0.15))
    ground = _ground(body)
    rho = np.hypot(u, v)
    hub = rng.uniform(0.15, 0.4)
    _paint(body, frame.cover(as_float(rho - hub)), near_colour(rng, ground, 20, 110), rng.uniform(-3, 3))
    for radius in (rng.uniform(0.62, 0.82), rng.uniform(hub + 0.1, 0.55))[: int(rng.integers(1, 3))]:
        count = int(rng.integers(3, 17))
        size = frame.radius * min(rng.uniform(0.05, 0.16), 2.2 * radius / count)
        part = replace(random_part(rng, ground), size=max(2.5, size))
        body.parts += ring_of(
            part, (frame.x, frame.y), radius * frame.radius, count, rng.uniform(0, math.tau)
        )
    return body


def board(rng: Rng, frame: Frame) -> Body:
    """A circuit board, connector, keypad or blister pack: a plate with a regular grid of equal parts."""
    u, v = frame.uv
    half = rng.uniform(0.4, 0.9)
    body = _new(rng, "board", frame, box(u, v, 0.97, half, 0.04), rng.uniform(1.5, 5))
    ground = _ground(body)
    part = random_part(rng, ground)
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(1, 6))
    step_u, step_v = 1.7 / columns, (2 * half - 0.2) / rows
    size = min(step_u, step_v) * rng.uniform(0.25, 0.44)
    turn = pick(rng, (0.0, math.pi / 2, rng.uniform(0, math.tau)))
    for row in range(rows):
        for column in range(columns):
            at = ((column + 0.5) * step_u - 0.85, (row + 0.5) * step_v - half + 0.1)
            body.parts.append(_place(frame, part, *at, size, turn))
    if chance(rng, 0.3):
        lines = np.abs(np.mod(v / step_v + 0.5, 1) - 0.5) * step_v - rng.uniform(0.008, 0.02)
        _paint(body, frame.cover(as_float(lines)), near_colour(rng, ground, 20, 90))
    return body


def comb(rng: Rng, frame: Frame) -> Body:
    """A brush, comb, terminal or heat sink: a bar with a row of equal teeth."""
    u, v = frame.uv
    body = _new(rng, "comb", frame, box(u, as_float(v + 0.35), 0.98, 0.2, 0.05), rng.uniform(2, 10), 0.8)
    count = int(rng.integers(5, 19))
    step, long = 1.84 / count, rng.uniform(0.3, 0.55)
    part = random_part(rng, _ground(body), ("bar", "pad"))
    part = replace(
        part, aspect=float(rng.uniform(0.35, 0.75) * step / long) * (2 if part.shape == "bar" else 1)
    )
    for index in range(count):
        at = (index * step + step / 2 - 0.92, -0.2 + long)
        body.parts.append(_place(frame, part, *at, long, math.pi / 2))
    return body


def gear(rng: Rng, frame: Frame) -> Body:
    """A gear or crown: a disc with separate teeth around it and a hub."""
    u, v = frame.uv
    body = _new(rng, "gear", frame, circle(u, v, 0.82), frame.radius * rng.uniform(0.03, 0.15), 0.8)
    ground = _ground(body)
    count = int(rng.integers(6, 25))
    part = random_part(rng, ground, ("pad", "disc", "arrow"))
    size = frame.radius * min(0.16, 0.82 * math.pi / count * rng.uniform(0.5, 0.75))
    part = replace(part, face=as_float(ground * rng.uniform(0.8, 1.1)), size=max(2.5, size), aspect=0.8)
    body.parts = ring_of(part, (frame.x, frame.y), 0.86 * frame.radius, count, frame.angle)
    hub = frame.cover(as_float(np.hypot(u, v) - rng.uniform(0.12, 0.4)))
    _paint(body, hub, as_float(ground * rng.uniform(0.05, 0.7)), -2.0)
    return body


def cable(rng: Rng, frame: Frame) -> Body:
    """A cut cable, tube bundle or seed tray: a few large circles in one, each filled with small ones."""
    u, v = frame.uv
    body = _new(rng, "cable", frame, circle(u, v, 1.0), frame.radius * 0.04, 0.9)
    count = int(rng.integers(3, 8))
    inner = math.sin(math.pi / count) * 0.93 / (1 + math.sin(math.pi / count))
    metal = random_part(rng, _ground(body), ("disc", "ring", "hole"))
    dot = random_part(rng, metal.face, ("disc", "ring"))
    spin = float(rng.uniform(0, math.tau))
    wires = ring_of(
        replace(metal, size=inner * frame.radius),
        (frame.x, frame.y),
        0.95 * frame.radius - inner * frame.radius,
        count,
        spin,
    )
    strands = int(rng.integers(4, 9))
    for wire in wires:
        if chance(rng, 0.0 if frame.radius < 50 else 0.9):
            small = replace(dot, size=max(2.0, wire.size * 0.6 / strands * 2))
            body.parts += [wire, *ring_of(small, (wire.x, wire.y), wire.size * 0.5, strands, spin)]
        else:
            body.parts.append(wire)
    return body


def case(rng: Rng, frame: Frame) -> Body:
    """A box, battery or device front: rounded rectangle, panel, print, a few unlike parts."""
    u, v = frame.uv
    half = rng.uniform(0.35, 0.9)
    body = _new(rng, "case", frame, box(u, v, 0.95, half, rng.uniform(0.02, 0.2)), None, 0.9)
    ground = _ground(body)
    panel = box(
        as_float(u - rng.uniform(-0.3, 0.3)), v, rng.uniform(0.2, 0.55), half * rng.uniform(0.3, 0.7), 0.04
    )
    _paint(body, frame.cover(panel), near_colour(rng, ground, 20, 120), rng.uniform(-3, 3))
    _label(
        rng,
        frame,
        body,
        rng.uniform(0.4, 0.9),
        (float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.5, 0.5) * half)),
    )
    for _ in range(int(rng.integers(1, 5))):
        part = random_part(rng, ground)
        at = (float(rng.uniform(-0.75, 0.75)), float(rng.uniform(-0.75, 0.75) * half))
        body.parts.append(_place(frame, part, *at, rng.uniform(0.05, 0.14), pick(rng, (0.0, math.pi / 2))))
    return body


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
        bottle,
        plate,
        capsule,
        nut,
        screw,
        fruit,
        tile,
        bracket,
        flange,
        board,
        comb,
        gear,
        cable,
        case,
        tray,
    )
}
"""Every family of objects by its name."""


def build(rng: Rng, frame: Frame, light: float, family: str | None = None) -> Body:
    """An object of the named family, or of a random one, in the given frame."""
    body = FAMILIES[family or pick(rng, tuple(FAMILIES))](rng, frame)
    if body.family not in ("bottle", "case", "tray", "tile") and chance(rng, 0.2):
        _label(rng, frame, body, rng.uniform(0.25, 0.7), (0.0, float(rng.uniform(-0.3, 0.3))))
    return body
