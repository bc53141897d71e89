"""A webhook and a broker on this machine, that do well or badly as they are told."""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="the broker mosquitto is not installed")


def wait_until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something, and fail where it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Post:
    """What a webhook was sent."""

    headers: dict[str, str]
    body: bytes

    @property
    def row(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """A webhook: answers by ``plan``, one after the other, and at last with 204.

    An entry of the plan is a status, or "hang" (no answer), "close" (no answer, connection closed) or "half"
    (part of an answer).
    """

    port: int = 0
    plan: list[int | str] = field(default_factory=list)
    always: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    acknowledged: list[Post] = field(default_factory=list)
    connections: int = 0
    _free: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Receiver]:
        """Listen, until the block ends."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # the sender was killed between the head and the body: nothing was said
                receiver._answer(self, Post(dict(self.headers), body))

            @override
            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            @override
            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # the other end went, as it does in these tests

        with Server(("127.0.0.1", self.port), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield self
            finally:
                self._free.set()
                server.shutdown()
                thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, post: Post) -> None:
        self.posts.append(post)
        what = self.plan.pop(0) if self.plan else self.always
        if isinstance(what, str):
            handler.close_connection = True
            if what == "half":
                handler.wfile.write(b"HTTP/1.1 20")
            if what == "hang":
                self._free.wait(30)
            return
        if 200 <= what < 300:
            self.acknowledged.append(post)
        handler.send_response(what)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/verdicts"


@contextlib.contextmanager
def broker(port: int, folder: Path, *lines: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker, until the block ends; ``lines`` are its configuration beside the port."""
    assert MOSQUITTO is not None
    folder.mkdir(exist_ok=True)
    rules = lines or ("allow_anonymous true",)
    config = folder / "mosquitto.conf"
    us = getpass.getuser()  # else it becomes another user, who may not read our files
    lines = (f"listener {port} 127.0.0.1", "persistence false", f"user {us}", *rules, "")
    config.write_text("\n".join(lines), "utf-8")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=said)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "said").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Listener:
    """A client that keeps all that is published below a topic, and comes back after a broker went."""

    def __init__(self, port: int, topic: str, name: str = "listener", **login: str) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, bytes, bool]] = []
        self.subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name)
        if login:
            self._client.username_pw_set(**login)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *rest: client.subscribe(f"{topic}/#", 1)
        self._client.on_subscribe = lambda *rest: self.subscribed.set()
        self._client.on_disconnect = lambda *rest: self.subscribed.clear()
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, message.payload, message.retain)
        )
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert self.subscribed.wait(20)

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """Return what was published on a topic."""
        return [json.loads(payload) for name, payload, _ in list(self.messages) if name == topic]

    def states(self, topic: str) -> list[str]:
        """Return what was said about availability."""
        wanted = f"{topic}/availability"
        return [payload.decode() for name, payload, _ in list(self.messages) if name == wanted]

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()
