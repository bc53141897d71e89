"""What the files of a watched folder were found to be, so that a restart need not read them all again.

It lies in the database of the history. Files go by a digest of their names, whose bytes not every database
takes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from zeroflaw.serve.arrivals import Arrival, Facts
from zeroflaw.serve.database import Database, watched

_MOST = 500  # values of one statement


class Known(NamedTuple):
    """A file as it was when its verdict was kept, and the key of that verdict."""

    facts: Facts
    key: str


class Watched:
    """The files of one folder that have a verdict.

    Args:
        database: of the history.
        place: what the folder is called.

    Every method but `get` and `remember` may raise a `HistoryError`.
    """

    def __init__(self, database: Database, place: str) -> None:
        self._database = database
        self._place = digest(place)[:32]
        with database.reading() as connection:
            query = sa.select(watched.c.file, watched.c.facts, watched.c.key)
            rows = connection.execute(query.where(watched.c.place == self._place)).all()
        self._known = {file: Known(_facts(facts), key) for file, facts, key in rows}
        self._fresh: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str) -> Known | None:
        """Return what is known of a file."""
        return self._known.get(digest(name))

    def remember(self, arrival: Arrival, key: str) -> None:
        """Take in that a file has a verdict; `keep` writes it down."""
        self._known[digest(arrival.name)] = self._fresh[digest(arrival.name)] = Known(arrival.facts, key)

    def keep(self) -> None:
        """Write down what was remembered."""
        if not self._fresh:
            return
        rows = [
            {"place": self._place, "file": file, "facts": ":".join(map(str, known.facts)), "key": known.key}
            for file, known in self._fresh.items()
        ]
        with self._database.writing() as connection:
            self._delete(connection, self._fresh)
            connection.execute(sa.insert(watched), rows)
        self._fresh = {}

    def forget(self, names: Iterable[str]) -> None:
        """Drop files that are not there any more."""
        self._drop([file for name in names if (file := digest(name)) in self._known])

    def forget_others(self, names: Iterable[str]) -> None:
        """Drop all files but these, which are there."""
        there = set(map(digest, names))
        self._drop([file for file in self._known if file not in there])

    def _drop(self, files: list[str]) -> None:
        if not files:
            return
        with self._database.writing() as connection:
            self._delete(connection, files)
        for file in files:
            self._known.pop(file, None)
            self._fresh.pop(file, None)

    def _delete(self, connection: sa.Connection, files: Iterable[str]) -> None:
        wanted = list(files)
        for start in range(0, len(wanted), _MOST):
            those = watched.c.file.in_(wanted[start : start + _MOST])
            connection.execute(sa.delete(watched).where(watched.c.place == self._place, those))


def digest(name: str) -> str:
    """Return what stands for a name, whatever its bytes: 64 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _facts(text: str) -> Facts:
    return Facts(*map(int, text.split(":")))
