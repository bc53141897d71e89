"""Published numbers, to be put beside measured ones: ``numbers.toml``, with the source of each.

A number is quoted as printed, in percent. What is only remembered is marked ``recalled`` and must not be
quoted as published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from zeroflaw.parameters import Record

Status = Literal["published", "reproduced", "recalled"]
STATUSES: tuple[Status, ...] = get_args(Status)


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


def published(**wanted: Any) -> tuple[PublishedNumber, ...]:
    """Return the numbers whose fields have the wanted values, in the order of the file.

    >>> [n.value for n in published(table="winclip", dataset="visa", metric="image_auroc")]
    [78.1]
    >>> len(published(method="winclip", dataset="mvtec", category=None, corruption=None, variant=""))
    7

    Args:
        wanted: fields of `PublishedNumber` by name; None means none, so ``category=None`` asks for means.
    """
    return tuple(n for n in numbers() if all(getattr(n, name) == value for name, value in wanted.items()))


@lru_cache(maxsize=1)
def numbers() -> tuple[PublishedNumber, ...]:
    """Return all numbers, in the order of the file."""
    return tuple(number for table in _content()["tables"] for number in _numbers_of(table))


def method_titles() -> Mapping[str, str]:
    """Return how each method is printed, by its short name."""
    titles: dict[str, str] = _content()["methods"]
    return titles


def dataset_titles() -> Mapping[str, str]:
    """Return how each data set is printed, by its short name."""
    titles: dict[str, str] = _content()["datasets"]
    return titles


@lru_cache(maxsize=1)
def _content() -> Any:
    return tomllib.loads((Path(__file__).parent / "numbers.toml").read_text(encoding="utf-8"))


def _numbers_of(table: dict[str, Any]) -> Iterator[PublishedNumber]:
    """Yield the cells; what is said nearer to a cell wins: table, all, row, column, cell."""
    same = {name: table[name] for name in table.keys() & {"source", "status", "note"}}
    same |= {"table": table["name"], **table.get("all", {})}
    labels, columns = table["labels"], table["columns"]
    for row in table["rows"]:
        said = dict(zip(labels, row, strict=False))
        for column, cell in zip(columns, row[len(labels) :], strict=True):
            if cell != "-":
                yield PublishedNumber(**{**same, **said, **column, **_cell(str(cell))})


def _cell(text: str) -> dict[str, Any]:
    """Read a number, or a text such as ``"~90 r"``: about, and recalled."""
    recalled = {"status": "recalled"} if text.endswith(" r") else {}
    value = float(text.removeprefix("~").removesuffix(" r"))
    return {"value": value, "approximate": text.startswith("~"), **recalled}
