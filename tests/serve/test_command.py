"""The real command: what it refuses, and what it withstands."""

from __future__ import annotations

import signal
import socket
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from killing import RWDA, kill_often, running
from serving import files, photo, verdict

from command import lines, refused, run
from zeroflaw.serve.database import FILE
from zeroflaw.serve.history import History

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


def test_it_answers_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_bytes(photo(2, size=(90, 120)))
    with running("--history", tmp_path / "history") as command:
        sent = files((tmp_path / "x.png").read_bytes())
        answer = httpx.post(f"{command.url}/v1/detect", files=sent, timeout=60)
        assert answer.status_code == 200, answer.text
        [row] = answer.json()["results"]
        loaded = Path(f"/proc/{command.process.pid}/maps")
        if loaded.exists():
            assert "libtorch" not in loaded.read_text()
        assert httpx.get(f"{command.url}/v2/health/ready").status_code == 200
        assert command.end() == 0
    assert run("detect", tmp_path / "x.png", "--detector", RWDA, "-q") == 0
    [wanted] = lines(capsys.readouterr().out)
    assert row["record"]["source"] == "0.png"
    assert row["record"].keys() == wanted.keys()
    assert row["record"]["logit"] == pytest.approx(wanted["logit"], abs=1e-4)
    # Maps, which the service always draws, bring the scores of parts.
    found = {name: row["record"]["scores"][name] for name in wanted["scores"]}
    assert found == pytest.approx(wanted["scores"], abs=1e-4)
    assert row["record"]["size"] == wanted["size"]


def test_no_acknowledged_verdict_is_lost(tmp_path: Path) -> None:
    acknowledged, kept = kill_often(tmp_path, kills=3)
    assert 6 <= acknowledged <= kept


def test_too_many_are_told_to_come_later(tmp_path: Path) -> None:
    picture = photo(size=(60, 80))
    with running("--history", tmp_path, "--queue", 8) as command:

        def send(number: int) -> httpx.Response:
            with httpx.Client(timeout=120) as client:
                return client.post(f"{command.url}/v1/detect", files=files(picture))

        with ThreadPoolExecutor(32) as pool:  # four times what it can hold
            answers = list(pool.map(send, range(64)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
        assert send(0).status_code == 200
        found = httpx.get(f"{command.url}/v1/history", timeout=60).json()
        assert found["total"] == codes.count(200) + 1


def test_two_hundred_clients_at_once(tmp_path: Path) -> None:
    picture = photo()
    with running("--history", tmp_path) as command:
        gate = threading.Barrier(200)

        def send(number: int) -> int:
            with httpx.Client(timeout=180) as client:
                gate.wait()
                return client.post(f"{command.url}/v1/detect", files=files(picture)).status_code

        with ThreadPoolExecutor(200) as pool:
            codes = list(pool.map(send, range(200)))
        assert set(codes) <= {200, 429}
        assert codes.count(200) >= 64


def test_memory_does_not_grow(tmp_path: Path) -> None:
    pictures = [photo(seed=number, size=(200, 300)) for number in range(8)]
    with running("--history", tmp_path) as command, httpx.Client(base_url=command.url, timeout=60) as client:

        def resident(requests: int) -> int:
            for _ in range(requests):
                assert client.post("/v1/detect", files=files(*pictures)).status_code == 200
            status = Path(f"/proc/{command.process.pid}/status").read_text()
            return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

        before = resident(12)
        assert resident(18) < 1.1 * before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM] * 3)
def test_it_ends_in_peace_from_its_first_line_on(tmp_path: Path, number: signal.Signals) -> None:
    with running("--history", tmp_path) as command:
        assert command.end(number) == 0


def test_who_asks_for_a_websocket_is_answered_without_advice(tmp_path: Path) -> None:
    with running("--history", tmp_path) as command:
        wanted = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "eA=="}
        assert httpx.get(f"{command.url}/v1/status", headers=wanted, timeout=60).status_code == 200
        assert command.end() == 0
        assert len(command.said) == 1, command.said


def test_it_ends_what_it_has_begun(tmp_path: Path) -> None:
    with running("--history", tmp_path) as command:
        found: list[httpx.Response] = []

        def send() -> None:
            with httpx.Client(timeout=120) as client:
                found.append(client.post(f"{command.url}/v1/detect", files=files(*[photo()] * 24)))

        with httpx.stream("GET", f"{command.url}/v1/events", timeout=120) as events:
            sender = threading.Thread(target=send)
            sender.start()
            while not httpx.get(f"{command.url}/v1/status", timeout=60).json()["queue"]["waiting"]:
                time.sleep(0.01)
            assert command.end(signal.SIGTERM) == 0
            events.read()  # it ends, too
        sender.join()
    assert found[0].status_code == 200
    assert len(found[0].json()["results"]) == 24
    history = History.open(tmp_path)
    assert history.newest() == 24
    history.close()
    assert not (tmp_path / f"{FILE}-wal").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--host", "0.0.0.0"], 2, "give a token (--token-file FILE), or listen on 127.0.0.1"),
        (["--host", "no.such.host.invalid", "--token-file", "token"], 2, "cannot listen at no.such"),
        (["--token-file", "missing"], 2, "token file 'missing' does not exist"),
        (["--database", "mysql://x/y"], 2, "must be sqlite:////PATH or postgresql://"),
        (["--database", "postgresql://127.0.0.1:1/x"], 74, "cannot be opened"),
        (["--history", "file"], 74, "no folder for the history can be made"),
        ([str(RWDA)], 2, "two detectors would be called 'rwda'"),
        (["nowhere"], 4, "'nowhere' is not a saved detector"),
    ],
)  # fmt: skip
def test_what_it_refuses(
    options: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if any(option.startswith("postgresql:") for option in options):
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "token").write_text("a-token-of-more-than-16")
    refused(capsys, code, says, "serve", RWDA, "-q", *options)


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--history", tmp_path / "new", "--port", taken.getsockname()[1], "-q"]
        refused(capsys, 2, "give another --port", "serve", RWDA, *options)
    assert not (tmp_path / "new").exists()


def test_a_history_of_a_newer_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    History.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused(capsys, 74, "written by a newer version", "serve", RWDA, "--history", tmp_path, "-q")
    refused(capsys, 74, "written by a newer version", "history", "export", tmp_path)


# The history as files


def test_the_history_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History.open(tmp_path)
    history.add([verdict(f"{number}", number - 2.0, name="=cmd|' /C x'!A1") for number in range(5)])
    history.correct(1, "flawed", "+1")
    history.close()
    assert run("history", "export", tmp_path, "--verdict", "anomalous") == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4
    assert "./=cmd|" in table[1]
    assert run("history", "export", tmp_path, "-o", tmp_path / "x.csv", "-q") == 0
    text = (tmp_path / "x.csv").read_text("utf-8")
    assert text.count("\n") == 6
    assert "./+1" in text
    assert run("history", "export", tmp_path, "-o", tmp_path / "x.tab", "--format", "csv", "-q") == 0
    assert (tmp_path / "x.tab").read_text("utf-8") == text
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    assert run("history", "export", tmp_path, "-o", tmp_path / "x.PARQUET", "-q") == 0
    found = parquet.read_table(tmp_path / "x.PARQUET")
    assert found.num_rows == 5
    assert found.column("logit").to_pylist() == [-2, -1, 0, 1, 2]
    assert found.column("label").to_pylist()[0] == "flawed"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["nowhere"], 3, "there is no history in 'nowhere'"),
        ([".", "--format", "parquet"], 2, "give a file: -o history.parquet"),
        ([".", "-o", "h.xlsx"], 2, "'h.xlsx' must end in .csv or .parquet"),
        ([".", "-o", "history"], 2, "or give --format"),
        ([".", "--since", "soon"], 2, "since wants a date"),
    ],
)
def test_exports_that_are_refused(
    options: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    History.open(tmp_path).close()
    before = set(tmp_path.iterdir())
    refused(capsys, code, says, "history", "export", *options)
    assert set(tmp_path.iterdir()) == before
