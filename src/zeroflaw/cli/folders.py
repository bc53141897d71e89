"""Folders of results: each of its own, replaced as a whole, and nothing of somebody else's lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroflaw.errors import UsageError, reason
from zeroflaw.files import require_replaceable, whole_folder


def require_free(folder: Path, overwrite: bool, written: Callable[[Path], set[str]]) -> None:
    """Refuse an output folder whose content would be lost.

    Args:
        folder: of results, which will be replaced as a whole.
        overwrite: whether earlier results may be replaced.
        written: returns which files below a folder an earlier run wrote.

    Raises:
        UsageError: there is no folder but a file, or in it are earlier results or files of somebody else, or
            nothing can take its place.
    """
    try:
        require_replaceable(folder)
        if os.path.lexists(folder) and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for results")
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        if strange := sorted(there - written(folder)) if there else []:
            raise UsageError(
                f"{folder} holds {strange[0]}, which was not written by an earlier run; give another folder"
            )
    except OSError as error:
        raise UsageError(f"results cannot go to {folder} ({reason(error)}); give another folder") from error
    if there and not overwrite:
        raise UsageError(f"{folder} already holds results; give another folder or --overwrite")


@contextmanager
def fresh_folder(folder: Path, overwrite: bool, written: Callable[[Path], set[str]]) -> Iterator[Path]:
    """Yield a folder that takes the place of ``folder`` at the end; for the rest see `require_free`."""
    require_free(folder, overwrite, written)
    with whole_folder(folder) as fresh:
        require_free(folder, overwrite, written)  # once more: another run may have been faster
        yield fresh
