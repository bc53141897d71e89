"""Writing what a benchmark found: metrics.json, metrics.csv, table.md and index.html."""

from __future__ import annotations

from typing import Any

from zeroflaw.files import write_json, write_text
from zeroflaw.lab.benchmark.content import content_of, results_of
from zeroflaw.lab.benchmark.page import page_of
from zeroflaw.lab.benchmark.plan import Plan
from zeroflaw.lab.benchmark.store import Store
from zeroflaw.lab.benchmark.tables import csv_of, markdown_of


def write_report(plan: Plan, store: Store) -> dict[str, Any]:
    """Write all reports of what is there, each file whole or not at all, and return their content."""
    content = content_of(plan, store)
    write_json(store.folder / "metrics.json", content)
    write_text(store.folder / "metrics.csv", csv_of(content))
    write_text(store.folder / "table.md", markdown_of(content))
    write_text(store.folder / "index.html", page_of(content, list(results_of(plan, store))))
    return content
