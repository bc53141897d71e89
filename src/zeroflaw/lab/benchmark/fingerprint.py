"""Cache keys from size and time of change of input files.

They tell a result from that of other images or weights; reading all files would take longer than measuring
some of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zeroflaw.records import Record

LOCAL = "local-dir:"


def digest(content: Any) -> str:
    """Return a SHA-256 over JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def of_records(records: Iterable[Record]) -> str:
    """Return the fingerprint of images with their labels and masks."""
    return digest([[r.key, r.label, _of_file(r.image), _of_any(r.mask)] for r in records])


def of_path(path: Path) -> Any:
    """Return the fingerprint of a file, of all files in a folder, or of nothing being there."""
    return (
        digest(sorted([name, _of_file(path / name)] for name in _files(path)))
        if path.is_dir()
        else _of_file(path)
    )


def of_backbone(name: str) -> Any:
    """Return the fingerprint of weights in a local folder; other weights are what their name says."""
    if not name.startswith(LOCAL):
        return name
    return of_path(Path(os.path.expanduser(name.removeprefix(LOCAL))))  # noqa: PTH111 - no such user, no error


def _of_any(path: Path | None) -> Any:
    return None if path is None else of_path(path)


def _of_file(path: Path) -> list[int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (os.path.relpath(os.path.join(place, name), folder) for name in names)  # noqa: PTH118
