"""Folders of results: each of its own, replaced as a whole, and nothing of somebody else's lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroflaw.errors import UsageError
from zeroflaw.files import require_own, whole_folder


def require_free(folder: Path, overwrite: bool, written: Callable[[Path], set[str]]) -> None:
    """Refuse an output folder whose content would be lost.

    Args:
        folder: of results, which will be replaced as a whole.
        overwrite: whether earlier results may be replaced.
        written: returns which files below a folder an earlier run wrote.

    Raises:
        UsageError: in it are earlier results, or see `zeroflaw.files.require_own`.
    """
    _, there = require_own(folder, "results", written)
    if there and not overwrite:
        raise UsageError(f"{folder} already holds results; give another folder or --overwrite")


@contextmanager
def fresh_folder(folder: Path, overwrite: bool, written: Callable[[Path], set[str]]) -> Iterator[Path]:
    """Yield a folder that takes the place of ``folder`` at the end; for the rest see `require_free`."""
    require_free(folder, overwrite, written)
    with whole_folder(folder) as fresh:
        require_free(folder, overwrite, written)  # once more: another run may have been faster
        yield fresh
