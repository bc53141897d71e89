"""Published numbers, to be put beside measured ones: ``numbers.toml``, with the source of each.

A number is quoted as printed, in percent. What is only remembered is marked ``recalled`` and must not be
quoted as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from zeroflaw.errors import InputError, UsageError, closest
from zeroflaw.files import read_toml
from zeroflaw.parameters import Record

__all__ = ["STATUSES", "PublishedNumber", "dataset_titles", "method_titles", "numbers", "published"]

Status = Literal["published", "reproduced", "recalled"]
STATUSES: tuple[Status, ...] = get_args(Status)

_FILE = Path(__file__).parent / "numbers.toml"
_CELL = re.compile(r"(~?)(\d+(?:\.\d+)?)( r)?")
_NOTHING = "-"


class PublishedNumber(Record):
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
    shots: Annotated[int, Field(ge=0)] = 0
    table: str
    dataset: str
    category: str | None = None
    corruption: str | None = None
    severity: int | None = None
    metric: str
    value: Annotated[float, Field(ge=0, le=100)]
    approximate: bool = False
    source: Annotated[str, Field(min_length=1)]
    status: Status
    note: str = ""

    @property
    def detector(self) -> str:
        """The name that a preset of this form of the method has, whether or not there is one."""
        return f"{self.method}-{self.variant}" if self.variant else self.method


class _Table(Record):
    """A table of ``numbers.toml``, whose head says what each key means."""

    name: str
    source: str | None = None
    status: Status | None = None
    note: str | None = None
    all: dict[str, Any] = Field(default_factory=dict)
    labels: tuple[str, ...]
    columns: tuple[dict[str, Any], ...]
    rows: tuple[tuple[str | int | float, ...], ...]

    def numbers(self) -> Iterator[PublishedNumber]:
        """Yield the cells; what is said nearer to a cell wins: table, all, row, column, cell."""
        same = {
            name: value for name in ("source", "status", "note") if (value := getattr(self, name)) is not None
        }
        same |= {"table": self.name, **self.all}
        width = len(self.labels) + len(self.columns)
        for row in self.rows:
            if len(row) != width:
                raise ValueError(f"table '{self.name}': {width} cells wanted, got {row}")
            said = dict(zip(self.labels, row, strict=False))
            for column, cell in zip(self.columns, row[len(self.labels) :], strict=True):
                if cell != _NOTHING:
                    yield PublishedNumber(**{**same, **said, **column, **_cell(cell)})


class _Content(Record):
    methods: dict[str, str]
    datasets: dict[str, str]
    tables: tuple[_Table, ...]


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
    fields = PublishedNumber.model_fields
    for name in wanted:
        if name not in fields:
            raise UsageError(
                f"a published number has no '{name}'{closest(name, fields)} (it has {', '.join(fields)})"
            )
    return tuple(n for n in numbers() if all(getattr(n, name) == value for name, value in wanted.items()))


@lru_cache(maxsize=1)
def numbers() -> tuple[PublishedNumber, ...]:
    """Return all numbers, in the order of the file."""
    return tuple(number for table in _content().tables for number in table.numbers())


def method_titles() -> Mapping[str, str]:
    """Return how each method is printed, by its short name."""
    return _content().methods


def dataset_titles() -> Mapping[str, str]:
    """Return how each data set is printed, by its short name."""
    return _content().datasets


@lru_cache(maxsize=1)
def _content() -> _Content:
    return _Content.read(read_toml(_FILE, 1 << 20, "the file"), _FILE.name, InputError)


def _cell(cell: float | str) -> dict[str, Any]:
    """Read a number, or a text such as ``"~90 r"``: about, and recalled."""
    if not isinstance(cell, str):
        return {"value": float(cell)}
    match = _CELL.fullmatch(cell)
    if match is None:
        raise ValueError(f"a number, '{_NOTHING}', '~90' or '92.5 r' is wanted in a cell, got '{cell}'")
    found: dict[str, Any] = {"value": float(match[2]), "approximate": bool(match[1])}
    return found | ({"status": "recalled"} if match[3] else {})
