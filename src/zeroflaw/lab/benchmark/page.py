"""What a benchmark found, as one HTML page with tables and plots; it needs no network and no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from zeroflaw.lab.benchmark.plots import COLOURS, Axis, Series, curves, histogram, legend, nice_ticks
from zeroflaw.lab.benchmark.store import Result
from zeroflaw.lab.benchmark.tables import cell, mean_cell, mean_tables, name_of
from zeroflaw.lab.metrics import image_auroc

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th, td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
td.best { font-weight: 700; }
.text { text-align: left; }
td.words { white-space: normal; min-width: 20rem; }
td.worse { color: #b33; }
td.better { color: #283; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top; }
figcaption { font-size: 13px; max-width: 26rem; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: #888; stroke-opacity: .4; stroke-width: .7; }
.legend span { margin-right: 1.2rem; white-space: nowrap; }
details { margin: .4rem 0; background: var(--soft); padding: .4rem .8rem; }
summary { cursor: pointer; }
.note { color: #a40; }
@media (prefers-color-scheme: dark) { .note, td.worse { color: #fa6; } td.better { color: #7d8; } }
"""

_MORE = ("known_object", "shots", "auxiliary")  # what detectors differ in beside parameters
_Points = Mapping[str, Sequence[tuple[float, float, float | None]]]  # x, mean and deviation by name
_MOST_HISTOGRAMS = 8  # of one category; more would bury the page


def page_of(content: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Return the page.

    Args:
        content: see `zeroflaw.lab.benchmark.content.content_of`.
        results: with the score of every image, for the curves.
    """
    parts = [*_head(content), *_means(content), *_severities(content), *_sweeps(content)]
    parts += [*_categories(content, results), *_notes(content)]
    return document(content["title"], parts)


def document(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of HTML around its parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _head(content: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in content["rows"] if row["domain"] is None]
    yield f"<h1>{escape(content['title'])}</h1>"
    yield (
        f"<p>{len(rows)} results, zeroflaw {escape(content['zeroflaw'])}. Higher is better everywhere. A "
        "star marks figures from which images, masks or categories are missing; ± is the standard deviation "
        "between seeds.</p>"
    )
    if content["open"]:
        yield f'<p class="note">{content["open"]} results are not there yet; run the same command again.</p>'
    if any(row["error"] for row in rows) or content["missing"]:
        yield '<p class="note">Something is missing or failed: see the notes at the end.</p>'


def _means(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of means; the best figure under each corruption stands out."""
    for found in mean_tables(content):
        best: dict[str, float] = {}
        for line in content["summary"]:
            best[line["corruption"]] = max(best.get(line["corruption"], 0.0), _value(line, found.metric))
        rows = []
        for name, lines in found.rows:
            stands_out = [line and _value(line, found.metric) == best[line["corruption"]] for line in lines]
            texts = [mean_cell(line, found.metric) for line in lines]
            rows.append((name, list(zip(texts, map(bool, stands_out), strict=True))))
        yield f"<h2>{found.title}</h2>" + _table(found.head, rows)


def _value(line: Mapping[str, Any], metric: str) -> float:
    mean = line[metric]["mean"]
    return -1.0 if mean is None else float(mean)


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, bool]]]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td{' class=best' if best else ''}>{escape(text)}</td>" for text, best in cells)
        + "</tr>"
        for name, cells in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _severities(content: Mapping[str, Any]) -> Iterator[str]:
    """One plot per corruption that was measured at two severities or more; severity 0 is the clean image."""
    lines = content["summary"]
    kinds = dict.fromkeys(line["corruption"].partition(":")[0] for line in lines)
    figures = []
    for kind in kinds:
        points: dict[str, list[tuple[float, float, float | None]]] = {}
        for line in lines:
            name, _, severity = line["corruption"].partition(":")
            mean = line["image_auroc"]["mean"]
            if name in (kind, "none") and kind != "none" and mean is not None:
                at = points.setdefault(name_of(line, content), [])
                at.append((float(severity or 0), mean, line["image_auroc"]["std"]))
        if max((len(at) for at in points.values()), default=0) > 2:
            figures.append((kind, points))
    if figures:
        yield "<h2>Severity</h2>"
        names = list(dict.fromkeys(name for _, points in figures for name in points))
        yield legend(names)
        y = _heights([points for _, points in figures])  # one scale: figures are compared with each other
        for kind, points in figures:
            ordered = {name: points.get(name, []) for name in names}  # one colour each in all figures
            yield _figure(kind, ordered, "severity of " + kind.replace("_", " "), y, logarithmic=False)


def _heights(figures: Sequence[_Points]) -> Axis:
    """Return the scale that holds all means with their bars."""
    ends = [
        y + sign * (bar or 0)
        for points in figures
        for at in points.values()
        for _, y, bar in at
        for sign in (-1, 1)
    ]
    low, high = math.floor(max(min(ends), 0) * 20) / 20, math.ceil(min(max(ends), 1) * 20) / 20
    return Axis("mean image AUROC", low, max(high, low + 0.05), nice_ticks(low, max(high, low + 0.05)))


def _figure(title: str, points: _Points, across: str, y: Axis, *, logarithmic: bool) -> str:
    series = [
        Series(name, [(x, y) for x, y, _ in at], [bar for _, _, bar in at])
        for name, unsorted in points.items()
        for at in [sorted(unsorted, key=lambda point: point[0])]
    ]
    xs = sorted({x for line in series for x, _ in line.points})
    x = Axis(across, xs[0], xs[-1], xs, logarithmic)
    return f"<figure>{curves(series, x, y, title)}</figure>"


def _sweeps(content: Mapping[str, Any]) -> Iterator[str]:
    """One plot for each parameter; a line is of detectors that differ in nothing but that number."""
    groups: dict[str, dict[str, list[tuple[float, float, float | None]]]] = {}
    specs = content["grid"]["detectors"]
    for line in content["summary"]:
        spec = next(s for s in specs if s["label"] == line["detector"])
        mean, spread = line["image_auroc"]["mean"], line["image_auroc"]["std"]
        for swept in _swept(spec, specs) if mean is not None else ():
            detector = {**line, "detector": ", ".join(_fixed(spec, swept, specs))}
            name = f"{name_of(detector, content)}, {line['corruption']}"
            point = (float(spec["parameters"][swept]), mean, spread)
            groups.setdefault(swept, {}).setdefault(name, []).append(point)
    for parameter, points in groups.items():
        xs = [x for at in points.values() for x, _, _ in at]
        yield f"<h2>Sweep of {escape(parameter)}</h2>" + legend(list(points))
        logarithmic = min(xs) > 0 and max(xs) / min(xs) >= 20
        yield _figure(parameter, points, parameter, _heights([points]), logarithmic=logarithmic)


def _swept(spec: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the numeric parameters of which three or more values are there, all else being equal."""
    keys = []
    for key, value in spec["parameters"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        alike = [
            other
            for other in specs
            if key in other["parameters"]
            and {**other["parameters"], key: value} == spec["parameters"]
            and all(other[name] == spec[name] for name in ("name", *_MORE))
        ]
        if len(alike) > 2:
            keys.append(str(key))
    return keys


def _fixed(spec: Mapping[str, Any], swept: str, specs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what is fixed along a sweep and differs between sweeps."""
    alike = [s for s in specs if s["name"] == spec["name"] and swept in s["parameters"]]
    yield spec["name"]
    for key in dict.fromkeys(key for other in alike for key in other["parameters"] if key != swept):
        if len({str(other["parameters"].get(key)) for other in alike}) > 1:
            yield f"{key} {spec['parameters'].get(key, 'default')}"
    for key in _MORE:
        if len({other[key] for other in alike}) > 1:
            yield f"{key.replace('_', ' ')} {str(spec[key]).lower()}"


def _categories(content: Mapping[str, Any], results: Sequence[Result]) -> Iterator[str]:
    """ROC curves and histograms of every category, those of the first seed."""
    if results:
        yield "<h2>Categories</h2><p>ROC curves and scores of the first seed of each detector.</p>"
    places: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        row = result["row"]
        if row["error"] is None:
            places.setdefault((row["dataset"], row["category"], row["corruption"]), []).append(result)
    for (dataset, category, corruption), mine in places.items():
        first: dict[str, Result] = {}
        for result in mine:
            first.setdefault(name_of(result["row"], content), result)
        row = mine[0]["row"]
        count = f"{row['images'] - row['anomalous']} good, {row['anomalous']} flawed"
        shown = f"{escape(dataset)} / {escape(category)}, {escape(corruption)} ({count})"
        yield f"<details><summary>{shown}</summary>{''.join(_plots(first, content))}</details>"


def _plots(first: Mapping[str, Result], content: Mapping[str, Any]) -> Iterator[str]:
    lines = [Series(_with_auroc(name, result), roc(result["scored"])) for name, result in first.items()]
    lines = [line for line in lines if line.points]
    if lines:
        ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
        x, y = Axis("false-positive rate", 0, 1, ticks), Axis("true-positive rate", 0, 1, ticks)
        yield legend([line.name for line in lines])
        picture = curves(lines, x, y, "ROC curves", dots=False)
        yield f"<figure>{picture}<figcaption>ROC curves</figcaption></figure>"
    for name, result in list(first.items())[:_MOST_HISTOGRAMS]:
        good = [logit for _, label, logit in result["scored"] if label == 0]
        bad = [logit for _, label, logit in result["scored"] if label == 1]
        key = f'<b style="color:{COLOURS[0]}">good</b> and <b style="color:{COLOURS[1]}">flawed</b>'
        picture = histogram(good, bad, f"scores by {name}")
        yield f"<figure>{picture}<figcaption>{escape(name)}: {key} images</figcaption></figure>"
    if (more := len(first) - _MOST_HISTOGRAMS) > 0:
        yield f"<p>Histograms of {more} more detectors are left out.</p>"


def _with_auroc(name: str, result: Result) -> str:
    return f"{name} {cell(result['row']['image_auroc'])}"


def roc(scored: Sequence[tuple[str, int, float]]) -> list[tuple[float, float]]:
    """Return the points of the ROC curve from (0, 0) to (1, 1); empty where a kind of image is missing."""
    labels = [label for _, label, _ in scored]
    if image_auroc(labels, [logit for *_, logit in scored]).value is None:
        return []
    ordered = sorted(((logit, label) for _, label, logit in scored), reverse=True)
    bad, good = sum(labels), len(labels) - sum(labels)
    points, hits, alarms = [(0.0, 0.0)], 0, 0
    for number, (logit, label) in enumerate(ordered):
        hits, alarms = hits + label, alarms + 1 - label
        if number + 1 == len(ordered) or ordered[number + 1][0] != logit:  # ties are one step
            points.append((alarms / good, hits / bad))
    return points


def _notes(content: Mapping[str, Any]) -> Iterator[str]:
    lines = [f"missing: {missing['root']}: {missing['reason']}" for missing in content["missing"]]
    errors: dict[str, set[str]] = {}
    for row in content["rows"]:
        if row["error"] and row["domain"] is None:
            errors.setdefault(row["error"], set()).add(f"{name_of(row, content)} on {row['category']}")
    lines += [f"failed: {', '.join(sorted(where))}: {error}" for error, where in errors.items()]
    lines += list(dict.fromkeys(note for row in content["rows"] for note in row["notes"]))
    if lines:
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        yield f"<h2>Notes</h2><ul>{items}</ul>"
