"""What comes over the wire from clients that do not keep to the rules, byte by byte."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving import on_socket, photo, wait_for

from zeroflaw.serve import security
from zeroflaw.serve.service import Settings


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service on a real socket, in a thread, whose patience is short."""
    patience = pytest.MonkeyPatch()
    patience.setattr(security, "GRACE", 1.0)
    with on_socket(tmp_path_factory.mktemp("wire"), Settings(places=8, largest=1_000_000)) as found:
        yield found
    patience.undo()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as wire:
        yield wire


def head(body: str = "", path: str = "/v1/detect", kind: str = "image/png", host: str = "127.0.0.1") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n{body}\r\n".encode()


def answered(wire: socket.socket) -> tuple[int, bytes]:
    """Return status and the rest of what comes until the other side closes, or falls silent."""
    found = b""
    try:
        while part := wire.recv(65536):
            found += part
            if b"\r\n\r\n" in found and b'"detail"' in found:
                break
    except (TimeoutError, ConnectionResetError):
        pass
    status = found.split(b" ", 2)[1] if found else b"0"
    return int(status), found


def ask(port: int, *parts: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    with connected(port) as wire:
        try:
            for part in parts:
                wire.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was told before all was sent, and hung up
        return answered(wire)


def still_serves(port: int) -> bool:
    data = photo()
    status, _ = ask(port, head(f"Content-Length: {len(data)}\r\nConnection: close\r\n"), data)
    return status == 200


def test_a_sender_that_stops_is_not_waited_for(port: int) -> None:
    with connected(port) as wire:
        wire.sendall(head("Content-Length: 500\r\n") + b"\x89PNG")
        assert still_serves(port)  # meanwhile
        status, said = answered(wire)
    assert status == 408
    assert b"too slowly" in said


def test_a_slow_sender_holds_no_place(port: int) -> None:
    wires = [socket.create_connection(("127.0.0.1", port), timeout=15) for _ in range(12)]
    for wire in wires:
        wire.sendall(head("Content-Length: 500\r\n") + b"\x89PNG")
    time.sleep(0.2)
    found = [answered(wire)[0] for wire in wires]
    for wire in wires:
        wire.close()
    assert set(found) == {408, 429}
    assert still_serves(port)


def test_a_body_that_is_longer_than_it_may_be(port: int) -> None:
    chunk = b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n"
    status, said = ask(port, head("Transfer-Encoding: chunked\r\n"), *[chunk] * 40)
    assert status == 413 or not said
    status, said = ask(port, head("Content-Length: 99999999\r\n"))
    assert status == 413
    assert b"1,000,000 bytes" in said
    assert still_serves(port)


def test_a_length_that_lies(port: int) -> None:
    data = photo()
    status, _ = ask(port, head(f"Content-Length: {len(data) // 2}\r\n"), data)  # the rest is another request
    assert status == 415
    status, _ = ask(port, head("Content-Length: 5\r\nContent-Length: 6\r\n"), b"12345")
    assert status == 400
    status, _ = ask(port, head("Content-Length: -5\r\n"), b"12345")
    assert status in (400, 413)
    status, _ = ask(port, head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), b"0\r\n\r\n")
    assert status in (400, 415)
    assert still_serves(port)


def test_hosts_that_are_missing_or_many(port: int) -> None:
    assert ask(port, b"GET / HTTP/1.1\r\n\r\n")[0] == 400
    assert ask(port, b"GET /v1/status HTTP/1.0\r\n\r\n")[0] == 421
    status, _ = ask(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.com\r\n\r\n")
    assert status in (400, 421)
    status, _ = ask(port, b"GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    assert status in (400, 421)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 100_000,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
    ids=["TLS", "version", "no line", "long header", "long path", "chunks"],
)
def test_junk_is_a_bad_request(port: int, junk: bytes) -> None:
    assert ask(port, junk)[0] in (0, 400, 404, 415, 421, 431, 505)
    assert still_serves(port)


def test_a_sender_that_leaves_is_forgotten(port: int) -> None:
    for _ in range(20):
        with connected(port) as wire:
            wire.sendall(head("Content-Length: 5000\r\n") + photo()[:40])
    wait_for(lambda: still_serves(port))


def test_a_thousand_files_in_a_request(port: int) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n'
    body = part * 1000 + b"--x--\r\n"
    status, said = ask(
        port, head(f"Content-Length: {len(body)}\r\n", kind="multipart/form-data; boundary=x"), body
    )
    assert status == 413
    assert b"at most 8 pictures" in said
    fields = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 1000 + b"--x--\r\n"
    status, _ = ask(
        port, head(f"Content-Length: {len(fields)}\r\n", kind="multipart/form-data; boundary=x"), fields
    )
    assert status == 413
    assert still_serves(port)
