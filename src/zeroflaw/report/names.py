"""Names of output files, made from names of inputs that nobody has checked."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, MutableSet, Sequence

_LONGEST = (
    120  # bytes of UTF-8 of each part; with a suffix and extension it stays below the usual limit of 255
)
_DEEPEST = 8  # folders that are kept, the innermost
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def parts(source: str) -> list[str]:
    """Return the folders and the file name of a path as it is written."""
    return re.split(r"[/\\]", source)


def shared_folders(sources: Iterable[str]) -> int:
    """Return how many leading folders all sources have in common; they need not be shown."""
    shared: list[str] | None = None
    for source in sources:
        pairs = zip(shared if shared is not None else parts(source), parts(source)[:-1], strict=False)
        shared = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return len(shared or [])


def safe_path(names: Sequence[str], taken: MutableSet[str]) -> str:
    """Return a relative path without extension for a file and its folders, and note it in ``taken``.

    It keeps the folders, but no leading dots, control characters, ``..`` and whatever else one of the common
    systems refuses. If it is taken (capital letters do not count), a number is appended.

    >>> taken = set()
    >>> [safe_path(parts(name), taken) for name in ("a/1.png", "b/1.png", "b/1.jpg", "../../etc/passwd")]
    ['a/1', 'b/1', 'b/1-2', 'etc/passwd']
    """
    folders = [folder for name in names[:-1] if (folder := _clean(name))][-_DEEPEST:]
    # A folder must not have the name of a picture beside it.
    folders = [f"{folder}_" if folder.casefold().endswith(".png") else folder for folder in folders]
    last = names[-1] if names else ""
    path = "/".join([*folders, _clean(last.rpartition(".")[0] or last) or "image"])
    candidates = itertools.chain([path], (f"{path}-{number}" for number in itertools.count(2)))
    name = next(name for name in candidates if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _clean(text: str) -> str:
    plain = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isalnum() or c in " -_+()[]=@.," else "_" for c in plain)
    name = kept.encode()[:_LONGEST].decode(errors="ignore").strip(". ")
    return f"_{name}" if name.partition(".")[0].casefold() in _DEVICES else name
