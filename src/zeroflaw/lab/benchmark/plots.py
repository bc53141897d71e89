"""Plots as SVG text: curves and histograms, drawn without a library so that the page stands alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# Okabe and Ito's colours, told apart by colour-blind readers too; lines beyond them are dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
DASHES = ("", "6 3", "2 2", "8 3 2 3")

Point = tuple[float, float]


def tag(name: str, inside: str = "", **attributes: object) -> str:
    """Return an element of SVG; underscores in attribute names are hyphens, numbers have one decimal."""
    shown = {
        key.rstrip("_").replace("_", "-"): f"{value:.1f}" if isinstance(value, float) else escape(str(value))
        for key, value in attributes.items()
    }
    listed = "".join(f' {key}="{value}"' for key, value in shown.items())
    return f"<{name}{listed}>{inside}</{name}>" if inside else f"<{name}{listed}/>"


@dataclass(frozen=True)
class Series:
    """A line of a plot: its name, points, and half the height of a bar at each point (or none)."""

    name: str
    points: Sequence[Point]
    bars: Sequence[float | None] = ()


@dataclass(frozen=True)
class Axis:
    """A scale: its name, range, and the values that are written."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, 0 to 1."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return 0.5 if high == low else (at - low) / (high - low)


@dataclass(frozen=True)
class Frame:
    """The area of a plot in pixels."""

    x: Axis
    y: Axis
    width: int = 420
    height: int = 280

    left, right, top, bottom = 66, 26, 10, 42

    def at(self, point: Point) -> Point:
        """Return the pixel of a point."""
        across = self.width - self.left - self.right
        down = self.height - self.top - self.bottom
        return self.left + self.x.place(point[0]) * across, self.top + (1 - self.y.place(point[1])) * down

    def svg(self, inside: Iterator[str], title: str) -> str:
        """Return the whole picture, its axes around what is drawn inside."""
        body = "".join([*self._grid(), *inside])
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-label="{escape(title)}">{body}</svg>'
        )

    def _grid(self) -> Iterator[str]:
        x0, y0 = self.at((self.x.low, self.y.low))
        x1, y1 = self.at((self.x.high, self.y.high))
        for tick in self.x.ticks:
            x, _ = self.at((tick, self.y.low))
            yield tag("line", class_="grid", x1=x, y1=y0, x2=x, y2=y1)
            yield tag("text", _short(tick), x=x, y=y0 + 17, text_anchor="middle")
        for tick in self.y.ticks:
            _, y = self.at((self.x.low, tick))
            yield tag("line", class_="grid", x1=x0, y1=y, x2=x1, y2=y)
            yield tag("text", _short(tick), x=x0 - 6, y=y + 4, text_anchor="end")
        middle, turn = (y0 + y1) / 2, f"rotate(-90 12 {(y0 + y1) / 2:.1f})"
        yield tag("text", escape(self.x.name), x=(x0 + x1) / 2, y=self.height - 8, text_anchor="middle")
        yield tag("text", escape(self.y.name), x=12, y=middle, text_anchor="middle", transform=turn)


def style(number: int) -> tuple[str, str]:
    """Return colour and dashes of a line by its number."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def legend(names: Sequence[str]) -> str:
    """Return the legend of a plot whose lines have these names, in this order."""
    items = []
    for number, name in enumerate(names):
        colour, dash = style(number)
        line = tag("line", x1=0, y1=6, x2=26, y2=6, stroke=colour, stroke_width=2, stroke_dasharray=dash)
        sample = tag("svg", line, width=28, height=12, aria_hidden="true")
        items.append(f"<span>{sample} {escape(name)}</span>")
    return f'<p class="legend">{"".join(items)}</p>'


def curves(series: Sequence[Series], x: Axis, y: Axis, title: str, *, dots: bool = True) -> str:
    """Draw lines, with dots and bars at their points where wanted."""
    frame, y_axis = Frame(x, y), y

    def inside() -> Iterator[str]:
        for number, line in enumerate(series):
            colour, dash = style(number)
            path = " ".join("{:.1f},{:.1f}".format(*frame.at(point)) for point in line.points)
            look: dict[str, Any] = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": dash}
            yield tag("polyline", points=path, fill="none", **look)
            for point, bar in zip(line.points, line.bars or [None] * len(line.points), strict=True):
                x, y = frame.at(point)
                if dots:
                    tip = tag("title", escape(f"{line.name}: {_short(point[0])}, {point[1]:.3f}"))
                    yield tag("circle", tip, cx=x, cy=y, r=3, fill=colour)
                if bar:
                    ends = max(point[1] - bar, y_axis.low), min(point[1] + bar, y_axis.high)
                    low, high = (frame.at((point[0], end))[1] for end in ends)
                    yield tag("line", x1=x, y1=low, x2=x, y2=high, stroke=colour)

    return frame.svg(inside(), title)


def histogram(normal: Sequence[float], anomalous: Sequence[float], title: str, bins: int = 24) -> str:
    """Draw how log-odds of good and of flawed images are spread, each as a share of its own kind."""
    values = [*normal, *anomalous]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    shares = [_shares(group, low, high, bins) for group in (normal, anomalous)]
    top = max(max(part) for part in shares) or 1.0
    x = Axis("log-odds of the score", low, high, nice_ticks(low, high))
    frame = Frame(x, Axis("share of images", 0, top, nice_ticks(0, top)))
    step = (high - low) / bins

    def inside() -> Iterator[str]:
        for colour, part in zip((COLOURS[0], COLOURS[1]), shares, strict=True):
            for number, share in enumerate(part):
                a, b = frame.at((low + number * step, share))
                c, d = frame.at((low + (number + 1) * step, 0))
                look: dict[str, Any] = {"fill": colour, "fill_opacity": "0.55"}
                yield tag("rect", x=a, y=b, width=max(c - a - 1, 1.0), height=d - b, **look)

    return frame.svg(inside(), title)


def _shares(values: Sequence[float], low: float, high: float, bins: int) -> list[float]:
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    return [count / max(len(values), 1) for count in counts]


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most ``most`` round values between ``low`` and ``high``."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(
        power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most - 1 or factor == 10
    )
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:g}"
