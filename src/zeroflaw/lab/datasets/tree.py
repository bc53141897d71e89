"""What lies below a folder: each folder is listed once, in an order that never changes, hidden entries left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from zeroflaw.errors import DatasetError
from zeroflaw.images import EXTENSIONS, brief, shown


class Listing(NamedTuple):
    """The entries of one folder by name; ``others`` are no images, or links that lead nowhere."""

    folders: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Tree:
    """The folders below a root; places in it are relative paths with slashes, ``""`` for the root itself.

    Raises:
        DatasetError: from the constructor; there is no such folder. From all methods; a folder in it cannot
            be listed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._lists: dict[str, Listing] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}
        if not os.path.isdir(self.root):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
            what = "is a file" if os.path.exists(self.root) else "does not exist"  # noqa: PTH110
            raise DatasetError(
                f"the folder of a data set is wanted, but '{shown(self.root)}' {what}; check the path"
            )

    @property
    def name(self) -> str:
        """Name of the root, also where it is written ``.`` or ``..``."""
        return Path(os.path.abspath(self.root)).name  # noqa: PTH100 - links keep their names

    def list(self, place: str = "") -> Listing:
        """List a folder; one that does not exist is empty."""
        if place not in self._lists:
            self._lists[place] = _listed(self.root / place)
        return self._lists[place]

    def find(self, path: str) -> str | None:
        """Return the path of a file, or of the only one that differs in upper and lower case; else None.

        Where there is no file of that name, backslashes are taken for slashes.
        """
        place, _, name = path.rpartition("/")
        if place not in self._folded:
            folded = self._folded[place] = {}
            for other in (*self.list(place).images, *self.list(place).others):
                folded.setdefault(other.casefold(), []).append(other)
        alike = self._folded[place].get(name.casefold(), [])
        if name in alike or len(alike) == 1:
            there = join(place, name if name in alike else alike[0])
            return there if (self.root / there).is_file() else None  # it may be a link that leads nowhere
        return self.find(path.replace("\\", "/")) if "\\" in path else None

    def has(self, pattern: str, place: str = "") -> bool:
        """Whether a folder, or a file where the pattern ends in an image or a table, is there."""
        first, _, rest = pattern.partition("/")
        here = self.list(place)
        if rest:
            return any(self.has(rest, join(place, name)) for name in here.folders if fits(first, name))
        if "{image}" in first:
            return bool(here.images)
        return any(fits(first, name) for name in (here.others if ".csv" in first else here.folders))

    def content(self, place: str = "") -> str:
        """Say what a folder holds, for a message."""
        folders, images, others = self.list(place)
        parts = [f"the folders {names(folders, 8)}"] if folders else []
        parts += [count(len(images), "image")] if images else []
        parts += [f"the files {names(others)}"] if others else []
        return " and ".join(parts) or "nothing"


def _listed(folder: Path) -> Listing:
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    image = os.path.splitext(entry.name)[1].lower() in EXTENSIONS  # noqa: PTH122 - many files
                    parts[0 if entry.is_dir() else 1 if image and entry.is_file() else 2].append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return Listing()
    except (OSError, ValueError) as error:  # ValueError: a table names a folder with a null byte in it
        raise DatasetError(
            f"folder '{shown(folder)}' should be listed but cannot be ({brief(error)}); check its permissions"
        ) from error
    return Listing(*(tuple(sorted(part)) for part in parts))


def join(place: str, name: str) -> str:
    """Put a name behind a place."""
    return f"{place}/{name}" if place else name


def fits(segment: str, name: str) -> re.Match[str] | None:
    """Match one name with one part of a pattern: ``{word}`` for any name, ``{word=regex}``, or plain text."""
    return _compiled(segment).fullmatch(name)


@cache
def _compiled(segment: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(?:=([^}]*))?\}", segment)
    regex = re.escape(parts[0])
    for word, wanted, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        regex += f"(?P<{word}>{wanted or _ANY.get(word, '.+')}){re.escape(text)}"
    return re.compile(regex, re.DOTALL)


_ANY = {"good": "(?i:good|ok|normal)"}


def names(found: Iterable[str], most: int = 5) -> str:
    """Name some files, and count the rest."""
    listed = [shown(name) for name in found]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def count(number: int, noun: str, nouns: str = "") -> str:
    """Write ``1 mask``, ``2 masks``."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"
