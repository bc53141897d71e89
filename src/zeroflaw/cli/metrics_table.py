"""Rows of metrics as a table of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS = {
    "image_auroc": "I-AUROC",
    "image_aupr": "I-AUPR",
    "image_f1max": "I-F1max",
    "pixel_auroc": "P-AUROC",
    "pixel_pro": "PRO",
}


def metrics_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: rows, then the mean of each detector over categories, then all notes.

    A star marks what was computed on a part of the images only. Rows of domains stand before the row of their
    category and are not in the means.
    """
    from zeroflaw.lab.evaluation import summary_of

    whole = [row for row in rows if row["domain"] is None]
    lines = [_line(row) for row in rows] + [_mean(line) for line in summary_of(whole)]
    head = ["detector", "category", "corruption", "seed", "images"], list(COLUMNS.values())
    table = [left + cells for left, cells in (head, *lines)]
    if all(line[2] == "none" for line in table[1:]):  # nothing was corrupted: no column for it
        table = [[*line[:2], *line[3:]] for line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numbers = len(widths) - len(COLUMNS) - 2  # texts to the left, numbers to the right
    for line in table:
        cells = (
            f"{c:{'>' if k >= numbers else ''}{w}}" for k, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells)
    yield from _notes(rows)


def _line(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    from zeroflaw.lab.evaluation import is_partial

    star = "*" if is_partial(row, "pixel_auroc") else " "
    category = row["category"] if row["domain"] is None else f"{row['category']}/{row['domain']}"
    left = [row["detector"], category, row["corruption"], str(row["seed"]), f"{row['images']}{star}"]
    return left, [_cell(row[key]) for key in COLUMNS]


def _mean(line: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    cells = [_cell(line[key]["mean"], line[key]["std"]) for key in COLUMNS]
    seeds = f"{len(line['seeds'])} seed{'s' * (len(line['seeds']) > 1)}"
    star = "*" if line["incomplete"] or line["incomplete_pixels"] else " "
    return [line["detector"], "mean", line["corruption"], seeds, star], cells


def _cell(value: float | None, spread: float | None = None) -> str:
    text = "-" if value is None else f"{value:.3f}"
    return text if spread is None else f"{text}±{spread:.3f}"


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    from zeroflaw.lab.evaluation import is_partial, summary_of

    for note in dict.fromkeys(note for row in rows for note in row["notes"]):
        yield f"note: {note}"
    for row in rows:
        if row["error"] and row["domain"] is None:
            yield f"note: {row['detector']} failed on {row['category']}: {row['error']}"
    means = summary_of([row for row in rows if row["domain"] is None])
    lacking = any(line["incomplete"] or line["incomplete_pixels"] for line in means)
    if lacking or any(is_partial(row, "pixel_auroc") for row in rows):
        yield "* computed on a part of the images or categories only; see the notes"
