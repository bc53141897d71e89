"""What the verbs print: every line goes through here, where text of strangers is made harmless."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeroflaw.errors import UsageError, printable, reason

if TYPE_CHECKING:
    from zeroflaw.images import ImageList

_LONGEST = 4000  # characters of a line for people
_DIGITS = 9  # a float32 needs no more, and the last ones of a float64 differ between processors


def say(text: str, quiet: bool = False) -> None:
    """Write a line for people, on stderr, without control characters."""
    if not quiet:
        click.echo(printable(text, _LONGEST), err=True)


def put(text: str) -> None:
    """Write a line of a list or table on stdout, without control characters."""
    click.echo(printable(text, _LONGEST))


def put_json(row: Mapping[str, Any]) -> None:
    """Write a row on stdout as a line of JSON, in UTF-8 whatever the terminal's encoding."""
    click.echo(json_line(row).encode())


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row as JSON, without NaN or infinity; numbers are rounded to nine significant digits."""
    text = json.dumps(_rounded(row), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def tell_skipped(found: ImageList, quiet: bool) -> None:
    """Say which files of the folders that were given are no images."""
    for path in found.skipped:
        link = path.is_symlink() and path.is_dir()
        reason = "it is a link to a folder, which is not followed" if link else "it is not an image file"
        say(f"zeroflaw: {path}: skipped, {reason}", quiet)


def require_free(folder: Path, overwrite: bool, written: Callable[[Path], set[str]]) -> None:
    """Refuse an output folder whose content would be lost.

    Args:
        folder: of results, which will be replaced as a whole.
        overwrite: whether earlier results may be replaced.
        written: returns which files below a folder an earlier run wrote.

    Raises:
        UsageError: there is no folder but a file, or in it are earlier results or files of somebody else.
    """
    try:
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


def prepare_output(folder: Path, marker: str, overwrite: bool) -> None:
    """Make the output folder, or refuse one that already holds results.

    Raises:
        UsageError: ``marker`` is already in the folder, or the folder cannot be made.
    """
    try:
        if (folder / marker).is_dir():
            raise UsageError(f"{folder / marker} should be a file but is a folder; give another folder")
        if (folder / marker).exists() and not overwrite:
            raise UsageError(f"{folder} already holds {marker}; give another folder or --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"an output folder was wanted at {folder}: {error.strerror or error}; choose another"
        ) from error
