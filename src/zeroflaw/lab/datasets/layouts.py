"""Every data set and layout that can be opened, as data: ``layouts.toml`` says where files lie.

Nothing is downloaded: a licence is between whoever holds the images and whoever uses them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.parameters import Record


class Layout(Record):
    """A data set, or a layout for anybody's own images; ``layouts.toml`` explains the fields."""

    name: str
    title: str = ""
    licence: str = ""
    source: str = ""
    note: str = ""
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    product: str | None = None
    columns: Mapping[str, str] = {}
    optional: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    flawed: str = "defective"
    header: bool = True
    listed: tuple[str, ...] = ()
    objects: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    published: Mapping[str, str] = {}

    @property
    def picture(self) -> tuple[str, ...]:
        """Where files lie, one pattern a line."""
        above = "ROOT" if self.product else "ROOT/{category}"
        patterns = (f"{above}/{pattern}" for pattern in (*self.test, *self.masks, *self.train))
        return tuple(re.sub(r"\{(\w+)=([^}]*)\}", _drawn, line) for line in (*self.tables, *patterns))

    def object(self, category: str) -> str | None:
        """What to call a product in a prompt where its name does not say it; else None."""
        return self.objects.get(category, self.objects.get("*"))


def _drawn(placeholder: re.Match[str]) -> str:
    word, choices = placeholder.groups()
    return "{" + (choices.replace("|", ",") if re.fullmatch(r"[\w|]+", choices) else word) + "}"


def _read() -> dict[str, Layout]:
    tables = tomllib.loads((Path(__file__).parent / "layouts.toml").read_text(encoding="utf-8"))
    return {name: Layout.read({"name": name, **data}, name, DatasetError) for name, data in tables.items()}


LAYOUTS: Mapping[str, Layout] = _read()
