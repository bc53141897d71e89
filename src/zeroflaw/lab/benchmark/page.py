"""Pages that a person reads: what a benchmark found, and published numbers beside measured ones.

One HTML file each, with tables, plots and pictures in it; no network, no script.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import ndimage

from zeroflaw._version import __version__
from zeroflaw.errors import ZeroflawError
from zeroflaw.images import read_image
from zeroflaw.lab.benchmark import plots
from zeroflaw.lab.benchmark.plan import Unit
from zeroflaw.lab.benchmark.plots import Dots
from zeroflaw.lab.benchmark.reproduce import Comparison, Setting, remark, table_of
from zeroflaw.lab.benchmark.results import (
    VERDICT_NAMES,
    Note,
    Results,
    Table,
    category_tables,
    cell,
    mean_tables,
    metric_table,
    notes,
)
from zeroflaw.lab.evaluation.rows import Result, mean, writable
from zeroflaw.masks import open_mask
from zeroflaw.records import Record
from zeroflaw.report.drawing import jpeg, scaled

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_UP = "mean image AUROC"
_CLEAN = "Thresholds are those of clean images, or of the judged ones that are compared with one another."
_BUT = ", except of false alarms (lower) and hot : flawed area (near 1)"
_STARS = (
    "Bold is best. ± is the standard deviation between seeds. * computed on a part of the images, masks or "
    "categories only: see the notes."
)
_SCORES = (
    "Left: ROC curves. Right: how the scores of good (blue) and flawed (orange) images are spread. First "
    "seed of each detector, with its image AUROC."
)
_MOST_MISSES, _MOST_OF_ONE, _THUMBNAIL = 6, 2, 168
_Points = dict[str, list[tuple[float, float, float | None]]]  # by name: x, mean and its deviation


class Plot(NamedTuple):
    """A plot with what is to be known of it."""

    svg: Markup
    caption: str = ""


class Section(NamedTuple):
    """A part of the page."""

    title: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


class Miss(NamedTuple):
    """An image that a detector takes for the opposite, as a small JPEG in base64."""

    data: str
    place: str
    caption: str


def benchmark_page(found: Results, units: Sequence[Unit]) -> str:
    """Return the page of a benchmark; ``units`` say where its images lie."""
    tables = [metric_table(found), *mean_tables(found)]
    if len(found.lines()[1]) > 1:  # corruptions: their table goes first
        tables = [*tables[1:], tables[0]]
    odd = {
        f"of {len(found.whole)} results failed": sum(row.error is not None for row in found.whole),
        "results are of unreadable images": sum(row.is_lost for row in found.whole),
        "data sets or categories are missing": len(found.missing),
    }
    return _page(
        title=found.title,
        lead=f"{len(found.whole)} results, {sum(row.images for row in found.whole):,} judgements, zeroflaw "
        f"{__version__}. Higher is better{_BUT if found.there(VERDICT_NAMES) else ' everywhere'}.",
        warning=", ".join(f"{count} {what}" for what, count in odd.items() if count),
        chart=_means_chart(found) if found.whole and plots.are_possible() else None,
        table=tables[0],
        sections=[*_severities(found), *_sweeps(found)] if plots.are_possible() else [],
        misses=_misses(found, units),
        more=[
            *(Section(table.title, tables=[table]) for table in tables[1:]),
            Section("Each category", tables=list(category_tables(found))),
            *(_categories(found) if plots.are_possible() else []),
        ],
        notes=notes(found),
        legend=_STARS,
    )


def comparison_page(name: str, found: Sequence[Comparison], setting: Setting) -> str:
    """Return the page of a published table: differences of more than one percent point in colour."""
    reasons: dict[str, dict[str, None]] = {}
    for comparison in found:
        for reason in (comparison.reason or "").split("; "):
            reasons.setdefault(reason, {})[f"{comparison.method}, {comparison.data}"] = None
    reasons.pop("", None)
    measured = [comparison for comparison in found if comparison.measured is not None]
    return _page(
        title=f"{name}: published and measured",
        lead=f"{len(measured)} of {len(found)} numbers measured. {remark(name, setting)}",
        chart=_comparison_chart(measured) if measured and plots.are_possible() else None,
        table=table_of(measured),
        more=[Section(f"All {len(found)} numbers, and why some were not measured", tables=[table_of(found)])],
        notes=[Note(f"not measured: {reason}", tuple(mine)) for reason, mine in reasons.items()],
        legend="Figures in percent. The reports of the benchmark are in index.html.",
    )


def _page(**parts: Any) -> str:
    empty: dict[str, Any] = {"warning": "", "sections": [], "misses": {}, "more": []}
    without = "" if plots.are_possible() else f"There are no plots: {plots.MISSING}."
    return _TEMPLATES.get_template("page.html.j2").render({**empty, "without_plots": without, **parts})


# Plots


def _means_chart(found: Results) -> Plot:
    """Draw the mean image AUROC of every detector with its interval and its categories."""
    detectors, (first, *others), by = found.lines()
    rows = [row for row in found.whole if row.corruption == first]
    with_draws = all(row.image_auroc_interval for row in rows if row.image_auroc is not None)
    lines = []
    for name in detectors:
        mine = [row for row in rows if found.name(row) == name]
        parts = [
            mean(r.image_auroc for r in mine if r.place == place) for place in {r.place: 0 for r in mine}
        ]
        middle, half = by[name, first].means["image_auroc"] if (name, first) in by else (None, None)
        if with_draws:  # categories are independent; the width of a seed's interval is the mean of all
            widths = [(i[1] - i[0]) / 2 for row in mine if (i := row.image_auroc_interval)]
            half = float(np.sqrt(np.mean(np.square(widths)) / len(parts))) if widths else None
        other = mean(by[name, c].means["image_auroc"].mean for c in others if (name, c) in by)
        lines.append(Dots(name, middle, half, [part for part in parts if part is not None], other))
    clean = "clean images" if first == "none" else first
    said = f"Dots: mean over categories, {clean}; small dots: the categories"
    if with_draws or any(line.half for line in lines):
        bars = "95 % bootstrap intervals" if with_draws else "± standard deviation between seeds"
        said += f"; bars: {bars}"
    if others:
        shift = others[0] if len(others) == 1 else f"the other {len(others)} corruptions"
        said += f"; rings: mean under {shift}"
    return Plot(plots.dot_chart(lines, "image AUROC", "mean image AUROC by detector"), f"{said}.")


def _comparison_chart(measured: Sequence[Comparison]) -> Plot:
    metrics = {c.number.metric for c in measured}
    lines = [
        Dots(
            f"{c.method}: {c.data}{f', {c.number.metric}' if len(metrics) > 1 else ''}",
            c.measured,
            c.spread,
            other=c.number.value,
        )
        for c in measured
    ]
    across = f"{' and '.join(sorted(metrics)).replace('_', ' ')} in percent"
    bars = "; bars: ± standard deviation between seeds" if any(c.spread for c in measured) else ""
    return Plot(
        plots.dot_chart(lines, across, "published and measured"), f"Rings: published; dots: measured{bars}."
    )


def _severities(found: Results) -> Iterator[Section]:
    """One plot per corruption that was measured at two severities or more; severity 0 is the clean image.

    Where there are verdicts, false alarms stand at the right.
    """
    kinds = dict.fromkeys(line.corruption.partition(":")[0] for line in found.summary)
    up = {"image_auroc": _UP} | dict.fromkeys(found.there(["false_alarms"]), "mean false alarms")
    figures: dict[str, _Points] = {}
    across: dict[str, str] = {}
    for kind in kinds:
        drawn = {metric: _by_severity(found, kind, metric) for metric in up}
        if kind != "none" and max(map(len, drawn["image_auroc"].values()), default=0) > 2:
            figures |= {f"{kind} {metric}": lines for metric, lines in drawn.items()}
            across |= {f"{kind} {metric}": f"severity of {kind.replace('_', ' ')}" for metric in up}
    if figures:
        svg = plots.curves(figures, across, tuple(up.values()), "by severity")
        said = f" {_CLEAN}" if len(up) > 1 else ""
        yield Section("Severity", [Plot(svg, f"Severity 0 is the clean image.{said}")])


def _by_severity(found: Results, kind: str, metric: str) -> _Points:
    lines: _Points = {}
    for line in found.summary:
        name, _, severity = line.corruption.partition(":")
        middle, std = line.means[metric]
        if name in (kind, "none") and middle is not None:
            lines.setdefault(found.name(line), []).append((float(severity or 0), middle, std))
    return lines


def _sweeps(found: Results) -> Iterator[Section]:
    """One plot for each parameter; a line is of detectors that differ in nothing but that number."""
    specs = {writable(spec["label"]): spec for spec in (found.grid or {}).get("detectors", ())}
    groups: dict[str, _Points] = {}
    for line in found.summary:
        spec, (middle, std) = specs[line.detector], line.means["image_auroc"]
        same = {key: spec[key] for key in ("known_object", "calibrate", "auxiliary") if spec[key]}
        values = spec["parameters"] | ({"shots": spec["shots"]} if spec["shots"] else {})
        for key, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and middle is not None:
                rest = {k: v for k, v in values.items() if k != key} | same
                fixed = ", ".join([spec["name"], *(f"{k.replace('_', ' ')} {v}" for k, v in rest.items())])
                name = f"{found.name(line).replace(line.detector, fixed, 1)}, {line.corruption}"
                groups.setdefault(key, {}).setdefault(name, []).append((float(value), middle, std))
    for key, all_lines in groups.items():
        if lines := {name: points for name, points in all_lines.items() if len(points) > 2}:
            xs = [x for points in lines.values() for x, *_ in points]
            log = min(xs) > 0 and max(xs) / min(xs) >= 20
            yield Section(
                f"Sweep of {key}", [Plot(plots.curves({key: lines}, {key: key}, (_UP,), key, log=log))]
            )


def _categories(found: Results) -> Iterator[Section]:
    """ROC curves and histograms of every category, those of the first seed."""
    places: dict[str, dict[str, dict[str, Result]]] = {}
    for result in found.results:
        if result.scored:
            place = places.setdefault(f"{result.row.dataset} / {result.row.category}", {})
            place.setdefault(result.row.corruption, {}).setdefault(found.name(result.row), result)
    for name, corruptions in places.items():
        drawn = []
        for corruption, mine in corruptions.items():
            row = next(iter(mine.values())).row
            scored = {f"{name} {cell(r.row.image_auroc)}": _scores(r) for name, r in mine.items()}
            counts = f"{row.images - row.anomalous} good, {row.anomalous} flawed images"
            drawn.append(
                Plot(plots.scores_chart(scored, corruption), f"Corruption: {corruption}; {counts}. {_SCORES}")
            )
        yield Section(f"Curves and scores of {name}", drawn)


def _scores(result: Result) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    logits = np.array([logit for *_, logit in result.scored], dtype=np.float64)
    return logits, np.array([label for _, label, _ in result.scored], dtype=bool)


# Pictures


def _misses(found: Results, units: Sequence[Unit]) -> dict[bool, list[Miss]]:
    """Return the flawed images that the best detector ranks lowest, and the good ones it ranks highest."""
    _, corruptions, by = found.lines()
    means = {d: line.means["image_auroc"].mean or 0.0 for (d, c), line in by.items() if c == corruptions[0]}
    best = max(means, key=lambda name: means[name], default="")
    first = {
        (result.row.dataset, result.row.category): result
        for result in reversed(found.results)
        if found.name(result.row) == best and result.row.corruption == corruptions[0]
    }
    candidates: list[tuple[float, str, str, bool]] = []
    for (dataset, _), result in first.items():
        logits, flawed = _scores(result)
        for (image, _, logit), bad in zip(result.scored, flawed.tolist(), strict=True):
            others = logits[flawed != bad]
            wrong = np.mean(others > logit if bad else others < logit) if len(others) else 0.0
            candidates += [(-float(wrong), dataset, image, bad)] if wrong else []
    misses: dict[bool, list[Miss]] = {True: [], False: []}
    shown_of: Counter[tuple[bool, str]] = Counter()
    for wrong, dataset, image, bad in sorted(candidates):
        place = (bad, image.partition("/")[0])
        if shown_of[place] < _MOST_OF_ONE and len(misses[bad]) < _MOST_MISSES:
            record = _record(units, dataset, image)
            if record is not None and (data := _thumbnail(record)):
                shown_of[place] += 1
                others_are = "good images score higher" if bad else "flawed images score lower"
                misses[bad].append(Miss(data, image, f"{-wrong:.0%} of {others_are} ({best})"))
    return misses


def _record(units: Sequence[Unit], dataset: str, image: str) -> Record | None:
    mine = (unit.category.test for unit in units if writable(unit.category.dataset) == dataset)
    return next((record for test in mine for record in test if writable(record.key) == image), None)


def _thumbnail(record: Record) -> str:
    """Return a small JPEG in base64, the flaw outlined where a mask says where it is; empty if unreadable."""
    try:
        pixels = read_image(record.image)
        size = pixels.shape[0], pixels.shape[1]
        mask = None if record.mask is None else open_mask(record.mask, size, image=record.image).marked
    except ZeroflawError:
        return ""
    drawn = scaled(pixels, _THUMBNAIL).copy()
    if mask is not None:
        small = scaled(255 * mask.astype(np.uint8), _THUMBNAIL) > 127
        drawn[small & ~ndimage.binary_erosion(small, border_value=1)] = (255, 0, 255)
    return base64.b64encode(jpeg(drawn, quality=75)).decode("ascii")
