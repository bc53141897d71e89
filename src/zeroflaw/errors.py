"""Every error that zeroflaw raises on purpose.

::

    ZeroflawError                 exit code of the command
    ├── UsageError                2   a parameter, flag or combination is wrong
    │   ├── MissingExtraError     2   a package that comes with an extra is not installed
    │   └── WordsError            2   a prompt, word or words file is wrong
    ├── InputError                3   something given to read is wrong
    │   ├── ImageError            3   one picture cannot be used
    │   └── DatasetError          3   a data-set folder is not what it should be
    ├── WeightsError              4   model weights are missing, damaged or refused
    ├── DetectorError             4   a saved detector is missing, damaged or does not fit its backbone
    │   └── NotFittedError        4   predict or save was called before fit
    └── OutputError              74   results cannot be written
        └── HistoryError         74   the service's history cannot be opened, read or written

Every message says in one sentence what was wanted, what was got and what to do.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

EXTRAS = {
    "torch": "fit",
    "tokenizers": "fit",
    "huggingface_hub": "fit",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "matplotlib": "lab",
    "elpv_dataset": "elpv",
    "pandas": "table",
    "pyarrow": "table",
    "pydicom": "dicom",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "sse_starlette": "serve",
    "prometheus_client": "serve",
    "sqlalchemy": "serve",
    "alembic": "serve",
    "paho": "serve",
    "psycopg": "postgres",
    "fsspec": "scale",
    "ray": "scale",
    "lance": "scale",
}
"""Packages that come with an extra, and which one."""


_NO_MEMORY = re.compile(r"out ?of ?memory|bad[ _]alloc|allocat.*memory|memory.*allocat", re.I | re.S)


class ZeroflawError(Exception):
    """Base of all errors; ``exit_code`` is what the command returns."""

    exit_code: ClassVar[int] = 2


class UsageError(ZeroflawError, ValueError):
    """A parameter, flag or combination of them is wrong."""


class MissingExtraError(UsageError):
    """A package that comes with an extra is not installed."""


class WordsError(UsageError):
    """A prompt, a word or a words file is wrong."""


class InputError(ZeroflawError):
    """Something that was given to read is wrong."""

    exit_code = 3


class ImageError(InputError):
    """One picture cannot be used.

    Attributes:
        source: the path or index of the picture, as given.
        reason: why, in words, without the source.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class DatasetError(InputError):
    """A data-set folder is not what it should be."""


class WeightsError(ZeroflawError):
    """Model weights are missing, damaged or refused."""

    exit_code = 4


class DetectorError(ZeroflawError):
    """A saved detector is missing, damaged or does not fit its backbone."""

    exit_code = 4


class NotFittedError(DetectorError):
    """``predict`` or ``save`` was called before ``fit``."""


class OutputError(ZeroflawError):
    """Results cannot be written: a full disk, for example."""

    exit_code = 74


class HistoryError(OutputError):
    """The service's history cannot be opened, read or written."""


@contextmanager
def needing(what: str, extra: str | None = None) -> Iterator[None]:
    """Say in a sentence which extra is missing where an import inside fails.

    Args:
        what: that needs it, at the start of the sentence.
        extra: that brings all it needs, where that is not the package's own.

    Raises:
        MissingExtraError: a package of `EXTRAS` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = missing_extra(error, what, extra)
        if sentence is None:
            raise
        raise MissingExtraError(sentence) from error


def missing_extra(error: ModuleNotFoundError, what: str, extra: str | None = None) -> str | None:
    """Return what to do about a package that is not installed; None where it comes with no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return (
        f"{what} needs {package}, which is not installed; pip install 'zeroflaw[{extra or EXTRAS[package]}]'"
    )


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, of Python, torch or an engine, says that memory is short."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(f"{type(error).__name__} {error}"))


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{match[0]}'?" if match else ""


def printable(text: object, most: int = 300) -> str:
    """Return what somebody else wrote (a name, a path, another error's words) as it can be shown in one line.

    Bytes that are not UTF-8 and control characters appear as escapes, so that they can neither break a line
    nor steer a terminal; what has more than ``most`` characters is cut in its middle.
    """
    plain = os.fspath(text) if isinstance(text, os.PathLike) else str(text)
    if len(plain) > most:
        plain = f"{plain[: most // 2 - 1]}...{plain[-(most // 2 - 2) :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain)


def markdown(text: object, most: int = 1 << 16) -> str:
    """Return a stranger's text as one line of Markdown, in which nothing is HTML, a link or code."""
    line = " ".join(printable(str(text).replace("\n", " "), most).split())
    return "".join(f"\\{c}" if c in "\\<>[]`*_~|" else c for c in line)


def reason(error: BaseException) -> str:
    """Return in a few printable words why something failed."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(said or type(error).__name__)
