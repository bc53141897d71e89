"""Looking into folders: what lies there, in an order that never changes, and how it is named in messages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import EXTENSIONS, brief, shown


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one folder, each kind sorted by name, hidden ones left out (``._000.png`` as well)."""

    folders: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


def list_folder(folder: Path) -> Listing:
    """List a folder; one that does not exist is empty.

    Raises:
        DatasetError: the folder cannot be read.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = tuple(path for path in entries if path.is_dir())
        files = [path for path in entries if path.is_file()]
    except FileNotFoundError:
        return Listing()
    except OSError as error:
        raise _unreadable(folder, error) from error
    images = tuple(path for path in files if path.suffix.lower() in EXTENSIONS)
    taken = {*folders, *images}
    return Listing(folders, images, tuple(path for path in entries if path not in taken))


def scan(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the folders and of the files in a folder, hidden ones left out, in any order.

    Unlike :func:`list_folder` it asks the system once and not once a file: for folders with 100,000 of them.
    A folder that is not there is empty.

    Raises:
        DatasetError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
            folders = tuple(entry.name for entry in entries if entry.is_dir())
            return folders, tuple(entry.name for entry in entries if entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return (), ()
    except (OSError, ValueError) as error:  # ValueError: a table names a folder with a null byte in it
        raise _unreadable(folder, error) from error


class Files:
    """Looks up files that a table names; every folder is listed once, however many files are asked for."""

    def __init__(self) -> None:
        self._folders: dict[Path, tuple[frozenset[str], dict[str, list[str]]]] = {}

    def find(self, path: Path) -> Path | None:
        """Return the file of that name, or the only one that differs in upper and lower case; else None."""
        if path.parent not in self._folders:
            there = frozenset(scan(path.parent)[1])
            folded: dict[str, list[str]] = {}
            for name in there:
                folded.setdefault(name.casefold(), []).append(name)
            self._folders[path.parent] = (there, folded)
        there, folded = self._folders[path.parent]
        if path.name in there:
            return path
        alike = folded.get(path.name.casefold(), [])
        return path.with_name(alike[0]) if len(alike) == 1 else None


def _unreadable(folder: Path, error: OSError | ValueError) -> DatasetError:
    return DatasetError(
        f"folder '{shown(folder)}' should be listed but cannot be ({brief(error)}); check its permissions"
    )


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name that may be looked at."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered


def require_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder of a data set as a path.

    Raises:
        DatasetError: there is no such folder.
    """
    folder = Path(root)
    if not is_folder(folder):
        what = "is a file" if os.path.exists(folder) else "does not exist"  # noqa: PTH110, see is_folder
        raise DatasetError(
            f"the folder of a data set is wanted, but '{shown(folder)}' {what}; check the path"
        )
    return folder


def folder_name(folder: Path) -> str:
    """Return the name of a folder, also where it is written ``.`` or ``..``."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def names(paths: Iterable[Path | str], most: int = 5) -> str:
    """Name some paths by their last part, and count the rest."""
    found = [shown(path if isinstance(path, str) else path.name) for path in paths]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def count(number: int, noun: str, nouns: str = "") -> str:
    """Write ``1 mask``, ``2 masks``."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def found_in(folder: Path) -> str:
    """Say what a folder holds, for a message."""
    listing = list_folder(folder)
    parts = []
    if listing.folders:
        parts.append(f"the folders {names(listing.folders, 8)}")
    if listing.images:
        parts.append(count(len(listing.images), "image"))
    if listing.others:
        parts.append(f"the files {names(listing.others)}")
    return " and ".join(parts) or "nothing"


def twins(paths: Sequence[Path]) -> list[Path]:
    """Return the paths that share their stem with another one."""
    number = Counter(path.stem for path in paths)
    return [path for path in paths if number[path.stem] > 1]
