"""The history as a table: CSV that no spreadsheet takes for formulas, and Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zeroflaw.errors import needing
from zeroflaw.files import atomic
from zeroflaw.report.tables import VERDICTS, csv_line
from zeroflaw.serve.history import History
from zeroflaw.serve.records import Filter, Row

COLUMNS = (
    "id", "time", "detector", "source", "name", "verdict", "score", "logit", "threshold", "p_value",
    "regions", "largest_region_percent", "width", "height", "milliseconds", "label", "note", "corrected_at",
    "error", "digest", "fingerprint",
)  # fmt: skip
_WHOLE = {"id", "regions", "width", "height"}
_NUMBERS = {"score", "logit", "threshold", "p_value", "largest_region_percent", "milliseconds"}
_AT_ONCE = 1000


def pages(history: History, wanted: Filter) -> Iterator[list[Row]]:
    """Yield all rows that a filter lets through, page by page."""
    cursor = None
    while True:
        page = history.find(replace(wanted, cursor=cursor, limit=_AT_ONCE))
        yield page.rows
        if (cursor := page.next) is None:
            return


def values(row: Row) -> dict[str, Any]:
    """Return a row as values by `COLUMNS`."""
    known = row.regions
    more = {
        "verdict": VERDICTS[row.anomalous],
        "regions": None if known is None else len(known),
        "largest_region_percent": None if known is None else max((r["share"] for r in known), default=0.0),
    }
    return {name: more[name] if name in more else getattr(row, name) for name in COLUMNS}


def csv_lines(history: History, wanted: Filter) -> Iterator[str]:
    """Yield the history as CSV (RFC 4180) with a line of names, some lines at a time."""
    yield csv_line(COLUMNS)
    for rows in pages(history, wanted):
        yield "".join(csv_line(values(row).values()) for row in rows)


def write_parquet(history: History, wanted: Filter, path: Path) -> int:
    """Write the history as Parquet, and return the number of rows; memory does not grow with these.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    with needing("a history in Parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    kinds = {
        name: pa.int64() if name in _WHOLE else pa.float64() if name in _NUMBERS else pa.string()
        for name in COLUMNS
    }
    schema = pa.schema(list(kinds.items()))
    count = 0
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for rows in pages(history, wanted):
            writer.write_table(pa.Table.from_pylist([values(row) for row in rows], schema=schema))
            count += len(rows)
    return count
