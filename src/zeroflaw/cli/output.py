"""What the verbs print, where text of strangers is made harmless, and options that many of them have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.decorators import FC

from zeroflaw.errors import printable

if TYPE_CHECKING:
    from zeroflaw.images import ImageList

_LONGEST = 4000  # characters of a line for people
_DIGITS = 9  # a float32 needs no more, and the last ones of a float64 differ between processors

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")


def repeated(*names: str, help: str, **settings: Any) -> Callable[[FC], FC]:
    """Return an option that may be given several times, as its help says."""
    return click.option(*names, multiple=True, help=f"{help.rstrip('.')}; may be repeated.", **settings)


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
    """Say what of the folders that were given is left out: masks, earlier results, what is no image."""
    for folder in found.results:
        say(f"zeroflaw: {folder}: results of an earlier run, left out", quiet)
    if found.masks:
        masks = f"{len(found.masks)} mask{'s' * (len(found.masks) != 1)}"
        say(f"zeroflaw: {masks} of photos left out, {found.masks[0]} for example", quiet)
    for path in found.skipped:
        link = path.is_symlink() and path.is_dir()
        reason = "it is a link to a folder, which is not followed" if link else "it is not an image file"
        say(f"zeroflaw: {path}: skipped, {reason}", quiet)
