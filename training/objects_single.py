"""Objects that are mainly one form: lids, plates, capsules, screws, fruit, tiles, cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .bodies import Body, ground_of, label, lay, placed, shaped
from .noise import Rng, as_float, blur, chance, fractal, mix, near_colour, pick
from .parts import random_part
from .shapes import Frame, box, circle, organic, text_cover


def bottle(rng: Rng, frame: Frame) -> Body:
    """The mouth of a bottle, a bearing, a lid: concentric rings, each with its own gloss around it."""
    u, v = frame.uv
    body = shaped(rng, "bottle", frame, circle(u, v, 1.0), plain=0.9)
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    edges = np.sort(rng.uniform(0.2, 0.97, int(rng.integers(2, 7))))[::-1]
    tone = ground_of(body)
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
    body = shaped(rng, "plate", frame, box(u, v, 0.95, half, rng.uniform(0.01, 0.3)), rng.uniform(1.5, 6))
    ground = ground_of(body)
    if chance(rng, 0.4):
        inset = frame.cover(box(u, v, 0.95 - 0.15, max(half - 0.15, 0.1), 0.05))
        lay(body, inset, near_colour(rng, ground, 10, 60), rng.uniform(-3, 3))
    if chance(rng, 0.8):
        part = random_part(rng, ground, ("hole", "screw", "hex", "disc", "ring"))
        size, inset_by = rng.uniform(0.05, 0.12), rng.uniform(0.14, 0.22)
        du, dv = 0.95 - inset_by, half - min(inset_by, half * 0.4)
        for side_u in (-1, 1):
            for side_v in (-1, 1):
                body.parts.append(placed(frame, part, side_u * du, side_v * dv, size))
    if chance(rng, 0.45):
        label(rng, frame, body, rng.uniform(0.4, 1))
    return body


def capsule(rng: Rng, frame: Frame) -> Body:
    """A capsule, vial, fuse or pen: a glossy cylinder with round ends, halves of two colours, print."""
    u, v = frame.uv
    half = rng.uniform(0.16, 0.45)
    body = shaped(
        rng, "capsule", frame, box(u, v, 1.0, half, half * rng.uniform(0.3, 1)), half * frame.radius, 0.9
    )
    ground = ground_of(body)
    if chance(rng, 0.7):
        joint = rng.uniform(-0.3, 0.3)
        second = near_colour(rng, ground, 30, 150)
        lay(body, frame.cover(as_float(joint - u)), second, rng.uniform(0, 2))
        lay(body, frame.cover(as_float(np.abs(u - joint) - 0.012)), as_float(second * 0.6))
    for _ in range(int(rng.integers(0, 3))):
        ring = np.abs(u - rng.uniform(-0.7, 0.7)) - rng.uniform(0.01, 0.08)
        lay(body, frame.cover(as_float(ring)), near_colour(rng, ground, 20, 120))
    if chance(rng, 0.5):
        at = (float(rng.uniform(-0.4, 0.4)), 0.0)
        lay(body, text_cover(rng, frame, rng.uniform(0.3, 0.8), at), near_colour(rng, ground, 60, 150))
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
    body = shaped(rng, "screw", frame, as_float(np.minimum(rod, cap)), shank * frame.radius, 0.9)
    lines = np.where((u > start) & (np.abs(v) < shank), thread, 0.5)
    body.albedo = as_float(body.albedo * (0.75 + 0.5 * lines[..., None]))
    return body


def fruit(rng: Rng, frame: Frame) -> Body:
    """A hazelnut, bean, potato, stone, cookie: round and irregular, mottled, matt."""
    u, v = frame.uv
    v = as_float(v / rng.uniform(0.65, 1))
    signed = organic(rng, u, v, rng.uniform(0.02, 0.12), chance(rng, 0.4))
    body = shaped(rng, "fruit", frame, signed, frame.radius * rng.uniform(0.4, 0.75), 0.3)
    base = np.array([rng.uniform(90, 215), rng.uniform(55, 160), rng.uniform(25, 100)], np.float32)
    if chance(rng, 0.8):
        mottle = rng.uniform(0.05, 0.2) * fractal(rng, rng.uniform(6, 30), 5)
        streak = rng.uniform(0, 0.12) * np.sin(rng.uniform(8, 26) * np.arctan2(v, u) + fractal(rng, 30, 2))
        body.albedo = as_float(np.clip(base * (1 + mottle + streak)[..., None], 0, 255))
    if chance(rng, 0.4):
        cap = circle(as_float(u - rng.uniform(0.2, 0.7)), v, rng.uniform(0.2, 0.45)) + 0.03 * fractal(
            rng, 15, 3
        )
        lay(body, frame.cover(as_float(cap)), near_colour(rng, ground_of(body), 20, 60))
    if chance(rng, 0.3):
        chips = fractal(rng, rng.uniform(8, 16), 1) - rng.uniform(1.3, 1.8)
        lay(body, as_float(np.clip(chips * 4, 0, 1)), near_colour(rng, ground_of(body), 30, 90), 1.0)
    return body


def tile(rng: Rng, frame: Frame) -> Body:
    """A tile, wafer, solar cell or piece of cloth: a square with a surface, often filling the picture."""
    if chance(rng, 0.5):
        frame = replace(frame, radius=frame.radius * 1.25)
    u, v = frame.uv
    body = shaped(
        rng, "tile", frame, box(u, v, 0.92, 0.92 * rng.uniform(0.7, 1), 0.03), rng.uniform(1.5, 8), 0.15
    )
    if chance(rng, 0.3):
        count = int(rng.integers(1, 6))
        lines = np.abs(np.mod(u * count + 0.5, 1) - 0.5) / count - rng.uniform(0.005, 0.03)
        lay(body, frame.cover(as_float(lines)), near_colour(rng, ground_of(body), 30, 120))
    return body


def case(rng: Rng, frame: Frame) -> Body:
    """A box, battery or device front: rounded rectangle, panel, print, a few unlike parts."""
    u, v = frame.uv
    half = rng.uniform(0.35, 0.9)
    body = shaped(rng, "case", frame, box(u, v, 0.95, half, rng.uniform(0.02, 0.2)), None, 0.9)
    ground = ground_of(body)
    panel = box(
        as_float(u - rng.uniform(-0.3, 0.3)), v, rng.uniform(0.2, 0.55), half * rng.uniform(0.3, 0.7), 0.04
    )
    lay(body, frame.cover(panel), near_colour(rng, ground, 20, 120), rng.uniform(-3, 3))
    label(
        rng,
        frame,
        body,
        rng.uniform(0.4, 0.9),
        (float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.5, 0.5) * half)),
    )
    for _ in range(int(rng.integers(1, 5))):
        part = random_part(rng, ground)
        at = (float(rng.uniform(-0.75, 0.75)), float(rng.uniform(-0.75, 0.75) * half))
        body.parts.append(placed(frame, part, *at, rng.uniform(0.05, 0.14), pick(rng, (0.0, math.pi / 2))))
    return body
