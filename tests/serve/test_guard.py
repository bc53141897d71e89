"""What no request gets past, and what every answer carries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import files, photo, serving
from starlette.testclient import TestClient

from zeroflaw.errors import UsageError
from zeroflaw.serve import security
from zeroflaw.serve.security import COOKIE, Rules, Tokens, is_loopback

TOKEN = "a-token-of-more-than-16"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("guard")) as (found, _):
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("locked"), token=TOKEN) as (found, _):
        yield found


@pytest.mark.parametrize(
    "host", ["evil.com", "127.0.0.1.evil.com", "", "127.0.0.1:x", "192.168.0.1", "[::2]", "a b"]
)
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/v1/status", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["detail"].endswith("--allow-host NAME")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8765"])
def test_our_hosts_are_served(client: TestClient, host: str) -> None:
    assert client.get("/v1/status", headers={"Host": host}).status_code == 200


def test_names_can_be_added_and_addresses_lead_nowhere_else() -> None:
    rules = Rules.at("0.0.0.0", ["Line3.example"])
    assert rules.knows("line3.example:80")
    assert rules.knows("10.0.0.7:8765")
    assert not rules.knows("evil.com")
    assert not Rules.at("127.0.0.1").knows("10.0.0.7")
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "line3", "10.0.0.1"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8765.evil.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_strangers_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    said = {"id": 1, "label": "good"}
    for answer in (
        client.post("/v1/feedback", json=said, headers=headers),
        client.post("/v1/detect", files=files(photo()), headers=headers),
        client.delete("/v1/session", headers=headers),
        client.put("/v1/history", headers=headers),
    ):
        assert answer.status_code == 403
    assert "access-control-allow-origin" not in client.options("/v1/detect", headers=headers).headers


def test_every_answer_is_guarded(client: TestClient) -> None:
    for path in ("/", "/v1/status", "/nothing", "/v1/history?limit=x", "/static/../app.py", "/metrics"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers
    refused = client.get("/", headers={"Host": "evil.com"})
    assert refused.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%5capp.py"]
)
def test_only_the_page_is_static(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..\\..\\x", "/abs.png", "a\0b.png", "<img src=x>", "\u202egnp.exe", "x" * 5000],
)
def test_names_are_only_names(
    client: TestClient, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answer = client.post(
        "/v1/detect", content=photo(), params={"name": name}, headers={"Content-Type": "image/png"}
    )
    kept = answer.json()["results"][0]["name"]
    assert kept.isprintable()
    assert len(kept) <= 220
    folder = tmp_path_factory.getbasetemp()
    assert not [path for path in folder.rglob("*") if path.name in ("passwd", "abs.png", "x")]


def test_bodies_are_counted(client: TestClient) -> None:
    rules = 64 * 2**10
    large = b"[" + b" " * rules
    headers = {"Content-Type": "application/json"}
    assert client.post("/v1/feedback", content=large, headers=headers).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    answer = client.post("/v1/feedback", content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert "65,536 bytes" in answer.json()["detail"]
    for wrong in ("-1", "1e3", "9" * 30, "\u0661"):
        answer = client.post("/v1/feedback", content=b"{}", headers={"Content-Length": wrong.encode()})
        assert answer.status_code == 413


def test_a_token_is_wanted(locked: TestClient) -> None:
    for path in ("/v1/status", "/v1/history", "/metrics", "/v2/models/red", "/openapi.json", "/v1/events"):
        answer = locked.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.post("/v1/detect", files=files(photo())).status_code == 401
    assert locked.get("/v2/health/ready").status_code == 200
    assert locked.get("/").status_code in (200, 404)
    assert locked.get("/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in ("Bearer no", f"Basic {TOKEN}", TOKEN, "Bearer " + "\u00e9", ""):
        assert locked.get("/v1/status", headers={"Authorization": wrong.encode()}).status_code == 401


def test_a_session_is_as_good_as_a_token(locked: TestClient) -> None:
    start = time.monotonic()
    assert locked.post("/v1/session", json={"token": "no"}).status_code == 401
    assert time.monotonic() - start >= 0.5  # guesses take their time
    answer = locked.post("/v1/session", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/v1/status").status_code == 200
    locked.delete("/v1/session")
    assert locked.get("/v1/status").status_code == 401
    kept = {"Cookie": cookie.partition(";")[0]}  # a copy holds on, as docs/api.md says
    assert locked.get("/v1/status", headers=kept).status_code == 200


def test_sessions_end_and_cannot_be_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(TOKEN)
    session = tokens.session()
    assert tokens.is_session(session)
    assert not Tokens("another-token-of-16").is_session(session)
    until, rest = session.split(".", 1)
    assert not tokens.is_session(f"{int(until) + 9}.{rest}")
    for wrong in ("", ".", "..", "x.y.z", session[:-1], "\u00e9.\u00e9.\u00e9"):
        assert not tokens.is_session(wrong)
    now = time.time()
    monkeypatch.setattr(security.time, "time", lambda: now + security.SESSION + 1)
    assert not tokens.is_session(session)
    assert security.cookie(f"a=b; {COOKIE}=x.y") == "x.y"
    assert security.cookie("\0=;;;{}") == ""


@pytest.mark.parametrize("text", ["", "short", "two words that are long", "\u00e9" * 20, "a" * 20 + "\nb"])
def test_token_files_hold_a_token(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="must hold one line of at least 16"):
        Tokens.read(tmp_path / "token")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert Tokens.read(tmp_path / "token").is_token(TOKEN)
