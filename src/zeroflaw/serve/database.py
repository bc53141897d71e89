"""The database of the history: opened, brought up to date, and asked within transactions.

SQLite by default, in write-ahead mode with a flush to the disk at every commit: what was acknowledged
outlives a killed process and a lost supply. PostgreSQL by URL.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from zeroflaw.errors import HistoryError, UsageError, needing, printable, reason
from zeroflaw.files import file_size

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0002"
"""The migration that this version needs; databases with later ones are refused."""
FILE = "history.sqlite"
PATIENCE = 5.0  # seconds that a writer waits for another
_LARGEST = 1 << 50
_WRITES = "zeroflaw_writes"  # execution option of connections that will write
_NUMBER = 0x7A65726F  # of PostgreSQL's advisory lock while migrations run

metadata = sa.MetaData()
Json = sa.JSON(none_as_null=True)
# SQLite counts up only what is called INTEGER; PostgreSQL's would end at 2 ** 31.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("time", sa.String(27), nullable=False),
    sa.Column("detector", sa.String(200), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("logit", sa.Float(53)),
    sa.Column("rank", sa.Float(53), nullable=False),
    sa.Column("score", sa.Float(53)),
    sa.Column("threshold", sa.Float(53)),
    sa.Column("anomalous", sa.Boolean),
    sa.Column("p_value", sa.Float(53)),
    sa.Column("regions", Json),
    sa.Column("record", Json, nullable=False),
    sa.Column("milliseconds", sa.Float(53), nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("label", sa.String(8)),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("corrected_at", sa.String(27)),
    sa.UniqueConstraint("source", "key", name="verdicts_source_key"),
    sqlite_autoincrement=True,  # a number is not given again after the newest row went
)
maps = sa.Table(
    "maps",
    metadata,
    sa.Column("verdict", Id, primary_key=True, autoincrement=False),
    sa.Column("png", sa.LargeBinary, nullable=False),
)
pictures = sa.Table(
    "pictures",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("last", sa.String(27), nullable=False),
)
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("channel", sa.String(64), primary_key=True),
    sa.Column("verdict", Id, primary_key=True, autoincrement=False),
    sa.Column("parked", sa.Boolean, nullable=False, server_default=sa.false()),
)
watched = sa.Table(
    "watched",
    metadata,
    sa.Column("place", sa.String(32), primary_key=True),
    sa.Column("file", sa.String(64), primary_key=True),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
)


class Database:
    """Connections to a database whose tables are those of this version.

    Args:
        url: of SQLAlchemy: ``sqlite:////absolute/path`` or ``postgresql://...``.
        patience: seconds that a writer waits for another.

    Raises:
        HistoryError: it cannot be opened, or was written by a newer version.
        UsageError: the URL is none.
        MissingExtraError: the driver is not installed.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.url = _parsed(url)
        self.file = Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None
        self.name = f"'{printable(self.file)}'" if self.file else f"at '{self.url.render_as_string()}'"
        self._writing = threading.Lock()
        self._patience = patience
        self._inode: tuple[int, int] | None = None
        if self.file is not None:
            _prepare(self.file)
        with needing("a history in PostgreSQL", "postgres"):
            self._engine = self._made()
        self._migrate()

    @property
    def dialect(self) -> str:
        """ "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection that sees one state of the database.

        Raises:
            HistoryError: it cannot be read.
        """
        self._same_file()
        with self._in_words("read"), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection whose work is on the disk when the block has ended, or not at all.

        Raises:
            HistoryError: it cannot be written.
        """
        if not self._writing.acquire(timeout=self._patience):
            raise HistoryError(self._busy())
        try:
            self._same_file()
            with self._in_words("written"), self._engine.connect() as plain:
                connection = plain.execution_options(**{_WRITES: True})
                with connection.begin():
                    yield connection
            self._same_file(after=True)
        finally:
            self._writing.release()

    def check(self) -> None:
        """See that it can be read and may be written, without waiting for those who write.

        Raises:
            HistoryError: it cannot.
        """
        with self.reading() as connection:
            connection.execute(sa.select(sa.func.max(verdicts.c.id)))
        if self.file is not None:
            _see_writable(self.file)

    def close(self) -> None:
        """Close all connections; SQLite then folds its log into the database's file."""
        self._engine.dispose()

    def _made(self) -> sa.Engine:
        if self.file is None:
            return sa.create_engine(self.url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
        # A connection is used by one thread at a time, but not always by the same one.
        arguments = {"timeout": self._patience, "check_same_thread": False}
        engine = sa.create_engine(self.url, connect_args=arguments, poolclass=sa.QueuePool)
        sa.event.listen(engine, "connect", _set_up)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _same_file(self, *, after: bool = False) -> None:
        """Refuse to go on with a file that was removed, which SQLite would not notice; take up another one.

        Raises:
            HistoryError: the file has gone, also while it was written (``after``).
        """
        if self.file is None:
            return
        try:
            status = self.file.stat()
        except OSError as error:
            raise HistoryError(
                f"the history {self.name} has gone ({reason(error)}); put it back, or start the service "
                "again for a new one"
            ) from error
        found = (status.st_dev, status.st_ino)
        if self._inode is None or found == self._inode:
            self._inode = found
            return
        self._engine.dispose()
        if after:
            raise HistoryError(f"the history {self.name} was replaced while it was written; send again")
        self._inode = found
        self._migrate()

    @contextmanager
    def _in_words(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._said(error, done) from error

    def _said(self, error: SQLAlchemyError, done: str) -> HistoryError:
        text = reason(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")
        if "locked" in text or "lock timeout" in text:
            return HistoryError(self._busy())
        if "full" in text or "No space left" in text:
            return HistoryError(
                f"the history {self.name} cannot be {done}: the disk is full; make room on it, or keep "
                "pictures for a shorter time"
            )
        if "malformed" in text or "not a database" in text:
            return HistoryError(
                f"the history {self.name} is damaged ({text}); put back a copy of it, or give another place"
            )
        return HistoryError(f"the history {self.name} cannot be {done} ({text}); see that it can be used")

    def _busy(self) -> str:
        return f"the history {self.name} is locked by another program; end that, or try again later"

    def _migrate(self) -> None:
        """Bring the tables up to this version's."""
        with self._in_words("opened"), self._engine.connect() as plain:
            if sa.inspect(plain).has_table("alembic_version") and self._found(plain) == HEAD:
                return
            plain.rollback()
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                if self.file is None:  # other processes that open it wait here
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _NUMBER})
                script = ScriptDirectory(str(MIGRATIONS))
                context = MigrationContext.configure(
                    connection, opts={"fn": lambda found, _: script._upgrade_revs("head", found)}
                )
                with Operations.context(context):
                    context.run_migrations()

    def _found(self, connection: sa.Connection) -> str | None:
        """Return the last migration that was run.

        Raises:
            HistoryError: this version does not know it.
        """
        found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if found is not None and found > HEAD:
            raise HistoryError(
                f"the history {self.name} was written by a newer version of zeroflaw (its tables are number "
                f"{printable(found, 40)}, this version knows {HEAD}); update zeroflaw, or give another place"
            )
        return found


def _parsed(url: str) -> sa.URL:
    wanted = "sqlite:////PATH or postgresql://USER@HOST/NAME"
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UsageError(f"the URL of a database must be {wanted}, got '{printable(url, 60)}'") from error
    if backend == "sqlite" and parsed.database:
        return parsed.set(drivername="sqlite", database=str(Path(parsed.database).absolute()))
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise UsageError(f"the URL of a database must be {wanted}, got one of '{printable(backend, 60)}'")


def _prepare(file: Path) -> None:
    """Make the folder of a database's file, and see that it can be one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"no folder for the history can be made at '{printable(file.parent)}' ({reason(error)}); give "
            "another place"
        ) from error
    if file.exists():
        file_size(file, _LARGEST, "history", HistoryError)
    _see_writable(file)


def _see_writable(file: Path) -> None:
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise HistoryError(f"the history '{printable(file)}' cannot be written; check its permissions")


def _set_up(connection: sa.engine.interfaces.DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # One that reads first and then writes could be refused at once, whatever the patience.
    now = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if now else "BEGIN")
