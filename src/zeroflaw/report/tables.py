"""Predictions as rows of a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zeroflaw.errors import needing
from zeroflaw.images import shown
from zeroflaw.runtime.prediction import Prediction

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = (
    "source", "verdict", "score", "logit", "threshold", "p_value",
    "regions", "largest_region_percent", "error",
)  # fmt: skip
VERDICTS = {None: None, False: "good", True: "flawed"}


def table_row(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as values by `COLUMNS`; regions are None where the map has no threshold."""
    known = prediction.map is not None and prediction.map_threshold is not None
    regions = prediction.regions() if known else None
    return {
        "source": prediction.source,
        "verdict": VERDICTS[prediction.label],
        "score": prediction.score,
        "logit": prediction.logit,
        "threshold": prediction.threshold,
        "p_value": prediction.p_value,
        "regions": None if regions is None else len(regions),
        "largest_region_percent": None if regions is None else max((r.share for r in regions), default=0.0),
        "error": None,
    }


def rows(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    """Return predictions as rows; see `table_row`."""
    return [table_row(prediction) for prediction in predictions]


def csv_line(values: Iterable[object]) -> str:
    """Return values as a line of CSV (RFC 4180), numbers with nine significant digits."""
    stream = io.StringIO()
    csv.writer(stream).writerow([_cell(value) for value in values])
    return stream.getvalue()


def csv_text(predictions: Iterable[Prediction]) -> str:
    """Return predictions as CSV with a line of names."""
    return csv_line(COLUMNS) + "".join(csv_line(table_row(p).values()) for p in predictions)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str):
        # A spreadsheet would take a name such as "=1+1.png" for a formula; "./" does not change the path.
        return shown(f"./{value}" if re.match(r"[=+@\t\r-]", value) else value)
    return value


def to_pandas(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """Return predictions as a table of pandas.

    Raises:
        UsageError: pandas is not installed.
    """
    with needing("a table of pandas"):
        import pandas as pd  # not needed by anything else
    return pd.DataFrame(rows(predictions), columns=list(COLUMNS))


def to_arrow(predictions: Iterable[Prediction]) -> pa.Table:
    """Return predictions as a table of Arrow.

    Raises:
        UsageError: pyarrow is not installed.
    """
    with needing("a table of Arrow"):
        import pyarrow as pa  # not needed by anything else
    text, number = pa.string(), pa.float64()
    kinds = (text, text, number, number, number, number, pa.int64(), number, text)
    return pa.Table.from_pylist(rows(predictions), schema=pa.schema(list(zip(COLUMNS, kinds, strict=True))))
