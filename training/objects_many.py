"""Objects in which equal elements repeat, around a circle, in a row, in a grid or mirrored."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .bodies import Body, ground_of, lay, placed, shaped
from .noise import Rng, as_float, chance, near_colour, pick
from .parts import random_part, ring_of
from .shapes import Frame, box, circle, lobes, organic, polygon


def nut(rng: Rng, frame: Frame) -> Body:
    """A metal nut, knob, rosette or star: n-fold outline, hole in the middle, perhaps marks around it."""
    u, v = frame.uv
    count = int(rng.integers(3, 13))
    if chance(rng, 0.4):
        signed = polygon(u, v, count, 0.85)
    else:
        signed = lobes(u, v, count, rng.uniform(0.04, 0.2), pick(rng, (0.0, 0.0, 2.0, 8.0)))
    body = shaped(rng, "nut", frame, signed, frame.radius * rng.uniform(0.03, 0.2), 0.5)
    ground = ground_of(body)
    inner = rng.uniform(0.2, 0.5)
    rho = np.hypot(u, v)
    if chance(rng, 0.6):
        lay(
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
        lay(body, frame.cover(as_float(rho - inner)), as_float(ground * rng.uniform(0.05, 0.4)), -3.0)
    return body


def bracket(rng: Rng, frame: Frame) -> Body:
    """A stamped or moulded part, symmetric about its long axis, with pairs of features."""
    u, v = frame.uv
    body = shaped(
        rng, "bracket", frame, organic(rng, u, v, rng.uniform(0.1, 0.3), True), rng.uniform(2, 14), 0.7
    )
    ground = ground_of(body)
    for _ in range(int(rng.integers(1, 4))):
        part = random_part(rng, ground)
        along, aside = rng.uniform(-0.4, 0.4), rng.uniform(0.15, 0.4)
        size, turn = rng.uniform(0.06, 0.16), rng.uniform(0, math.tau)
        body.parts.append(placed(frame, part, along, aside, size, turn))
        body.parts.append(replace(placed(frame, part, along, -aside, size, -turn), mirrored=True))
    if chance(rng, 0.5):
        groove = np.abs(np.abs(v) - rng.uniform(0.02, 0.3)) - rng.uniform(0.01, 0.03)
        lay(body, frame.cover(as_float(groove)), as_float(ground * 0.6), -1.5)
    return body


def flange(rng: Rng, frame: Frame) -> Body:
    """A flange, dial, wheel or filter: a disc with one or two circles of equal parts."""
    u, v = frame.uv
    body = shaped(rng, "flange", frame, circle(u, v, 1.0), frame.radius * rng.uniform(0.02, 0.15))
    ground = ground_of(body)
    rho = np.hypot(u, v)
    hub = rng.uniform(0.15, 0.4)
    lay(body, frame.cover(as_float(rho - hub)), near_colour(rng, ground, 20, 110), rng.uniform(-3, 3))
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
    body = shaped(rng, "board", frame, box(u, v, 0.97, half, 0.04), rng.uniform(1.5, 5))
    ground = ground_of(body)
    part = random_part(rng, ground)
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(1, 6))
    step_u, step_v = 1.7 / columns, (2 * half - 0.2) / rows
    size = min(step_u, step_v) * rng.uniform(0.25, 0.44)
    turn = pick(rng, (0.0, math.pi / 2, rng.uniform(0, math.tau)))
    for row in range(rows):
        for column in range(columns):
            at = ((column + 0.5) * step_u - 0.85, (row + 0.5) * step_v - half + 0.1)
            body.parts.append(placed(frame, part, *at, size, turn))
    if chance(rng, 0.3):
        lines = np.abs(np.mod(v / step_v + 0.5, 1) - 0.5) * step_v - rng.uniform(0.008, 0.02)
        lay(body, frame.cover(as_float(lines)), near_colour(rng, ground, 20, 90))
    return body


def comb(rng: Rng, frame: Frame) -> Body:
    """A brush, comb, terminal or heat sink: a bar with a row of equal teeth."""
    u, v = frame.uv
    body = shaped(rng, "comb", frame, box(u, as_float(v + 0.35), 0.98, 0.2, 0.05), rng.uniform(2, 10), 0.8)
    count = int(rng.integers(5, 19))
    step, long = 1.84 / count, rng.uniform(0.3, 0.55)
    part = random_part(rng, ground_of(body), ("bar", "pad"))
    part = replace(
        part, aspect=float(rng.uniform(0.35, 0.75) * step / long) * (2 if part.shape == "bar" else 1)
    )
    for index in range(count):
        at = (index * step + step / 2 - 0.92, -0.2 + long)
        body.parts.append(placed(frame, part, *at, long, math.pi / 2))
    return body


def gear(rng: Rng, frame: Frame) -> Body:
    """A gear or crown: a disc with separate teeth around it and a hub."""
    u, v = frame.uv
    body = shaped(rng, "gear", frame, circle(u, v, 0.82), frame.radius * rng.uniform(0.03, 0.15), 0.8)
    ground = ground_of(body)
    count = int(rng.integers(6, 25))
    part = random_part(rng, ground, ("pad", "disc", "arrow"))
    size = frame.radius * min(0.16, 0.82 * math.pi / count * rng.uniform(0.5, 0.75))
    part = replace(part, face=as_float(ground * rng.uniform(0.8, 1.1)), size=max(2.5, size), aspect=0.8)
    body.parts = ring_of(part, (frame.x, frame.y), 0.86 * frame.radius, count, frame.angle)
    hub = frame.cover(as_float(np.hypot(u, v) - rng.uniform(0.12, 0.4)))
    lay(body, hub, as_float(ground * rng.uniform(0.05, 0.7)), -2.0)
    return body


def cable(rng: Rng, frame: Frame) -> Body:
    """A cut cable, tube bundle or seed tray: a few large circles in one, each filled with small ones."""
    u, v = frame.uv
    body = shaped(rng, "cable", frame, circle(u, v, 1.0), frame.radius * 0.04, 0.9)
    count = int(rng.integers(3, 8))
    inner = math.sin(math.pi / count) * 0.93 / (1 + math.sin(math.pi / count))
    metal = random_part(rng, ground_of(body), ("disc", "ring", "hole"))
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
