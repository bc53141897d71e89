"""Published numbers beside measured ones, as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from zeroflaw.lab.benchmark.page import document
from zeroflaw.lab.benchmark.reproduce import HEAD, Comparison, Setting, cells_of, remark

NEAR = 1.0  # percent points; figures that differ by less are taken for equal


def comparison_page(name: str, found: Sequence[Comparison], setting: Setting) -> str:
    """Return the page: a row for each number, differences of more than `NEAR` in colour."""
    texts = {0, 1, 2, len(HEAD) - 1}  # columns of words; the others are numbers
    head = "".join(
        f"<th{' class=text' if number in texts else ''}>{escape(title)}</th>"
        for number, title in enumerate(HEAD)
    )
    body = "".join(_row(comparison) for comparison in found)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    title = f"{name}: published and measured"
    note = f'<p>{escape(remark(name, setting))} The reports are in <a href="index.html">index.html</a>.</p>'
    return document(title, [f"<h1>{escape(title)}</h1>", note, f'<div class="wide">{table}</div>'])


def _row(comparison: Comparison) -> str:
    method, data, metric, *figures, difference, remarked = map(escape, cells_of(comparison))
    words = "".join(f'<td class="text">{cell}</td>' for cell in (method, data, metric))
    plain = "".join(f"<td>{cell}</td>" for cell in figures)
    looks = f' class="{side}"' if (side := side_of(comparison)) else ""
    return f'<tr>{words}{plain}<td{looks}>{difference}</td><td class="text words">{remarked}</td></tr>'


def side_of(comparison: Comparison) -> str | None:
    """Return "better" or "worse", or None where figures are about equal or nothing was measured."""
    difference = comparison.difference
    if difference is None or abs(difference) < NEAR:
        return None
    return "better" if difference > 0 else "worse"
