"""Tables of labels: comma-separated files with a header, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import brief, shown

_GOOD = frozenset({"0", "0.0", "false", "good", "normal", "ok"})
_DEFECTIVE = frozenset(
    {"1", "1.0", "true", "anomaly", "anomalous", "bad", "defect", "defective", "flawed", "ko", "ng"}
)


def read_table(
    path: Path, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each line and its values: those ``wanted``, then those ``optional``, stripped.

    Columns may come in any order among others, in upper or lower case; an optional one that is not there is
    empty. Lines without any value are passed over.

    Raises:
        DatasetError: the file cannot be read, is no text, lacks a wanted column, has one twice, or has a row
            that is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [title.strip() for title in next(rows, [])]
            places = _places(path, header, wanted, optional)
            least = max(place for place in places[: len(wanted)] if place is not None) + 1
            for row in rows:
                if len(row) >= least:
                    found = (row[at].strip() if at is not None and at < len(row) else "" for at in places)
                    yield rows.line_num, tuple(found)
                elif any(cell.strip() for cell in row):
                    raise DatasetError(
                        f"line {rows.line_num} of '{shown(path)}' should have at least {least} values "
                        f"but has {len(row)}; complete it"
                    )
    except FileNotFoundError as error:
        raise DatasetError(f"a table is wanted at '{shown(path)}', but there is none") from error
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"'{shown(path)}' should be a table of comma-separated values in UTF-8 but cannot be read "
            f"({brief(error)}); save it as one"
        ) from error


def columns(path: Path) -> list[str]:
    """Return the header of a table in lower case; empty where the file is no table that can be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [title.strip().casefold() for title in next(csv.reader(file), [])]
    except (OSError, csv.Error, UnicodeDecodeError):
        return []


def _places(
    path: Path, header: Sequence[str], wanted: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    folded = [title.casefold() for title in header]
    places: list[int | None] = []
    for title in (*wanted, *optional):
        number = folded.count(title.casefold())
        if number > 1 or (number == 0 and title in wanted):
            fault = "has more than one of that name" if number else f"has {_list(header)}"
            raise DatasetError(
                f"a column '{title}' is wanted in '{shown(path)}' (columns {', '.join(wanted)}), "
                f"but the table {fault}; correct its first line"
            )
        places.append(folded.index(title.casefold()) if number else None)
    return places


def _list(header: Sequence[str]) -> str:
    if not header:
        return "no first line"
    more = f" and {len(header) - 12} more" if len(header) > 12 else ""
    return "only " + ", ".join(f"'{shown(title)}'" for title in header[:12]) + more


def read_label(path: Path, line: int, value: str) -> int:
    """Return 0 for good, 1 for defective.

    Raises:
        DatasetError: the value is none of those known.
    """
    folded = value.casefold()
    if folded in _GOOD:
        return 0
    if folded in _DEFECTIVE:
        return 1
    raise DatasetError(
        f"a label is wanted in line {line} of '{shown(path)}': one of {', '.join(sorted(_GOOD))} for a good "
        f"image, {', '.join(sorted(_DEFECTIVE))} for a defective one; but it is '{shown(value)}': correct it"
    )


def contradiction(path: Path, line: int, name: str) -> DatasetError:
    """Return the error for an image of which two rows say different things."""
    return DatasetError(
        f"'{shown(path)}' should say one thing about '{shown(name)}', but line {line} says something else "
        "than an earlier one; correct one of them"
    )
