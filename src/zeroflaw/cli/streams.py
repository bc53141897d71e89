"""Paths of photos from standard input: all at once, or each as it comes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from zeroflaw.errors import InputError, UsageError
from zeroflaw.images import ImageList

STDIN = "-"
LONGEST = 1 << 16  # bytes of a path; no system allows as many
_AT_ONCE = 1 << 16  # bytes

F = TypeVar("F", bound=Callable[..., Any])


def stream_options(command: F) -> F:
    """Add ``--null`` and ``--follow``."""
    follow = "With -: answer each path as it comes, until the input ends."
    null = "With -: a NUL ends each path, as find -print0 writes them; else a line does."
    command = click.option("--follow", is_flag=True, help=follow)(command)
    return click.option("-0", "--null", is_flag=True, help=null)(command)


def paths_from_stdin(paths: tuple[str, ...], *, null: bool, follow: bool) -> Iterator[Path] | None:
    """Return the paths that standard input names, taken as they are, or None where ``-`` was not given.

    Nothing is looked up: a path that leads nowhere is a photo that cannot be read.

    Args:
        paths: the arguments of the command.
        null: a NUL ends each path; else a line does.
        follow: each path comes as soon as it is there; it must have been asked for together with ``-``.

    Raises:
        UsageError: ``-`` beside other paths, an option that only goes with it, or a terminal as input.
    """
    if STDIN not in paths:
        for flag in ["--null"] * null + ["--follow"] * follow:
            raise UsageError(f"{flag} is about paths on standard input; give - in place of PATH")
        return None
    if len(paths) > 1:
        raise UsageError("- takes all paths from standard input and stands alone; a file of that name is ./-")
    if sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "- reads paths from standard input, which is a terminal here; pipe them, as in "
            "'ls photos/*.png | zeroflaw detect -'"
        )
    return iter(()) if sys.stdin is None else split_paths(sys.stdin.buffer, b"\0" if null else b"\n")


def list_paths(paths: Iterator[Path]) -> ImageList:
    """Return all paths of a stream, none twice.

    Raises:
        InputError: there is none.
    """
    found = ImageList(tuple(dict.fromkeys(paths)))
    if not found.paths:
        raise InputError("standard input named no photo; pipe in paths, one a line")
    return found


def split_paths(stream: BinaryIO, end: bytes) -> Iterator[Path]:
    """Yield each path of a stream as soon as its end is there; empty ones are passed over.

    Raises:
        InputError: what comes has no end.
    """
    rest = b""
    while piece := stream.read1(_AT_ONCE):  # type: ignore[attr-defined]  # of every buffered reader
        *whole, rest = (rest + piece).split(end)
        yield from _paths(whole, end)
        if len(rest) > LONGEST:
            raise InputError(
                f"a path on standard input has more than {LONGEST:,} bytes; end each with "
                f"{'a NUL' if end == bytes(1) else 'a line, or give --null where a NUL ends it'}"
            )
    yield from _paths([rest], end)


def _paths(names: list[bytes], end: bytes) -> Iterator[Path]:
    for name in names:
        bare = name.removesuffix(b"\r") if end == b"\n" else name  # as Windows ends lines
        if bare:
            yield Path(os.fsdecode(bare))
