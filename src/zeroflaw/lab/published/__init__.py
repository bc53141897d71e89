"""Published numbers, to be put beside measured ones: ``numbers.toml``, with the source of each.

A number is quoted as printed, in percent. What is only remembered is marked ``recalled`` and must not be
quoted as published.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from zeroflaw.errors import UsageError, closest
from zeroflaw.toml_file import read_toml

__all__ = ["STATUSES", "PublishedNumber", "dataset_titles", "method_titles", "numbers", "published"]

Status = Literal["published", "reproduced", "recalled"]
STATUSES: tuple[Status, ...] = get_args(Status)

_FILE = Path(__file__).parent / "numbers.toml"
_CELL = re.compile(r"(~?)(\d+(?:\.\d+)?)( r)?")
_NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNumber:
    """One number that somebody printed.

    Attributes:
        method: name of the detector here, or a short name for a method that is not here.
        variant: which form of the method, such as a port or a backbone; empty for the paper's own.
        shots: photos of good products that the method was given.
        table: name of the table in ``numbers.toml``.
        dataset: short name of the data set; see `dataset_titles`.
        category: the product, as its folder is called; None for the mean over all products.
        corruption: one of `zeroflaw.corruptions.CORRUPTIONS`, ``"mean"`` over the four, or None for clean
            images.
        severity: of the corruption; None where it is not printed.
        metric: as `zeroflaw.lab.metrics` calls it: image_auroc, image_aupr, pixel_pro, ...
        value: in percent, as printed.
        approximate: it was given as "about".
        source: short citation of where it is printed.
        status: ``published``, ``reproduced`` by somebody else or later, or ``recalled``: not verified.
        note: what one should know of the table.
    """

    method: str
    variant: str = ""
    shots: int = 0
    table: str
    dataset: str
    category: str | None = None
    corruption: str | None = None
    severity: int | None = None
    metric: str
    value: float
    approximate: bool = False
    source: str
    status: Status
    note: str = ""

    @property
    def detector(self) -> str:
        """Return the name that a preset of this form of the method has, whether or not there is one."""
        return f"{self.method}-{self.variant}" if self.variant else self.method


_FIELDS = tuple(field.name for field in dataclasses.fields(PublishedNumber))


def published(**wanted: Any) -> tuple[PublishedNumber, ...]:
    """Return the numbers whose fields have the wanted values, in the order of the file.

    >>> [n.value for n in published(table="winclip", dataset="visa", metric="image_auroc")]
    [78.1]
    >>> len(published(method="winclip", dataset="mvtec", category=None, corruption=None, variant=""))
    7

    Args:
        wanted: fields of `PublishedNumber` by name; None means none, so ``category=None`` asks for means.

    Raises:
        UsageError: there is no such field.
    """
    for name in wanted:
        if name not in _FIELDS:
            raise UsageError(
                f"a published number has no '{name}'{closest(name, _FIELDS)} (it has {', '.join(_FIELDS)})"
            )
    return tuple(n for n in numbers() if all(getattr(n, name) == value for name, value in wanted.items()))


@lru_cache(maxsize=1)
def numbers() -> tuple[PublishedNumber, ...]:
    """Return all numbers, in the order of the file."""
    return tuple(number for table in _content()["tables"] for number in _read(table))


def method_titles() -> Mapping[str, str]:
    """Return how each method is printed, by its short name."""
    return dict(_content()["methods"])


def dataset_titles() -> Mapping[str, str]:
    """Return how each data set is printed, by its short name."""
    return dict(_content()["datasets"])


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return read_toml(_FILE)


def _read(table: Mapping[str, Any]) -> Iterator[PublishedNumber]:
    """Yield the cells of a table; what is said nearer to a cell wins: table, all, row, column, cell."""
    same = {name: table[name] for name in ("source", "status", "note") if name in table}
    same |= {"table": table["name"], **table.get("all", {})}
    labels, columns = table["labels"], table["columns"]
    for row in table["rows"]:
        if len(row) != len(labels) + len(columns):
            raise ValueError(f"table '{table['name']}': {len(labels) + len(columns)} cells wanted, got {row}")
        said = dict(zip(labels, row, strict=False))
        for column, cell in zip(columns, row[len(labels) :], strict=True):
            if cell != _NOTHING:
                yield PublishedNumber(**{**same, **said, **column, **_cell(cell)})


def _cell(cell: float | str) -> dict[str, Any]:
    """Read a number, or a text such as ``"~90 r"``: about, and recalled."""
    if not isinstance(cell, str):
        return {"value": float(cell)}
    match = _CELL.fullmatch(cell)
    if match is None:
        raise ValueError(f"a number, '{_NOTHING}', '~90' or '92.5 r' is wanted in a cell, got '{cell}'")
    found: dict[str, Any] = {"value": float(match[2]), "approximate": bool(match[1])}
    return found | ({"status": "recalled"} if match[3] else {})
