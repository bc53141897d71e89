"""Plots of benchmark pages, as SVG to be set into HTML: text stays text, colours are those of the page.

matplotlib comes with the extra ``lab``; without it there are no plots.
"""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from zeroflaw.lab.metrics import curve_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "plots need matplotlib, which is not installed; pip install 'zeroflaw[lab]' and run it again"

# Stand-ins for colours of the page, light or dark: the style sheet says what they are.
_INK, _FAINT, _ACCENT, _GOOD, _FLAWED, _SOFT = (f"#0101{number:02x}" for number in range(1, 7))
_SERIES = tuple(f"#0a0a{number:02x}" for number in range(7))
_COLOURS = {_INK: "ink", _FAINT: "faint", _ACCENT: "accent", _GOOD: "good", _FLAWED: "flawed", _SOFT: "soft"}
_COLOURS |= {colour: f"s{number}" for number, colour in enumerate(_SERIES)}
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLE = Path(__file__).with_suffix(".mplstyle")
_MOST_POINTS = 200  # of a ROC curve
_BINS = 24

# By name: x, mean, and deviation between seeds.
Lines = Mapping[str, Sequence[tuple[float, float, float | None]]]
Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]  # log-odds of images, and whether they are flawed


def are_possible() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


class Dots(NamedTuple):
    """A line of a dot chart: a mean, half its interval, what it is the mean of, and a second mean."""

    name: str
    mean: float | None
    half: float | None = None
    parts: Sequence[float] = ()
    other: float | None = None


def dot_chart(lines: Sequence[Dots], across: str, title: str) -> Markup:
    """Draw means by name: small dots are what they are means of, rings the other mean."""
    figure, (axes,) = _figure(1, 7.4, 0.3 * len(lines) + 0.75)
    for row, line in enumerate(lines):
        if line.mean is not None and line.other is not None:
            axes.plot([line.other, line.mean], [row, row], color=_FAINT, linewidth=1.2)
        if line.mean is not None and line.half is not None:
            ends = [line.mean - line.half, line.mean + line.half]
            axes.plot(ends, [row, row], color=_ACCENT, linewidth=2.2, solid_capstyle="round")
        if line.other is not None:
            axes.plot([line.other], [row], "o", markersize=7, color=_ACCENT, markerfacecolor="none")
        if line.mean is not None:
            axes.plot([line.mean], [row], "o", markersize=8, color=_ACCENT, markeredgewidth=0)
        axes.plot(line.parts, [row] * len(line.parts), "o", color=_SOFT, markersize=3.5, markeredgewidth=0)
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlabel(across)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return _svg(figure, title)


def curves(
    plots: Mapping[str, Lines],
    across: Mapping[str, str],
    up: Sequence[str],
    title: str,
    *,
    log: bool = False,
) -> Markup:
    """Draw a plot for each of ``plots``, with one colour for each name in all of them.

    ``up`` says what is drawn: one thing, on one scale, or two that take turns, each on a scale of its own.
    """
    names = list(dict.fromkeys(name for lines in plots.values() for name in lines))
    # Names are below one another: in columns long ones would be cut off.
    height = 2.5 * -(-len(plots) // 2) + 0.19 * len(names) + 0.3
    figure, all_axes = _figure(len(plots), 7.4, height, share="all" if len(up) == 1 else "col")
    handles: dict[str, Any] = {}
    for number, (axes, (kind, lines)) in enumerate(zip(all_axes, plots.items(), strict=True)):
        for name, points in lines.items():
            x, y, spread = zip(*sorted(points), strict=True)
            bars, look = [value or 0.0 for value in spread], _look(names.index(name))
            handles[name] = axes.errorbar(x, y, bars, marker="o", markersize=4, elinewidth=1, **look)
        ticks = sorted({x for points in lines.values() for x, *_ in points})
        if log:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(across[kind])
        if number % 2 < len(up):
            axes.set_ylabel(up[number % 2])
    shown = [handles[name] for name in names]
    figure.legend(shown, names, loc="outside lower left", frameon=False, labelcolor=_INK)
    return _svg(figure, title)


def scores_chart(scored: Mapping[str, Scores], title: str) -> Markup:
    """Draw ROC curves, and for each name how the scores of good and flawed images are spread.

    Each is on a scale of its own, from its lowest to its highest score.
    """
    figure, (left, right) = _figure(2, 7.4, max(2.7, 0.34 * len(scored) + 0.8))
    for number, (name, (logits, flawed)) in enumerate(scored.items()):
        if 0 < flawed.sum() < len(flawed):
            curve = curve_of(flawed, logits)
            count = len(curve.tp)
            kept = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(int))
            rates = [np.append(0, part[kept] / part[-1]) for part in (curve.fp, curve.tp)]
            left.plot(*rates, label=name, **_look(number))
        low, high = logits.min(), logits.max()
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
        for part, colour in ((logits[~flawed], _GOOD), (logits[flawed], _FLAWED)):
            share = np.histogram(part, edges)[0] / max(len(part), 1)
            height, at = number - 0.85 * share / max(share.max(), 1e-9), np.linspace(0, 1, _BINS + 1)
            right.stairs(height, at, baseline=number, color=colour, fill=True, alpha=0.55)
        right.axhline(number, color=_FAINT, linewidth=0.5)
    ends = (-0.01, 1.01)
    left.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=ends, ylim=ends)
    right.set(
        xlabel="score, from each detector's lowest to its highest", ylim=(len(scored) - 0.9, -1), xticks=[]
    )
    right.set_yticks(range(len(scored)), list(scored))
    right.grid(visible=False)
    for number, label in enumerate(right.get_yticklabels()):
        label.set_color(_look(number)["color"])
    return _svg(figure, title)


def _look(number: int) -> dict[str, Any]:
    dash = _DASHES[number // len(_SERIES) % len(_DASHES)]
    return {"color": _SERIES[number % len(_SERIES)], "linestyle": dash, "linewidth": 1.6}


def _figure(
    plots: int, width: float, height: float, *, share: Literal["none", "all", "col"] = "none"
) -> tuple[Figure, list[Axes]]:
    from matplotlib import style  # an extra, and slow to import: only where something is drawn
    from matplotlib.figure import Figure

    with style.context(_STYLE):
        columns = min(plots, 2)
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(-(-plots // columns), columns, sharey=share, squeeze=False)
        for spare in grid.flat[plots:]:
            spare.remove()
        return figure, list(grid.flat[:plots])


def _svg(figure: Figure, title: str) -> Markup:
    """Return the figure to be set into HTML: without what belongs to a file, with a name."""
    from matplotlib import style  # see `_figure`

    stream = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style.context(_STYLE), warnings.catch_warnings():
        # A letter that matplotlib's font lacks, the reader's has.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(stream, format="svg", metadata=none)
    text = stream.getvalue().partition("<svg ")[2]
    for colour, name in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r'<metadata>.*?</metadata>| id="[A-Za-z]+_[\d_]+"|<!--.*?-->', "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    return Markup(f'<svg role="img" aria-label="{escape(title)}" {text}')
