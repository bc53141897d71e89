"""What earlier runs of ``zeroflaw detect`` left in an output folder, told apart from the user's own files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroflaw.errors import InputError, UsageError
from zeroflaw.finding import Found, shown
from zeroflaw.report import SHEETS, page_names

RESULTS = "predictions.jsonl"
UNFINISHED = f"{RESULTS}.part"
MAPS = "maps"
_START = '{"schema": '  # how every line of ours begins


@dataclass(frozen=True)
class Earlier:
    """What is in an output folder before a run.

    Attributes:
        folder: the output folder.
        pictures: heat maps and contact sheets that an earlier run wrote, as paths below the folder.
        strangers: files below ``maps/`` that no run wrote, by name; no heat map may take their place.
    """

    folder: Path
    pictures: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()

    def left_out(self, found: Found) -> Found:
        """Return ``found`` without the results in this folder, which are nothing to be judged.

        Raises:
            InputError: nothing is left.
        """
        ours = {os.path.realpath(self.folder / name) for name in (*self.pictures, RESULTS, UNFINISHED)}
        names = {os.path.basename(path) for path in ours}  # noqa: PTH119  realpath gives plain strings

        def others(paths: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(p for p in paths if p.name not in names or os.path.realpath(p) not in ours)

        kept = Found(others(found.paths), others(found.skipped))
        if not kept.paths:
            raise InputError(
                f"only results of an earlier run in '{shown(self.folder)}' were named; give photos to judge"
            )
        return kept

    def remove(self) -> None:
        """Delete the pictures of the earlier run, and ``maps/`` if nothing else is in it."""
        for name in self.pictures:
            (self.folder / name).unlink(missing_ok=True)
        maps = self.folder / MAPS
        if maps.is_dir() and not any(maps.iterdir()):
            maps.rmdir()


def look_at(folder: Path) -> Earlier:
    """Return what earlier runs left in ``folder``.

    Raises:
        UsageError: results would take the place of files that no run of ``detect`` wrote, or the folder
            cannot be read.
    """
    try:
        return _look_at(folder)
    except OSError as error:
        raise UsageError(
            f"results were to go to '{shown(folder)}', which cannot be read ({error.strerror or error}); "
            "choose another with -o"
        ) from error


def _look_at(folder: Path) -> Earlier:
    _check_unfinished(folder / UNFINISHED)
    finished = (folder / RESULTS).exists()
    named = _pictures(folder / RESULTS) if finished else set()
    maps = folder / MAPS
    if os.path.lexists(maps) and (not finished or maps.is_symlink() or not maps.is_dir()):
        raise _foreign(maps)
    present = {f"{MAPS}/{path.name}" for path in maps.iterdir()} if finished and maps.is_dir() else set()
    sheets = {path.name for path in folder.glob(SHEETS)}
    for sheet in sorted(sheets - named):
        raise _foreign(folder / sheet)
    strangers = {Path(name).name for name in present - named}
    return Earlier(folder, frozenset((present | sheets) & named), frozenset(strangers))


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"'{shown(path)}' was not written by an earlier run and stays; choose another folder with -o"
    )


def _check_unfinished(path: Path) -> None:
    if not os.path.lexists(path):
        return
    with path.open("rb") as stream:
        start = stream.read(len(_START))
    if not _START.encode().startswith(start):
        raise _foreign(path)


def _pictures(results: Path) -> set[str]:
    """Return what pictures a file of results speaks of; only these are ever deleted."""
    named: set[str] = set()
    images = 0
    for row in _rows(results):
        images += "error" not in row
        if isinstance(name := row.get("heat_map"), str):
            named.add(name)
    return named | set(page_names(images))


def _rows(results: Path) -> Iterator[dict[str, Any]]:
    with results.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _foreign(results) from error
            if not isinstance(row, dict) or not {"schema", "zeroflaw"} <= row.keys():
                raise _foreign(results)
            yield row
