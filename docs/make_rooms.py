"""Draw ``docs/rooms.svg``: the rooms of the package and which imports which, out of the sources.

    python docs/make_rooms.py

A test draws it again and compares, so that the picture stays true. Imports for type checkers do not count,
nor does that of a prediction which shows itself in a notebook.
An arrow that follows from others (a imports b, b imports c, so a may import c) is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
# Modules at the top of the package that are one room together; any other package or module is one by itself.
TOGETHER = {
    "shifts": "corruptions",
    "errors": "foundation",
    "files": "foundation",
    "parameters": "foundation",
}
DRAWS_ITSELF = ("runtime", "report")
LEFT_OUT = {"__init__", "__main__", "_version"}  # public names, which are imported when they are first used
SAYS = {
    "cli": "one file a verb",
    "lab": "data sets, metrics, evaluation, benchmarks",
    "api": "load, detect",
    "sharing": "detectors to and from a hub",
    "serve": "HTTP, a page, a history",
    "scale": "very many images, into a table",
    "detectors": "fit: parameters in, a scorer out",
    "towers": "CLIP and MAE, weights, the bundled model",
    "report": "heat maps, a page",
    "runtime": "scorers, predictions, the stream of images",
    "words": "states, templates, prompts",
    "records": "what a labelled image is",
    "corruptions": "changes of light, lens and camera",
    "images": "finding and reading pictures",
    "foundation": "errors, files, parameters",
}
WIDTH, HEIGHT, GAP, ROW = 286, 54, 24, 108  # of a box, between boxes of a row, between rows


def rooms(package: Path) -> tuple[dict[str, set[str]], set[str]]:
    """Return the rooms that each room imports, and the rooms that import torch themselves."""
    found: dict[str, set[str]] = {}
    torch: set[str] = set()
    for path in sorted(package.rglob("*.py")):
        top = path.relative_to(package).parts[0].removesuffix(".py")
        if top in LEFT_OUT:
            continue
        room = TOGETHER.get(top, top)
        found.setdefault(room, set())
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            first, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if first == "torch":
                torch.add(room)
            elif first == "zeroflaw" and other and other not in LEFT_OUT and (room, other) != DRAWS_ITSELF:
                found[room].add(TOGETHER.get(other, other))
    # `from zeroflaw import load` names no module: what is no room is left out.
    return {
        room: {other for other in others if other in found} - {room} for room, others in found.items()
    }, torch


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names of what a module imports at run time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        else:
            yield from imported(node)


def reach(edges: Mapping[str, set[str]], room: str) -> set[str]:
    """Return every room that a room imports, directly or not."""
    found: set[str] = set()
    left = [*edges[room]]
    while left:
        other = left.pop()
        if other not in found:
            found.add(other)
            left += edges[other]
    return found


def depths(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """Return how many rooms lie below each, on the longest way down.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    circle = sorted(room for room in edges if room in reach(edges, room))
    if circle:
        raise ValueError(f"rooms import each other in a circle: {', '.join(circle)}")
    found: dict[str, int] = {}
    while len(found) < len(edges):
        for room, others in edges.items():
            if others <= found.keys():
                found[room] = 1 + max((found[other] for other in others), default=-1)
    return found


def chains(edges: Mapping[str, set[str]], depth: Mapping[str, int]) -> list[list[str]]:
    """Return the arrows to draw, each as the places it passes, one a row: its two rooms and gaps between."""
    found = []
    for room in sorted(edges):
        for other in sorted(edges[room]):
            if any(other in reach(edges, between) for between in edges[room] - {other}):
                continue
            gaps = [f"{room}>{other}>{level}" for level in range(depth[room] - 1, depth[other], -1)]
            found.append([room, *gaps, other])
    return found


def order(rows: list[list[str]], arrows: list[list[str]]) -> None:
    """Put the places of every row, from the top down, in an order in which few arrows cross."""
    links = [pair for arrow in arrows for pair in pairwise(arrow)]
    for _ in range(4):
        for upper, lower in [*pairwise(rows), *pairwise(rows[::-1])]:
            place = {name: (number + 0.5) / len(upper) for number, name in enumerate(upper)}
            near: dict[str, list[float]] = {name: [] for name in lower}
            for ends in links:
                for name, other in (ends, ends[::-1]):
                    if name in near and other in place:
                        near[name].append(place[other])
            lower.sort(key=lambda name: (fmean(near[name] or [0.5]), name))  # used at once


def draw(package: Path = ROOT / "src" / "zeroflaw") -> str:
    """Return the picture."""
    edges, torch = rooms(package)
    depth = depths(edges)
    arrows = chains(edges, depth)
    rows = [
        sorted(room for room in edges if depth[room] == level) for level in range(max(depth.values()), -1, -1)
    ]
    for arrow in arrows:
        for number, gap in enumerate(arrow[1:-1]):
            rows[len(rows) - depth[arrow[0]] + number].append(gap)
    order(rows, arrows)
    wide = {name: WIDTH if name in edges else GAP for row in rows for name in row}
    width = max(sum(wide[name] + GAP for name in row) + GAP for row in rows)
    height = len(rows) * ROW + 40
    at: dict[str, tuple[int, int]] = {}  # the middle of the upper edge
    for level, row in enumerate(rows):
        left = (width - sum(wide[name] + GAP for name in row) + GAP) // 2
        for name in row:
            at[name] = (left + wide[name] // 2, level * ROW + 24)
            left += wide[name] + GAP
    legend = "Arrows point to what is imported. Blue: imports torch, itself or through what it imports."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
            'font-family="sans-serif">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#667788"/></marker></defs>',
            *(_arrow([at[name] for name in arrow]) for arrow in arrows),
            *(_box(room, at[room], bool(({room} | reach(edges, room)) & torch)) for room in sorted(edges)),
            f'<text x="{GAP}" y="{height - 12}" font-size="13" fill="#334455">{legend}</text>',
            "</svg>\n",
        ]
    )


def _arrow(places: list[tuple[int, int]]) -> str:
    """A line from the foot of the first place through the gaps to the top of the last one."""
    path = f"M{places[0][0]} {places[0][1] + HEIGHT}"
    for (x, y), (to, end) in pairwise(places):
        bend = (end - y - HEIGHT) // 2
        path += f"V{y + HEIGHT}C{x} {y + HEIGHT + bend} {to} {end - bend} {to} {end}"
    return f'<path d="{path}" fill="none" stroke="#667788" stroke-width="1.5" marker-end="url(#tip)"/>'


def _box(room: str, place: tuple[int, int], torch: bool) -> str:
    x, y = place[0] - WIDTH // 2, place[1]
    fill, edge = ("#dbe9f6", "#2b6cb0") if torch else ("#f3efe2", "#8a7a3c")
    middle = place[0]
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="{edge}"/>'
        f'<text x="{middle}" y="{y + 23}" font-size="16" font-weight="bold" text-anchor="middle">'
        f"{room}</text>"
        f'<text x="{middle}" y="{y + 42}" font-size="12" text-anchor="middle" fill="#334455">'
        f"{SAYS.get(room, '')}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
