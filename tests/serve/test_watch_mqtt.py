"""Verdicts on the topic of a real broker, which goes, comes back, refuses, and loses nothing."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receivers import Listener, broker, free_port, needs_mosquitto, wait_until
from serving import verdict

from zeroflaw.errors import UsageError
from zeroflaw.serve.history import History
from zeroflaw.serve.mqtt import Broker, Mqtt, parse_mqtt
from zeroflaw.serve.notify import Backoff, event

CHANNEL = "mqtt:a"
TOPIC = "line 3/verdicts"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History.open(tmp_path / "history")
    yield opened
    opened.close()


def add(history: History, *keys: str) -> list[int]:
    found = [verdict(key, source="watch") for key in keys]
    return [row.id for row in history.add(found, channels=[CHANNEL])]


class Sending:
    """A sender to a broker, and what it said."""

    def __init__(self, history: History, port: int, user: str | None = None, **more: Any) -> None:
        self.said: list[str] = []
        place = Broker(False, "127.0.0.1", port, TOPIC, user)
        settings: dict[str, Any] = {"broker": place, "backoff": Backoff(first=0.2, most=1.0), **more}
        self.mqtt = Mqtt(history, CHANNEL, self.said.append, **settings)

    def __enter__(self) -> Sending:
        self.mqtt.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.mqtt.stop()


@needs_mosquitto
def test_verdicts_are_published_and_we_are_said_to_be_there(history: History, tmp_path: Path) -> None:
    port = free_port()
    with broker(port, tmp_path / "broker"):
        listener = Listener(port, TOPIC)
        row = history.add([verdict("a", source="watch", name="ä.png")], channels=[CHANNEL])[0]
        with Sending(history, port) as sending:
            assert sending.mqtt.drain(20)
            later = add(history, *map(str, range(60)))
            sending.mqtt.wake()
            assert sending.mqtt.drain(20)
            wait_until(lambda: len(listener.rows(TOPIC)) == 61)
            assert listener.states(TOPIC) == ["online"]
        wait_until(lambda: listener.states(TOPIC) == ["online", "offline"])
        listener.close()
        late = Listener(port, TOPIC, "late")  # is told by the broker what was retained
        wait_until(lambda: late.messages)
        assert late.messages == [(f"{TOPIC}/availability", b"offline", True)]
        late.close()
    first, *others = listener.rows(TOPIC)
    assert first == {"event": event(row), **row.to_dict()}
    assert [one["id"] for one in others] == later
    assert sending.said == []


@needs_mosquitto
def test_a_broker_that_is_away_gets_all_when_it_is_back(history: History, tmp_path: Path) -> None:
    port = free_port()
    with Sending(history, port) as sending:
        wanted = add(history, "a", "b")
        sending.mqtt.wake()
        wait_until(lambda: sending.said)
        assert "cannot be reached" in sending.said[0]
        with broker(port, tmp_path / "broker") as process:
            listener = Listener(port, TOPIC)
            assert sending.mqtt.drain(20)
            process.terminate()
            process.wait()
            wanted += add(history, *map(str, range(20)))
            sending.mqtt.wake()
            wait_until(lambda: len(sending.said) > 2)
        assert len(history.unsent(CHANNEL)) == 20
        with broker(port, tmp_path / "broker"):
            wait_until(listener.subscribed.is_set)
            more = add(history, "last")
            sending.mqtt.wake()
            assert sending.mqtt.drain(20)
            wait_until(lambda: listener.rows(TOPIC) and listener.rows(TOPIC)[-1]["id"] == more[0])
        listener.close()
    # What the broker got while nobody listened, it had for nobody; it was acknowledged all the same.
    assert history.unsent(CHANNEL) == []
    assert sending.said[1] == "mqtt: verdicts are received again"
    assert len(sending.said) < 8


@needs_mosquitto
def test_nothing_is_lost_while_the_broker_goes_and_comes(history: History, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "broker"
    wanted: list[int] = []
    seen: list[int] = []
    with Sending(history, port) as sending:
        for turn in range(3):
            with broker(port, folder):
                listener = Listener(port, TOPIC)
                for number in range(10):
                    wanted += add(history, f"{turn}-{number}")
                    sending.mqtt.wake()
                    time.sleep(0.01)
                assert sending.mqtt.drain(20)
                wait_until(lambda listener=listener: len({r["id"] for r in listener.rows(TOPIC)}) == 10)
                seen += [row["id"] for row in listener.rows(TOPIC)]
                listener.close()
    assert sorted(set(seen)) == wanted


@needs_mosquitto
def test_a_refused_login_is_said_and_nothing_is_lost(history: History, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "broker"
    folder.mkdir()
    tool = "mosquitto_passwd"
    passwords = folder / "passwords"
    subprocess.run([tool, "-b", "-c", str(passwords), "line", "right"], check=True, capture_output=True)
    passwords.chmod(0o644)
    with broker(port, folder, "allow_anonymous false", f"password_file {passwords}"):
        wanted = add(history, "a")
        for login in ({}, {"user": "line", "password": "wrong"}):
            with Sending(history, port, **login) as sending:
                wait_until(lambda sending=sending: sending.said)
                assert "refuses us" in sending.said[0]
                assert "uthori" in sending.said[0] or "password" in sending.said[0]
                assert len(history.unsent(CHANNEL)) == 1
        listener = Listener(port, TOPIC, username="line", password="right")
        with Sending(history, port, user="line", password="right") as sending:
            assert sending.mqtt.drain(20)
            wait_until(lambda: [row["id"] for row in listener.rows(TOPIC)] == wanted)
        listener.close()


@needs_mosquitto
def test_a_killed_sender_is_said_to_be_gone(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import sys, time; from pathlib import Path\n"
        "from zeroflaw.serve.history import History; from zeroflaw.serve.mqtt import Broker, Mqtt\n"
        "history = History.open(sys.argv[1])\n"
        f"broker = Broker(False, '127.0.0.1', {port}, {TOPIC!r}, None)\n"
        f"Mqtt(history, {CHANNEL!r}, print, broker=broker).start(); time.sleep(60)\n"
    )
    with broker(port, tmp_path / "broker"):
        listener = Listener(port, TOPIC)
        for turn in (1, 2):
            process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "history")])
            wait_until(lambda turn=turn: len(listener.states(TOPIC)) == 2 * turn - 1, 40)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_until(lambda turn=turn: listener.states(TOPIC) == ["online", "offline"] * turn)
        listener.close()


def test_stopping_without_a_broker_takes_no_time(history: History) -> None:
    add(history, "a")
    with Sending(history, free_port()) as sending:
        wait_until(lambda: sending.said)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    assert len(history.unsent(CHANNEL)) == 1


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mqtt://plc/line/3", Broker(False, "plc", 1883, "line/3", None)),
        ("mqtts://me@plc:8884/a%20b", Broker(True, "plc", 8884, "a b", "me")),
    ],
)
def test_urls(url: str, place: Broker) -> None:
    assert parse_mqtt(url) == place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://plc/a", "must be mqtt"),
        ("mqtt://plc", "with a topic"),
        ("mqtt://plc/", "with a topic"),
        ("mqtt://plc/a/%23", "with a topic"),
        ("mqtt://plc/+/a", "with a topic"),
        ("mqtt://plc/a?b", "must be mqtt"),
        ("mqtt:///a", "must be mqtt"),
        ("mqtt://plc:x/a", "must be mqtt"),
        ("mqtt://me:word@plc/a", "takes no password"),
    ],
)
def test_urls_that_are_none(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_mqtt(url)


def test_certificates_are_checked_by_default(history: History) -> None:
    mqtt = Mqtt(history, CHANNEL, print, broker=Broker(True, "plc", 8883, "a", None))
    assert mqtt._client._ssl_context is not None
    assert mqtt._client._ssl_context.verify_mode == ssl.CERT_REQUIRED
