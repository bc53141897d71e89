"""The history: what was judged, what people said about it, and what has not been sent to others yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from zeroflaw.errors import InputError
from zeroflaw.serve.database import FILE, Database, maps, outbox, pictures, verdicts
from zeroflaw.serve.records import (
    LONGEST_NOTE,
    Filter,
    Label,
    Page,
    Row,
    Verdict,
    clean,
    cursor_after,
    rank,
    stamp,
)

_GOING = 200  # pictures that are removed in one transaction
_FRESH = timedelta(minutes=10)  # a picture may be in the store a moment before its row is
_MOST = 500  # values of one question; SQLite takes at most 999 in old versions
_OWN = {"id", "time", "rank", "label", "note", "corrected_at"}
_JUDGED = [column.name for column in verdicts.columns if column.name not in _OWN]


class Pruned(NamedTuple):
    """What was removed: rows, pictures, and the bytes of these."""

    rows: int
    pictures: int
    bytes: int


class History:
    """Rows of what was judged, in a database; safe to use from several threads and processes.

    Args:
        database: where.
        keep_days: rows and pictures older than this go with `prune`; rows that a person corrected stay.
        keep_bytes: pictures may take this much; the oldest go with `prune`, their rows stay.

    Every method may raise a `HistoryError`: the database is locked, full, gone or damaged.
    """

    def __init__(
        self, database: Database, *, keep_days: float | None = None, keep_bytes: int | None = None
    ) -> None:
        self._database = database
        self.keep_days, self.keep_bytes = keep_days, keep_bytes

    @classmethod
    def open(
        cls,
        url_or_folder: str | os.PathLike[str],
        *,
        keep_days: float | None = None,
        keep_bytes: int | None = None,
    ) -> Self:
        """Open the history in a folder, or the database at a URL; it is made where there is none.

        Raises:
            HistoryError: it cannot be opened, or was written by a newer version.
            UsageError: the URL is none.
        """
        where = os.fspath(url_or_folder)
        url = where if "://" in where else f"sqlite:///{Path(where).absolute() / FILE}"
        return cls(Database(url), keep_days=keep_days, keep_bytes=keep_bytes)

    @property
    def name(self) -> str:
        """Where it is, in words and without a password."""
        return self._database.name

    @property
    def database(self) -> Database:
        """Where the rows are."""
        return self._database

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # Adding and correcting

    def add(self, found: Sequence[Verdict], *, channels: Iterable[str] = ()) -> list[Row]:
        """Put verdicts into the history, in one transaction; they are on the disk when this returns.

        Args:
            found: what was judged. Where source and key are in the history already, the row is returned as it
                is there.
            channels: to which each new row is still to be sent; see `unsent`.

        Returns:
            a row for each, in their order.
        """
        names, ids = list(channels), []
        now = stamp(datetime.now(UTC))
        with self._database.writing() as connection:
            for verdict in found:
                number = self._insert(connection, verdict, now)
                if number is None:
                    known = verdicts.c.source == verdict.source, verdicts.c.key == verdict.key
                    number = connection.scalars(sa.select(verdicts.c.id).where(*known)).one()
                else:
                    self._attach(connection, number, verdict, names, now)
                ids.append(number)
            rows = {row.id: row for row in _rows(connection, verdicts.c.id.in_(ids))}
        return [rows[number] for number in ids]

    def _insert(self, connection: sa.Connection, verdict: Verdict, now: str) -> int | None:
        """Return the number of a new row; None where it is there already."""
        values = {name: getattr(verdict, name) for name in _JUDGED}
        values |= {"time": now, "rank": rank(verdict.logit), "note": "", "record": dict(verdict.record)}
        insert = self._upsert(verdicts).values(values)
        once = insert.on_conflict_do_nothing(index_elements=["source", "key"])
        number: int | None = connection.scalar(once.returning(verdicts.c.id))
        return number

    def _attach(
        self, connection: sa.Connection, number: int, verdict: Verdict, channels: list[str], now: str
    ) -> None:
        if verdict.map is not None:
            connection.execute(sa.insert(maps).values(verdict=number, png=verdict.map))
        if verdict.picture_bytes is not None:
            kept = {"digest": verdict.digest, "bytes": verdict.picture_bytes, "last": now}
            insert = self._upsert(pictures).values(kept)
            connection.execute(insert.on_conflict_do_update(index_elements=["digest"], set_={"last": now}))
        if channels:
            waiting = [{"channel": channel, "verdict": number} for channel in channels]
            connection.execute(sa.insert(outbox), waiting)

    def _upsert(self, table: sa.Table) -> Any:
        """Return an insert that can say what happens when a row is there; each dialect has its own."""
        return (sqlite.insert if self._database.dialect == "sqlite" else postgresql.insert)(table)

    def correct(self, id: int, label: Label | None, note: str = "") -> Row:
        """Keep what a person says about a picture, in place of what was said before; None takes it back.

        Raises:
            InputError: there is no such row.
        """
        said = {
            "label": label,
            "note": clean(note, LONGEST_NOTE),
            "corrected_at": None if label is None and not note else stamp(datetime.now(UTC)),
        }
        with self._database.writing() as connection:
            connection.execute(sa.update(verdicts).where(verdicts.c.id == _number(id)).values(said))
            return _one(_rows(connection, verdicts.c.id == id), id)

    # Asking

    def get(self, id: int) -> Row:
        """Return a row.

        Raises:
            InputError: there is no such row.
        """
        with self._database.reading() as connection:
            return _one(_rows(connection, verdicts.c.id == _number(id)), id)

    def map(self, id: int) -> bytes | None:
        """Return the map of a row as PNG (see `zeroflaw.serve.records.read_map`); None where none is kept."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(maps.c.png).where(maps.c.verdict == _number(id)))

    def find(self, wanted: Filter) -> Page:
        """Return a page of the rows that a filter lets through; its cursor leads to the next one."""
        conditions = _conditions(wanted)
        with self._database.reading() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(verdicts).where(*conditions))
            after = _after(wanted)
            rows = (
                _rows(connection, *conditions, *after, order=wanted, limit=wanted.limit + 1) if total else []
            )
        more = len(rows) > wanted.limit
        rows = rows[: wanted.limit]
        return Page(rows, cursor_after(rows[-1], wanted.order) if more else None, total or 0)

    def newest(self) -> int:
        """Return the number of the row that was added last, or 0."""
        with self._database.reading() as connection:
            return int(connection.scalar(sa.select(sa.func.max(verdicts.c.id))) or 0)

    def after(self, id: int, limit: int) -> list[Row]:
        """Return the rows that were added next after a row."""
        with self._database.reading() as connection:
            return _rows(connection, verdicts.c.id > id, limit=limit)

    def known(self, source: str, keys: Iterable[str]) -> set[str]:
        """Return those of the keys of a source that are in the history."""
        asked, found = list(keys), set()
        with self._database.reading() as connection:
            for start in range(0, len(asked), _MOST):
                part = verdicts.c.key.in_(asked[start : start + _MOST])
                found |= set(
                    connection.scalars(sa.select(verdicts.c.key).where(verdicts.c.source == source, part))
                )
        return found

    def of_keys(self, source: str, keys: Iterable[str]) -> dict[str, Row]:
        """Return the rows of those keys of a source that are in the history, by their keys."""
        asked = list(keys)
        found: list[Row] = []
        with self._database.reading() as connection:
            for start in range(0, len(asked), _MOST):
                part = verdicts.c.key.in_(asked[start : start + _MOST])
                found += _rows(connection, verdicts.c.source == source, part)
        return {row.key: row for row in found}

    def has_picture(self, digest: str) -> bool:
        """Whether a picture is said to be in the store."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.literal(1)).where(pictures.c.digest == digest)) is not None

    def labelled(self, detector: str) -> list[Row]:
        """Return the rows of a detector that a person labelled and whose pictures are kept, the oldest first.

        Of a picture that was labelled several times, the last label counts.
        """
        wanted = verdicts.c.detector == detector, verdicts.c.label.is_not(None)
        kept = verdicts.c.digest.in_(sa.select(pictures.c.digest))
        with self._database.reading() as connection:
            rows = _rows(connection, *wanted, kept)
        last = {row.digest: row for row in sorted(rows, key=lambda row: (row.corrected_at or "", row.id))}
        return sorted(last.values(), key=lambda row: row.id)

    def picture_bytes(self) -> int:
        """Return how many bytes the pictures in the store have."""
        with self._database.reading() as connection:
            return int(connection.scalar(sa.select(sa.func.sum(pictures.c.bytes))) or 0)

    # The outbox

    def unsent(self, channel: str, limit: int = 100) -> list[Row]:
        """Return rows that were not acknowledged on a channel yet and are not parked, the oldest first."""
        waiting = sa.select(outbox.c.verdict).where(outbox.c.channel == channel, ~outbox.c.parked)
        first = waiting.order_by(outbox.c.verdict).limit(limit)
        with self._database.reading() as connection:
            return _rows(connection, verdicts.c.id.in_(list(connection.scalars(first))))

    def mark_sent(self, channel: str, ids: Iterable[int]) -> None:
        """Take rows off a channel: its other end has acknowledged them."""
        self._at(channel, ids, sa.delete(outbox))

    def park(self, channel: str, ids: Iterable[int]) -> None:
        """Set rows of a channel aside: its other end does not want them; they stay until `unpark`."""
        self._at(channel, ids, sa.update(outbox).values(parked=True))

    def unpark(self, channel: str) -> None:
        """Let the parked rows of a channel be sent once more."""
        with self._database.writing() as connection:
            connection.execute(sa.update(outbox).where(outbox.c.channel == channel).values(parked=False))

    def _at(self, channel: str, ids: Iterable[int], what: sa.Delete | sa.Update) -> None:
        numbers = list(ids)
        with self._database.writing() as connection:
            for start in range(0, len(numbers), _MOST):
                part = outbox.c.verdict.in_(numbers[start : start + _MOST])
                connection.execute(what.where(outbox.c.channel == channel, part))

    # Retention

    def prune(self, remove: Callable[[str], object] = lambda digest: None) -> Pruned:
        """Remove what is too old or too much; rows with a person's label or note stay, as do unsent ones.

        Args:
            remove: takes the digest of a picture out of the store; called before the database forgets it, so
                that a process killed in between does it again.
        """
        now = datetime.now(UTC)
        rows = 0
        old = ""
        if self.keep_days is not None:
            old = stamp(now - timedelta(days=self.keep_days))
            rows = self._remove_rows(old)
        gone = freed = 0
        while going := self._going(old, stamp(now - _FRESH)):
            for digest in going:
                remove(digest)
            with self._database.writing() as connection:
                connection.execute(sa.delete(pictures).where(pictures.c.digest.in_(list(going))))
                theirs = sa.select(verdicts.c.id).where(verdicts.c.digest.in_(list(going)))
                connection.execute(sa.delete(maps).where(maps.c.verdict.in_(theirs)))
            gone, freed = gone + len(going), freed + sum(going.values())
        return Pruned(rows, gone, freed)

    def _remove_rows(self, old: str) -> int:
        """Remove rows from before a time, and return how many."""
        stays = verdicts.c.corrected_at.is_not(None) | verdicts.c.id.in_(sa.select(outbox.c.verdict))
        going = sa.select(verdicts.c.id).where(verdicts.c.time < old, ~stays).limit(_MOST)
        removed = 0
        while True:
            with self._database.writing() as connection:
                ids = list(connection.scalars(going))
                connection.execute(sa.delete(maps).where(maps.c.verdict.in_(ids)))
                connection.execute(sa.delete(verdicts).where(verdicts.c.id.in_(ids)))
            removed += len(ids)
            if len(ids) < _MOST:
                return removed

    def _going(self, old: str, fresh: str) -> Mapping[str, int]:
        """Return digests and sizes of the pictures that go next: too old, or the oldest of too many."""
        excess = self.picture_bytes() - self.keep_bytes if self.keep_bytes is not None else 0
        oldest = sa.select(pictures).where(pictures.c.last < fresh).order_by(pictures.c.last).limit(_GOING)
        going: dict[str, int] = {}
        with self._database.reading() as connection:
            for digest, size, last in connection.execute(oldest):
                if last >= old and excess <= 0:
                    break
                going[digest] = size
                excess -= size
        return going


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    """Return what rows must fulfil to be let through, whatever the page."""
    table = verdicts.c
    by_verdict: dict[str, sa.ColumnElement[bool]] = {
        "anomalous": table.anomalous.is_(True),
        "normal": table.anomalous.is_(False),
        "none": table.anomalous.is_(None),
        "corrected": table.corrected_at.is_not(None),
    }
    found: list[sa.ColumnElement[bool]] = []
    if wanted.detector is not None:
        found.append(table.detector == wanted.detector)
    if wanted.verdict is not None:
        found.append(by_verdict[wanted.verdict])
    if wanted.since is not None:
        found.append(table.time >= wanted.since)
    if wanted.until is not None:
        found.append(table.time < wanted.until)
    if wanted.text:
        named = verdicts.alias()  # an index of names is smaller than the table
        alike = named.c.name.icontains(wanted.text, autoescape=True)
        noted = named.c.note.icontains(wanted.text, autoescape=True)
        found.append(table.id.in_(sa.select(named.c.id).where(alike | noted)))
    return found


def _after(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    """Return what rows must fulfil to come after the cursor."""
    if wanted.place is None:
        return []
    at, id = wanted.place
    if wanted.order == "highest":
        return [sa.tuple_(verdicts.c.rank, verdicts.c.id) < sa.tuple_(sa.literal(at), sa.literal(id))]
    return [verdicts.c.id < id if wanted.order == "newest" else verdicts.c.id > id]


def _rows(
    connection: sa.Connection,
    *conditions: sa.ColumnElement[bool],
    order: Filter | None = None,
    limit: int | None = None,
) -> list[Row]:
    has_picture = pictures.c.digest.is_not(None).label("has_picture")
    has_map = maps.c.verdict.is_not(None).label("has_map")
    columns = [column for column in verdicts.columns if column.name != "rank"]
    joined = verdicts.outerjoin(pictures, pictures.c.digest == verdicts.c.digest)
    joined = joined.outerjoin(maps, maps.c.verdict == verdicts.c.id)
    ways: dict[str, list[sa.ColumnElement[Any]]] = {
        "newest": [verdicts.c.id.desc()],
        "oldest": [verdicts.c.id.asc()],
        "highest": [verdicts.c.rank.desc(), verdicts.c.id.desc()],
    }
    query = sa.select(*columns, has_picture, has_map).select_from(joined).where(*conditions)
    query = query.order_by(*ways["oldest" if order is None else order.order]).limit(limit)
    return [Row(**dict(row)) for row in connection.execute(query).mappings()]


def _one(rows: list[Row], id: int) -> Row:
    if not rows:
        raise InputError(f"there is no picture number {id} in the history; it may have been too old to keep")
    return rows[0]


def _number(id: int) -> int:
    """Return an id that a database can hold; no row has another."""
    return id if 0 <= id < 1 << 63 else -1
