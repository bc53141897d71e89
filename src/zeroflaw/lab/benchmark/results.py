"""What was measured, and its files: metrics.json, metrics.csv, table.md; and the table for a terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from zeroflaw._version import __version__
from zeroflaw.files import write_bytes
from zeroflaw.lab.benchmark.plan import Missing
from zeroflaw.lab.evaluation.rows import (
    SCHEMA,
    VERDICTS,
    Result,
    Row,
    Summary,
    mean,
    mean_of,
    summary_of,
    writable,
)

NAMES = {  # short and long
    "image_auroc": ("I-AUROC", "Image AUROC"),
    "image_aupr": ("I-AUPR", "Image AUPR (step)"),
    "image_f1max": ("I-F1max", "Image F1-max"),
    "pixel_auroc": ("P-AUROC", "Pixel AUROC"),
    "pixel_pro": ("PRO", "PRO (to FPR 0.3)"),
}
VERDICT_NAMES = {
    "false_alarms": ("false alarms", "False alarms"),
    "recall": ("recall", "Recall"),
    "map_false_alarms": ("map false alarms", "Good images with a hot place"),
    "iou": ("IoU", "IoU of hot places and masks"),
    "hot_area_ratio": ("hot : flawed", "Hot area : flawed area"),
}
"""Short and long names of figures that only detectors with a threshold have; none is good by itself."""
_ALL_NAMES = NAMES | VERDICT_NAMES
_ONLY_WITH_VERDICTS = (*VERDICTS, "threshold_logit", "threshold_rule")
_MOST_PLACES = 4  # that a note names; of others it gives the number


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        words: how many columns at the left hold words; the others hold figures.
        remark: the last column holds words, too.
        marks: cells (row, column) that stand out, and how: ``best``, ``better`` or ``worse``.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    remark: bool = False
    marks: Mapping[tuple[int, int], str] = MappingProxyType({})

    def longer_down(self) -> Table:
        """Return the table with rows for columns where it has more columns than rows; one column of words."""
        if len(self.head) - 1 <= len(self.rows):
            return self
        names, *columns = zip(*self.rows, strict=True)
        rows = [[name, *cells] for name, cells in zip(self.head[1:], columns, strict=True)]
        marks = {(column - 1, row + 1): mark for (row, column), mark in self.marks.items()}
        return Table(self.title, ["", *names], rows, marks=marks)

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        return column < self.words or (self.remark and column == len(self.head) - 1)

    def text(self) -> list[str]:
        """Return lines for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        signs = ["<" if self.is_text(column) else ">" for column in range(len(widths))]
        return [
            "  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, signs, widths, strict=True)).rstrip()
            for line in (self.head, *self.rows)
        ]

    def markdown(self) -> str:
        """Return a Markdown table under its title; texts are escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [[plain(cell).replace("|", "\\|") for cell in line] for line in lines]
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        return f"## {plain(self.title)}\n\n{table}" if self.title else table


class Note(NamedTuple):
    """Something that must be known, said once, and the places that it is about."""

    text: str
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.places:
            return self.text
        named, more = self.places[:_MOST_PLACES], len(self.places) - _MOST_PLACES
        count = f"{len(self.places)} places: " if len(self.places) > 1 else ""
        return f"{self.text} ({count}{', '.join(named)}{f' and {more} more' if more > 0 else ''})"


@dataclass(frozen=True)
class Results:
    """The results of a grid in its order.

    Attributes:
        grid: what was asked for, as JSON values.
        missing: data sets and categories that are not there.
    """

    results: Sequence[Result]
    title: str = ""
    grid: Mapping[str, Any] | None = None
    missing: Sequence[Missing] = ()

    @cached_property
    def rows(self) -> list[Row]:
        """All rows; those of domains go before the row of their category."""
        return [row for result in self.results for row in (*result.domains, result.row)]

    @property
    def with_means(self) -> Iterator[Row]:
        """All rows, the mean of domains before the pooled row of a category."""
        for row in self.rows:
            if row.mean_of_domains is not None:
                yield row.model_copy(
                    update={**row.mean_of_domains, "domain": "mean of domains", "mean_of_domains": None}
                )
            yield row

    @cached_property
    def whole(self) -> list[Row]:
        """The rows of whole categories."""
        return [result.row for result in self.results]

    @cached_property
    def summary(self) -> list[Summary]:
        """Means over categories by detector, backbone and corruption."""
        return summary_of(self.results, incomplete=bool(self.missing))

    def there(self, metrics: Iterable[str]) -> list[str]:
        """Return those of the metrics that have a mean."""
        return [m for m in metrics if any(line.means[m].mean is not None for line in self.summary)]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing, has failed, or could not be read at all."""
        return not self.missing and not any(row.error or row.is_lost for row in self.whole)

    def name(self, line: Row | Summary) -> str:
        """Return a detector's name, with its backbone where there are several."""
        several = len({row.backbone for row in self.whole}) > 1
        return f"{line.detector} ({line.backbone})" if several else line.detector

    def lines(self) -> tuple[list[str], list[str], dict[tuple[str, str], Summary]]:
        """Return the names of detectors, the corruptions, and the summaries by both."""
        by = {(self.name(line), line.corruption): line for line in self.summary}
        return list(dict.fromkeys(d for d, _ in by)), list(dict.fromkeys(c for _, c in by)), by

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; nothing in them depends on when or in how many goes the grid ran."""
        one = len({(row.detector, row.corruption) for row in self.whole}) == 1
        found = {
            "schema": SCHEMA,
            "zeroflaw": __version__,
            "rows": [row.model_dump() for row in self.rows],
            # A mean over different detectors would be one of nothing; each has its own in the summary.
            "mean": mean_of(self.whole) if one else None,
            "summary": [line.to_dict() for line in self.summary],
        }
        missing = [missing._asdict() for missing in self.missing]
        more = {"title": self.title, "grid": self.grid, "missing": missing}
        return found if self.grid is None else found | more


def cell(value: float | None, spread: float | None = None, *, star: bool = False) -> str:
    """Return a figure with three decimals; a star says that something is missing from it."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if spread is None else f"{value:.3f} ± {spread:.3f}"
    return f"{text}*" if star else text


def plain(text: str) -> str:
    """Return text for Markdown: one line, in which nothing is taken for HTML, a link or code."""
    line = " ".join(writable(text.replace("\n", " ")).split())
    return "".join(f"\\{c}" if c in "\\<[]`" else c for c in line)


# Tables


def listing(found: Results) -> Table:
    """Return a line for each row and then for each mean; a star marks what lacks images or masks."""
    lines: list[list[str]] = []
    names = NAMES | {key: VERDICT_NAMES[key] for key in found.there(("false_alarms", "recall"))}
    for row in found.with_means:
        star = "*" if row.is_partial("pixel_auroc") else " "
        facts = [row.detector, row.place, row.corruption, str(row.seed), f"{row.images}{star}"]
        lines.append([*facts, *(cell(row.metric(key)) for key in names)])
    for line in found.summary:
        seeds = f"{len(line.seeds)} seed{'s' * (len(line.seeds) > 1)}"
        star = "*" if line.incomplete or line.incomplete_pixels else " "
        facts = [line.detector, "mean", line.corruption, seeds, star]
        lines.append([*facts, *(cell(*line.means[key]) for key in names)])
    head = ["detector", "category", "corruption", "seed", "images", *(name for name, _ in names.values())]
    if any(line[2] != "none" for line in lines):
        return Table("", head, lines, 3)
    return Table("", [*head[:2], *head[3:]], [[*line[:2], *line[3:]] for line in lines], 2)


def mean_tables(found: Results) -> Iterator[Table]:
    """Yield a table for each metric that has a value: means over categories, detectors by corruptions."""
    for metric in found.there(_ALL_NAMES):
        columns = {corruption: (corruption, metric) for corruption in found.lines()[1]}
        yield _means(found, f"{_ALL_NAMES[metric][1]}, mean over categories", columns).longer_down()


def metric_table(found: Results) -> Table:
    """Return the means of all metrics that have a value, detectors by metrics, under the first corruption."""
    first = found.lines()[1][:1]
    columns = {_ALL_NAMES[m][1]: (c, m) for c in first for m in found.there(_ALL_NAMES)}
    return _means(found, "Mean over categories", columns)


def _means(found: Results, title: str, columns: Mapping[str, tuple[str, str]]) -> Table:
    """Return a table of means; a column is of a corruption and a metric."""
    detectors, _, by = found.lines()
    rows = [[name] for name in detectors]
    marks: dict[tuple[int, int], str] = {}
    for column, (corruption, metric) in enumerate(columns.values(), 1):
        lines = [by.get((name, corruption)) for name in detectors]
        for row, line in zip(rows, lines, strict=True):
            row.append("–" if line is None else cell(*line.means[metric], star=line.is_incomplete(metric)))
        means = [None if line is None else line.means[metric].mean for line in lines]
        highest = max((mean for mean in means if mean is not None), default=None)
        if highest is not None and metric not in VERDICT_NAMES:
            marks |= {(row, column): "best" for row, mean in enumerate(means) if mean == highest}
    return Table(title, ["detector", *columns], rows, marks=marks)


def category_tables(found: Results) -> Iterator[Table]:
    """Yield a table per metric and corruption: places down, detectors across, means over seeds."""
    detectors = list(dict.fromkeys(map(found.name, found.whole)))
    for corruption in found.lines()[1]:
        mine = [row for row in found.with_means if row.corruption == corruption]
        places: dict[str, dict[str, list[Row]]] = {}
        for row in mine:
            place = f"{row.dataset} / {row.place}"
            places.setdefault(place, {}).setdefault(found.name(row), []).append(row)
        for metric in ("image_auroc", "pixel_auroc", "false_alarms", "recall"):
            if any(row.metric(metric) is not None for row in mine):
                title = f"{_ALL_NAMES[metric][1]} of each category, corruption: {corruption}"
                rows = [
                    [place, *(_over_seeds(by.get(name, []), metric) for name in detectors)]
                    for place, by in places.items()
                ]
                yield Table(title, ["category", *detectors], rows)


def _over_seeds(rows: Sequence[Row], metric: str) -> str:
    if rows and all(row.error for row in rows):
        return "failed"
    return cell(mean(row.metric(metric) for row in rows), star=any(row.is_partial(metric) for row in rows))


def notes(found: Results) -> list[Note]:
    """Return what must be known of the figures, each thing once with the places that it is about."""
    places: dict[str, dict[str, None]] = {}
    for row in found.rows:
        for note in row.notes:
            text, where = note, row.place
            if note.startswith("left out"):  # left out, WHY: IMAGE: REASON
                what, where, reason = note.split(": ", 2)
                text = f"{what}: {reason}"
            # Of a problem that names its own place, no place is told beside it.
            places.setdefault(text, {}).update({} if text.startswith(row.category) else {where: None})
        if row.error and row.domain is None:
            places.setdefault(f"failed: {found.name(row)}: {row.error}", {})[row.category] = None
    listed = [Note(f"missing: {missing.root}: {missing.reason}") for missing in found.missing]
    return listed + [Note(text, tuple(mine)) for text, mine in places.items()]


# Files


def write_results(found: Results, folder: Path) -> None:
    """Write metrics.json, metrics.csv and table.md, each whole or not at all."""
    write_whole(folder / "metrics.json", json_of(found.to_dict()))
    write_whole(folder / "metrics.csv", csv_of(found))
    write_whole(folder / "table.md", markdown_of(found))


def write_whole(path: Path, text: str) -> None:
    """Write text as UTF-8; of names that are not UTF-8 the odd bytes appear as escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def json_of(content: Mapping[str, Any]) -> str:
    """Return indented JSON without NaN or infinity."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def csv_of(found: Results) -> str:
    """Return all rows as CSV, one a line, the means of domains among them; undefined metrics are empty."""
    stream = io.StringIO()
    left_out = {"error", "notes", "mean_of_domains"}
    left_out |= {name for name in _ONLY_WITH_VERDICTS if all(getattr(r, name) is None for r in found.rows)}
    columns = [name for name in Row.model_fields if name not in left_out]
    at = columns.index("image_auroc_interval")
    columns[at : at + 1] = ["image_auroc_low", "image_auroc_high"]
    writer = csv.DictWriter(stream, [*columns, "error", "notes"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in found.with_means:
        low, high = row.image_auroc_interval or (None, None)
        values = {**row.model_dump(), "image_auroc_low": low, "image_auroc_high": high}
        values["notes"] = " | ".join(row.notes)
        writer.writerow({name: _csv_cell(value) for name, value in values.items()})
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    """Return a cell: no text that a spreadsheet would take for a formula."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else value


def markdown_of(found: Results) -> str:
    """Return the tables: means of detectors under each corruption, then every category, then all notes."""
    failed = sum(row.error is not None for row in found.whole)
    count = f"{len(found.whole)} results, zeroflaw {__version__}."
    parts = [f"# {plain(found.title)}", f"{count} {failed} failed; see below." if failed else count]
    parts += [table.markdown() for table in (*mean_tables(found), *category_tables(found))]
    if listed := notes(found):
        star = "\\* computed on a part of the images, masks or categories only."
        parts.append("\n".join([f"## Notes\n\n{star}\n", *(f"- {plain(str(note))}" for note in listed)]))
    return "\n\n".join(parts) + "\n"
