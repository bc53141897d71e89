"""What a benchmark found, as CSV and as Markdown tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zeroflaw.images import shown
from zeroflaw.lab.evaluation import METRICS, is_incomplete, is_partial

NAMES = {
    "image_auroc": "Image AUROC",
    "image_aupr": "Image AUPR (step)",
    "image_f1max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_pro": "PRO (to FPR 0.3)",
}
FACTS = ("dataset", "category", "domain", "corruption", "detector", "backbone", "object", "seed")
COUNTS = ("images", "anomalous", "unreadable", "without_mask", "missing")


class MeanTable(NamedTuple):
    """A table of means: its metric and title, its head, and its rows by name.

    Cells are lines of the summary, None where nothing was measured.
    """

    metric: str
    title: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Mapping[str, Any] | None]]]


def csv_of(content: Mapping[str, Any]) -> str:
    """Return all rows as CSV, one a line; undefined metrics are empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = (*FACTS, *COUNTS, *METRICS, "image_auroc_low", "image_auroc_high", "error", "notes")
    writer.writerow(columns)
    for row in content["rows"]:
        low, high = row["image_auroc_interval"] or (None, None)
        more = {"image_auroc_low": low, "image_auroc_high": high, "notes": " | ".join(row["notes"])}
        values = {**row, **more}
        writer.writerow([_csv_cell(values[name]) for name in columns])
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    """Return a cell: nothing for None, and no text that a spreadsheet would take for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def markdown_of(content: Mapping[str, Any]) -> str:
    """Return the tables: means of detectors under each corruption, then every category, then all notes."""
    parts = [f"# {plain(content['title'])}", _counts(content), *_means(content), *_categories(content)]
    parts += list(_remarks(content))
    return "\n\n".join(parts) + "\n"


def name_of(line: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Return a detector's name, with its backbone where the benchmark has several."""
    several = len({row["backbone"] for row in content["rows"]}) > 1
    return f"{line['detector']} ({line['backbone']})" if several else str(line["detector"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(plain(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def plain(text: str) -> str:
    """Return text for Markdown: one line, in which nothing is taken for HTML."""
    return " ".join(shown(text.replace("\n", " ")).split()).replace("\\", "\\\\").replace("<", "\\<")


def cell(value: float | None, spread: float | None = None, *, star: bool = False) -> str:
    """Return a figure with three decimals; a star says that something is missing from it."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if spread is None else f"{value:.3f} ± {spread:.3f}"
    return f"{text}*" if star else text


def _counts(content: Mapping[str, Any]) -> str:
    rows = [row for row in content["rows"] if row["domain"] is None]
    failed = sum(row["error"] is not None for row in rows)
    text = f"{len(rows)} results, zeroflaw {content['zeroflaw']}."
    text += f" {failed} failed; see below." if failed else ""
    text += f" **{content['open']} are not there yet.**" if content["open"] else ""
    return text


def mean_tables(content: Mapping[str, Any]) -> Iterator[MeanTable]:
    """Yield a table for each metric that has a value, detectors by corruptions; the longer list goes down."""
    lines = content["summary"]
    corruptions = list(dict.fromkeys(line["corruption"] for line in lines))
    detectors = list(dict.fromkeys(name_of(line, content) for line in lines))
    by = {(name_of(line, content), line["corruption"]): line for line in lines}
    if len(corruptions) > len(detectors):
        head = ("corruption", *detectors)
        rows = [(c, [by.get((d, c)) for d in detectors]) for c in corruptions]
    else:
        head = ("detector", *corruptions)
        rows = [(d, [by.get((d, c)) for c in corruptions]) for d in detectors]
    for metric, title in NAMES.items():
        if any(line[metric]["mean"] is not None for line in lines):
            yield MeanTable(metric, f"{title}, mean over categories", head, rows)


def _means(content: Mapping[str, Any]) -> Iterator[str]:
    for found in mean_tables(content):
        rows = [[name, *(mean_cell(line, found.metric) for line in lines)] for name, lines in found.rows]
        yield f"## {found.title}\n\n" + table(found.head, rows)


def mean_cell(line: Mapping[str, Any] | None, metric: str) -> str:
    """Return mean and deviation out of a line of the summary, a dash where there is none."""
    if line is None:
        return "–"
    return cell(line[metric]["mean"], line[metric]["std"], star=is_incomplete(line, metric))


def _categories(content: Mapping[str, Any]) -> Iterator[str]:
    """One table per metric and corruption: categories and domains down, detectors across, mean over seeds."""
    rows = content["rows"]
    detectors = list(dict.fromkeys(name_of(row, content) for row in rows))
    for corruption in dict.fromkeys(row["corruption"] for row in rows):
        for metric in ("image_auroc", "pixel_auroc"):
            mine = [row for row in rows if row["corruption"] == corruption]
            if all(row[metric] is None for row in mine):
                continue
            places = list(dict.fromkeys(_place(row) for row in mine))
            lines = [[place, *_cells(mine, place, detectors, metric, content)] for place in places]
            head = f"## {NAMES[metric]} of each category, corruption: {corruption}"
            yield f"{head}\n\n" + table(["category", *detectors], lines)


def _place(row: Mapping[str, Any]) -> str:
    parts = (row["dataset"], row["category"], row["domain"])
    return " / ".join(part for part in parts if part is not None)


def _cells(
    rows: Sequence[Mapping[str, Any]],
    place: str,
    detectors: Sequence[str],
    metric: str,
    content: Mapping[str, Any],
) -> Iterator[str]:
    for detector in detectors:
        found = [row for row in rows if _place(row) == place and name_of(row, content) == detector]
        values = [row[metric] for row in found if row[metric] is not None]
        partial = any(is_partial(row, metric) for row in found)
        if found and all(row["error"] for row in found):
            yield "failed"
        else:
            yield cell(sum(values) / len(values) if values else None, star=partial)


def _remarks(content: Mapping[str, Any]) -> Iterator[str]:
    lines = [f"- missing: {missing['root']}: {missing['reason']}" for missing in content["missing"]]
    whole = [row for row in content["rows"] if row["domain"] is None]
    for error in dict.fromkeys(row["error"] for row in whole if row["error"]):
        mine = [row for row in whole if row["error"] == error]
        where = ", ".join(dict.fromkeys(_place(row) for row in mine))
        who = ", ".join(dict.fromkeys(name_of(row, content) for row in mine))
        lines.append(f"- failed: {who} on {where}: {error}")
    lines += [f"- {note}" for note in dict.fromkeys(note for row in content["rows"] for note in row["notes"])]
    if lines:
        head = "## Notes\n\n\\* computed on a part of the images, masks or categories only.\n\n"
        yield head + "\n".join(map(plain, lines))
