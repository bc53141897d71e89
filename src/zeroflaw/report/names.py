"""Names of output files, made from names of inputs that nobody has checked."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, MutableSet

_LONGEST = 120  # bytes of UTF-8; with suffixes and extension a name stays below the usual limit of 255
_SUFFIX = 60
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def safe_name(source: str, taken: MutableSet[str]) -> str:
    """Return a file name without extension for ``source``, and note it in ``taken``.

    The name is the last part of ``source`` without folders, extension, leading dots, control characters and
    whatever else one of the common systems refuses. If it is taken (capital letters do not count), the
    name of the folder is appended, then a number.

    >>> taken = set()
    >>> [safe_name(name, taken) for name in ("a/1.png", "b/1.png", "b/1.jpg", "../../etc/passwd")]
    ['1', '1-b', '1-2', 'passwd']
    """
    parts = [part for part in source.replace("\\", "/").split("/") if part.strip(". ")]
    stem = _clean(parts[-1].rpartition(".")[0] or parts[-1], _LONGEST) if parts else ""
    folder = _clean(parts[-2], _SUFFIX) if len(parts) > 1 else ""
    name = next(name for name in _candidates(stem or "image", folder) if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _candidates(stem: str, folder: str) -> Iterator[str]:
    yield stem
    if folder:
        yield f"{stem}-{folder}"
    yield from (f"{stem}-{number}" for number in itertools.count(2))


def _clean(text: str, longest: int) -> str:
    plain = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isalnum() or c in " -_+()[]=@.," else "_" for c in plain)
    name = kept.encode()[:longest].decode(errors="ignore").strip(". ")
    return f"_{name}" if name.partition(".")[0].casefold() in _DEVICES else name
