"""Reading a small TOML file that a person wrote, with messages that say where it went wrong."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from zeroflaw.errors import WordsError
from zeroflaw.files import has_deep_key

MAX_BYTES = 4 << 20
"""Largest file; a dictionary of 100,000 words of usual length needs about 1.5 MB."""


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a TOML file in UTF-8 (a byte order mark is allowed).

    Raises:
        WordsError: not a readable file, too large, not UTF-8, or not TOML (with the line).  The message does
            not name the file; the caller does.
    """
    return _parsed(_decoded(_bytes(Path(path))))


def _bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise WordsError("a TOML file was wanted, got a path where nothing is; check the path.")
        if not path.is_file():  # a pipe or a device might never end
            raise WordsError(
                "a TOML file was wanted, got something that is not a file; give the path of a file."
            )
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, WordsError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WordsError(
            f"a readable TOML file was wanted, got '{reason}'; check the path and its rights."
        ) from error
    if len(data) > MAX_BYTES:
        raise WordsError(
            f"a file of at most {MAX_BYTES >> 20} MB was wanted, got a larger one; list fewer words."
        )
    return data


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WordsError(
            f"text in UTF-8 was wanted, got the byte 0x{data[error.start]:02x} in line {line}; "
            "save the file as UTF-8."
        ) from error


def _parsed(text: str) -> dict[str, Any]:
    if has_deep_key(text):
        raise WordsError("a flat TOML file was wanted, got a key of more than 64 parts; write plain lists.")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise WordsError(
            "a flat TOML file was wanted, got lists nested too deep; write plain lists."
        ) from error
    except ValueError as error:  # TOMLDecodeError, and what int() and datetime refuse
        reason, line = _place(str(error), text)
        raise WordsError(f"TOML was wanted, got in line {line} '{reason}'; correct that line.") from error


def _place(message: str, text: str) -> tuple[str, int]:
    """Split a parser's message into reason and line; "at end of document" is the last line."""
    reason = re.sub(r"\s*\(at .*\)$", "", message).partition(";")[0]
    found = re.search(r"\(at line (\d+)", message)
    return reason, int(found[1]) if found else len(text.splitlines()) or 1
