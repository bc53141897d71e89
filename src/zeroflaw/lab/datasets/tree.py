"""What lies below a folder; each is listed once, in an order that never changes, hidden entries left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from zeroflaw.errors import DatasetError
from zeroflaw.errors import reason as brief
from zeroflaw.finding import EXTENSIONS, RESULTS, is_results, without_results
from zeroflaw.images import shown


class Listing(NamedTuple):
    """The entries of one folder by name; ``others`` are no images, or links that lead nowhere.

    What an earlier run of ``detect`` wrote there is left out, as ``has_results`` tells.
    """

    folders: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    has_results: bool = False


class Tree:
    """The folders below a root; places in it are relative paths with slashes, ``""`` for the root itself.

    Raises:
        DatasetError: there is no such folder; from all methods: a folder cannot be listed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.name = Path(os.path.abspath(root)).name  # noqa: PTH100 - links keep their names
        self._lists: dict[str, Listing] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}
        if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
            what = "is a file" if os.path.exists(root) else "does not exist"  # noqa: PTH110
            raise DatasetError(
                f"the folder of a data set is wanted, but '{shown(root)}' {what}; check the path"
            )

    def entries(self, place: str = "") -> Listing:
        """List a folder; one that does not exist is empty."""
        if place not in self._lists:
            self._lists[place] = _listed(self.root / place)
        return self._lists[place]

    def content(self) -> str:
        """Say what the root holds, for a message."""
        folders, images, others, _ = self.entries()
        return names([*(f"{name}/" for name in folders), *images, *others], 8) or "nothing"

    def below(self, depth: int, place: str = "") -> list[str]:
        """Return a place and the folders below it."""
        deeper = self.entries(place).folders if depth else ()
        return [place, *(one for name in deeper for one in self.below(depth - 1, join(place, name)))]

    def find(self, path: str) -> str | None:
        """Return the path of a file, or of the only one that differs in upper and lower case; else None.

        Where there is no file of that name, backslashes are taken for slashes.
        """
        place, _, name = path.rpartition("/")
        if place not in self._folded:
            folded = self._folded[place] = {}
            for other in (*self.entries(place).images, *self.entries(place).others):
                folded.setdefault(other.casefold(), []).append(other)
        alike = self._folded[place].get(name.casefold(), [])
        if name in alike or len(alike) == 1:
            there = join(place, name if name in alike else alike[0])
            return there if (self.root / there).is_file() else None  # it may be a link that leads nowhere
        return self.find(path.replace("\\", "/")) if "\\" in path else None

    def has(self, pattern: str, place: str = "") -> bool:
        """Whether a folder, or a file where the pattern ends in an image or a table, is there."""
        first, _, rest = pattern.partition("/")
        here = self.entries(place)
        if rest:
            return any(
                self.has(rest, join(place, name)) for name in here.folders if fits(first, name) is not None
            )
        if first == "{image}":
            return bool(here.images)
        named = here.others if ".csv" in first else here.folders
        return any(fits(first, name) is not None for name in named)


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
    ours = RESULTS in parts[2] and is_results(folder)
    if ours:
        parts = (*without_results(parts[0], parts[1]), [])
    folders, images, others = (tuple(sorted(part)) for part in parts)
    return Listing(folders, images, others, ours)


def join(place: str, name: str) -> str:
    """Put a name, or a place, behind a place; each may be empty."""
    return f"{place}/{name}" if place and name else place or name


def fits(segment: str, name: str) -> dict[str, str] | None:
    """Match one name with one part of a pattern: ``{word}`` for any name, ``{word=regex}``, or plain text."""
    match = _compiled(segment).fullmatch(name)
    return None if match is None else match.groupdict()


@cache
def _compiled(segment: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(?:=([^}]*))?\}", segment.replace("{good}", "{good=(?i:good|ok|normal)}"))
    regex = re.escape(parts[0])
    for word, wanted, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        regex += f"(?P<{word}>{wanted or '.+'}){re.escape(text)}"
    return re.compile(regex, re.DOTALL)


def names(found: Iterable[str], most: int = 5) -> str:
    """Name some files, and count the rest."""
    listed = [shown(name) for name in found]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
