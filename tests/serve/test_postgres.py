"""The history in PostgreSQL, by a server of the system that is started for these tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import verdict

from zeroflaw.errors import HistoryError
from zeroflaw.serve.history import History
from zeroflaw.serve.records import Filter

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or not PROGRAMS, reason="PostgreSQL's server is not installed"
    ),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv, which it takes as root, is not there"),
]


def _as_server(*command: object) -> list[str]:
    """Return a command as a user that the server runs as: not root."""
    said = [str(part) for part in command]
    if os.geteuid() != 0:
        return said
    user = next(
        name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()}
    )
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", *said]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database; the server listens at a socket in a folder of its own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    home = Path(tempfile.mkdtemp(prefix="zeroflaw-pg-"))  # short: a socket's path has at most 107 bytes
    home.chmod(0o777)
    programs = PROGRAMS[-1].parent
    data = home / "data"

    def run(*command: object) -> None:
        subprocess.run(_as_server(*command), check=True, capture_output=True, cwd=home, timeout=120)

    try:
        run(programs / "initdb", "-D", data, "-U", "line", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-k {home} -c listen_addresses= -c fsync=off"
        run(programs / "pg_ctl", "-D", data, "-o", options, "-l", home / "log", "-w", "start")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(home, ignore_errors=True)
        pytest.skip(f"PostgreSQL's server does not start here: {getattr(error, 'stderr', error)!r}")
    yield f"postgresql://line@/postgres?host={home}"
    run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def history(server: str) -> Iterator[History]:
    opened = History.open(server)
    yield opened
    opened.close()


def test_it_does_what_sqlite_does(history: History) -> None:
    first = history.add([verdict("a", 2.0, picture_bytes=10), verdict("b", -1.0)], channels=["webhook"])
    assert history.add([verdict("a", 3.0)])[0] == first[0]
    assert [row.key for row in history.find(Filter(order="highest")).rows] == ["a", "b"]
    page = history.find(Filter(order="highest", limit=1))
    assert [row.key for row in history.find(Filter(order="highest", cursor=page.next)).rows] == ["b"]
    assert history.find(Filter(text="A.PNG", verdict="anomalous", detector="bottle")).total == 1
    assert history.correct(first[1].id, "flawed", "seen").label == "flawed"
    assert history.find(Filter(verdict="corrected")).total == 1
    assert history.map(first[0].id) is not None
    assert history.known("http", ["a", "z"]) == {"a"}
    assert [row.key for row in history.unsent("webhook")] == ["a", "b"]
    history.mark_sent("webhook", [first[0].id])
    assert [row.key for row in history.unsent("webhook")] == ["b"]
    assert history.picture_bytes() == 10
    assert "line@" in history.name


def test_processes_add_side_by_side(server: str) -> None:
    histories = [History.open(server) for _ in range(3)]

    def work(own: History, number: int) -> None:
        for n in range(20):
            own.add([verdict(f"{number} {n}"), verdict(f"same {n}")])

    threads = [threading.Thread(target=work, args=pair) for pair in zip(histories, range(3), strict=True)]
    before = histories[0].find(Filter()).total
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histories[0].find(Filter()).total == before + 80
    for one in histories:
        one.close()


def test_a_database_that_is_not_there(server: str) -> None:
    with pytest.raises(HistoryError) as refused:
        History.open(server.replace("/postgres?", "/nothing?"))
    assert len(str(refused.value).splitlines()) == 1
