"""Verdicts reach a webhook at least once, whatever it does in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receivers import Receiver, free_port, wait_until
from serving import verdict

from zeroflaw.errors import InputError, UsageError
from zeroflaw.serve.history import History
from zeroflaw.serve.notify import Address, Backoff, Webhook, event, parse_webhook, read_secret

QUICK = Backoff(first=0.05, most=0.2)
CHANNEL = "webhook:a"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History.open(tmp_path)
    yield opened
    opened.close()


def add(history: History, *keys: str) -> list[int]:
    found = [verdict(key, source="watch") for key in keys]
    return [row.id for row in history.add(found, channels=[CHANNEL])]


class Sending:
    """A webhook's sender, and what it said."""

    def __init__(self, history: History, receiver: Receiver, **more: Any) -> None:
        self.said: list[str] = []
        settings = {"backoff": QUICK, "timeout": 2.0, **more}
        address = parse_webhook(receiver.url)
        self.webhook = Webhook(history, CHANNEL, self.said.append, address=address, **settings)

    def __enter__(self) -> Sending:
        self.webhook.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.webhook.stop()


def ids(receiver: Receiver) -> list[int]:
    return [post.row["id"] for post in receiver.acknowledged]


def test_a_verdict_is_posted_once_and_signed(history: History) -> None:
    row = history.add([verdict("a", source="watch", name="line/ä.png")], channels=[CHANNEL])[0]
    with Receiver().listening() as receiver:
        with Sending(history, receiver, secret="s3cret") as sending:
            assert sending.webhook.drain(10)
        [post] = receiver.posts
    assert history.unsent(CHANNEL) == []
    assert post.headers["Content-Type"] == "application/json"
    assert post.row == {"event": event(row), **row.to_dict()}
    assert post.row["name"] == "line/ä.png"
    name, stamp = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    assert name == post.headers["Idempotency-Key"] == post.row["event"]
    assert abs(int(stamp) - time.time()) < 60
    signed = hmac.new(b"s3cret", f"{name}.{stamp}.".encode() + post.body, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    assert sending.said == []


def test_without_a_secret_nothing_is_signed(history: History) -> None:
    add(history, "a")
    with Receiver().listening() as receiver, Sending(history, receiver) as sending:
        assert sending.webhook.drain(10)
    assert "webhook-signature" not in receiver.posts[0].headers


def test_new_rows_are_sent_as_they_come_over_one_connection(history: History) -> None:
    with Receiver().listening() as receiver, Sending(history, receiver) as sending:
        first = add(history, *map(str, range(60)))
        sending.webhook.wake()
        assert sending.webhook.drain(30)
        assert ids(receiver) == first
        assert receiver.connections < 10
        later = add(history, "later")
        sending.webhook.wake()
        assert sending.webhook.drain(10)
    assert ids(receiver) == [*first, *later]


@pytest.mark.parametrize("trouble", [500, 503, 408, 429, "close", "half"])
def test_a_receiver_in_trouble_is_tried_again(history: History, trouble: int | str) -> None:
    wanted = add(history, "a", "b", "c")
    receiver = Receiver(plan=[trouble] * 4)
    with receiver.listening(), Sending(history, receiver) as sending:
        assert sending.webhook.drain(20)
    assert sorted(ids(receiver)) == wanted
    assert len(receiver.posts) == 7
    assert len({post.headers["Idempotency-Key"] for post in receiver.posts}) == 3
    assert "verdicts are kept and sent again" in sending.said[0]
    assert sending.said[-1] == "webhook: verdicts are received again"
    assert len(sending.said) <= 3  # not a line each time


def test_a_receiver_that_hangs_is_given_up_after_a_while(history: History) -> None:
    wanted = add(history, "a")
    receiver = Receiver(plan=["hang"])
    with receiver.listening(), Sending(history, receiver, timeout=0.3) as sending:
        assert sending.webhook.drain(20)
    assert ids(receiver) == wanted
    assert "gives no answer (timed out)" in sending.said[0]


def test_a_receiver_that_is_away_gets_all_when_it_is_back(history: History) -> None:
    receiver = Receiver(port=free_port())
    with Sending(history, receiver) as sending:
        wanted = add(history, *map(str, range(30)))
        sending.webhook.wake()
        wait_until(lambda: sending.said)
        assert "refused" in sending.said[0]
        with receiver.listening():
            assert sending.webhook.drain(20)
    assert ids(receiver) == wanted


@pytest.mark.parametrize(
    ("status", "says"), [(400, "400 Bad"), (401, "401"), (410, "410"), (302, "redirects")]
)
def test_what_is_refused_is_parked_and_tried_at_the_next_start(
    history: History, status: int, says: str
) -> None:
    wanted = add(history, "a", "b", "c")
    receiver = Receiver(always=status, headers={"Location": "http://127.0.0.1:1/elsewhere"})
    with receiver.listening():
        with Sending(history, receiver) as sending:
            assert sending.webhook.drain(10)
            time.sleep(0.3)
        assert len(receiver.posts) == 3  # each once
        assert says in sending.said[0]
        assert "3 verdicts refused" in sending.said[-1]
        receiver.always = 200
        with Sending(history, receiver) as sending:
            assert sending.webhook.drain(10)
    assert ids(receiver) == wanted


def test_one_row_that_is_refused_holds_up_no_other(history: History) -> None:
    bad, *others = add(history, "a", "b", "c")
    receiver = Receiver(plan=[400])
    with receiver.listening(), Sending(history, receiver) as sending:
        assert sending.webhook.drain(10)
    assert ids(receiver) == others
    history.unpark(CHANNEL)
    assert [row.id for row in history.unsent(CHANNEL)] == [bad]


def test_one_row_that_breaks_the_receiver_holds_up_no_other(history: History) -> None:
    poison, *others = add(history, "a", "b", "c")
    receiver = Receiver()
    answer = receiver._answer

    def breaks(handler: Any, post: Any) -> None:
        if post.row["id"] == poison:
            receiver.plan[:] = [500]
        answer(handler, post)

    receiver._answer = breaks  # type: ignore[method-assign]
    with receiver.listening(), Sending(history, receiver):
        wait_until(lambda: ids(receiver) == others)
    assert [row.id for row in history.unsent(CHANNEL)] == [poison]


def test_a_receiver_may_ask_for_time(history: History) -> None:
    add(history, "a")
    receiver = Receiver(plan=[429], headers={"Retry-After": "1"})
    with receiver.listening(), Sending(history, receiver) as sending:
        begin = time.monotonic()
        assert sending.webhook.drain(10)
        assert time.monotonic() - begin > 0.9


def test_what_was_not_sent_is_sent_by_the_next_process(history: History) -> None:
    receiver = Receiver(port=free_port())
    with Sending(history, receiver) as sending:
        wanted = add(history, "a", "b")
        sending.webhook.wake()
        wait_until(lambda: sending.said)
    with receiver.listening(), Sending(history, receiver) as sending:
        assert sending.webhook.drain(10)
    assert ids(receiver) == wanted


def test_a_sender_outlives_a_history_that_is_away(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = add(history, "a")
    unsent, faults = history.unsent, ["the disk is gone", "still"]

    def broken(channel: str, limit: int = 100) -> Any:
        if faults:
            raise OSError(5, faults.pop())
        return unsent(channel, limit)

    monkeypatch.setattr(history, "unsent", broken)
    with Receiver().listening() as receiver, Sending(history, receiver) as sending:
        wait_until(lambda: ids(receiver) == wanted)
    assert "nothing can be sent just now" in sending.said[0]


def test_an_unknown_certificate_is_no_receiver(history: History, tmp_path: Path) -> None:
    add(history, "a")
    with Receiver().listening() as receiver:
        address = parse_webhook(receiver.url)._replace(secure=True)
        said: list[str] = []
        webhook = Webhook(history, CHANNEL, said.append, address=address, backoff=QUICK, timeout=1.0)
        webhook.start()
        wait_until(lambda: said)
        webhook.stop()
    assert len(history.unsent(CHANNEL)) == 1
    assert receiver.posts == []


def test_stopping_does_not_wait_for_a_receiver_that_hangs(history: History) -> None:
    add(history, "a")
    receiver = Receiver(plan=["hang"])
    with receiver.listening(), Sending(history, receiver, timeout=20.0) as sending:
        wait_until(lambda: receiver.posts)
        begin = time.monotonic()
        sending.webhook.stop(0.2)
        assert time.monotonic() - begin < 2


def test_waits_grow_and_differ() -> None:
    waits = [[Backoff().seconds(failures) for _ in range(50)] for failures in range(1, 12)]
    assert all(min(one) >= 0.5 * 2**n and max(one) <= 2**n for n, one in enumerate(waits[:6]))
    assert all(30 <= wait <= 60 for wait in waits[-1])
    assert len(set(waits[0])) > 10


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://mes.local/a?b=c", Address(False, "mes.local", 80, "/a?b=c")),
        ("https://[::1]:8443", Address(True, "::1", 8443, "/")),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_webhook(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://a/b", "must be http"),
        ("mes.local/a", "must be http"),
        ("http:///a", "must be http"),
        ("http://a:99999/", "must be http"),
        ("http://a/b c", "must be http"),
        ("http://a/b\r\nX: y", "must be http"),
        ("http://user:word@a/b", "no user or password"),
    ],
)
def test_urls_that_are_none(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        parse_webhook(url)
    assert "word" not in str(refused.value).replace("password", "")


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: History) -> None:
    monkeypatch.setenv("SECRET", " from-environment\n")
    assert read_secret(None, "SECRET", "secret") == "from-environment"
    assert read_secret(None, "NO_SUCH_SECRET", "secret") is None
    path = tmp_path / "secret"
    path.write_text("from-file\n")
    assert read_secret(path, "SECRET", "secret") == "from-file"
    path.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_secret(path, "SECRET", "secret")
    with pytest.raises(InputError, match="does not exist"):
        read_secret(tmp_path / "none", "SECRET", "secret")
    with pytest.raises(UsageError, match="Base64 does not follow"):
        Webhook(history, CHANNEL, print, address=parse_webhook("http://a/"), secret="whsec_?")


def test_a_secret_of_the_standard_is_decoded(history: History) -> None:
    add(history, "a")
    secret = "whsec_" + base64.b64encode(b"bytes").decode()
    with Receiver().listening() as receiver, Sending(history, receiver, secret=secret) as sending:
        assert sending.webhook.drain(10)
    [post] = receiver.posts
    text = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    wanted = base64.b64encode(hmac.digest(b"bytes", text, "sha256")).decode()
    assert post.headers["webhook-signature"] == f"v1,{wanted}"


def test_certificates_are_checked_by_default(history: History) -> None:
    webhook = Webhook(history, CHANNEL, print, address=parse_webhook("https://a/"))
    assert webhook._tls is not None
    assert webhook._tls.verify_mode == ssl.CERT_REQUIRED
