"""Telling others about verdicts, each in a thread of its own, from what the history has not sent yet.

A verdict is taken off the history's list when its receiver has acknowledged it: it is sent at least once,
over restarts and losses of power, and carries an ``event`` by which doubles are dropped. Receivers that are
away or slow hold up nothing but their own list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import random
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override

from zeroflaw._version import __version__
from zeroflaw.errors import InputError, UsageError, ZeroflawError, printable, reason
from zeroflaw.files import read_text
from zeroflaw.serve.history import History
from zeroflaw.serve.records import Row

AT_ONCE = 50  # rows that are taken from the history
TOGETHER = 10  # acknowledged rows that are taken off the list together; after a kill they are sent again
IDLE = 30.0  # seconds after which the history is asked again, in case another process has added to it
LARGEST_SECRET = 4096  # bytes
_LARGEST_ANSWER = 1 << 16
_LONGEST_WAIT = 3600  # seconds that a receiver may ask us to wait
_TRY_AGAIN = {408, 425, 429}

Tell = Callable[[str], object]


def event(row: Row) -> str:
    """Return what names a verdict for receivers: the same whenever it is sent, another for every row."""
    return hashlib.sha256(f"{row.source}\n{row.key}\n{row.time}".encode()).hexdigest()[:32]


def message(row: Row) -> bytes:
    """Return a verdict as JSON in UTF-8: the row of the history and its ``event``."""
    body = {"event": event(row)} | row.to_dict()
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def read_secret(path: Path | None, variable: str, what: str) -> str | None:
    """Return a secret from a file or from the environment, without white space around it.

    Args:
        path: of the file; it comes first.
        variable: name of the environment variable.
        what: what it is to the user.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    if path is None:
        return os.environ.get(variable, "").strip() or None
    secret = read_text(path, LARGEST_SECRET, what).strip()
    if not secret:
        raise InputError(f"{what} '{printable(path)}' is empty; write the secret into it")
    return secret


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait after failures: twice as long each time, and a random part less.

    Attributes:
        first: seconds after the first failure.
        most: at most.
    """

    first: float = 1.0
    most: float = 60.0

    def seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures on end."""
        return min(self.most, self.first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1)


class Sender(ABC):
    """Sends what a channel of the history has not acknowledged, until it is stopped.

    Args:
        history: where the rows wait.
        channel: of the history.
        tell: takes a sentence for people, from another thread; said when the state of things changes.
        backoff: waits after failures.
    """

    kind = "receiver"

    def __init__(self, history: History, channel: str, tell: Tell, backoff: Backoff | None = None) -> None:
        self.channel = channel
        self.acknowledged = 0  # verdicts, since the start
        self._history = history
        self._tell = tell
        self._backoff = backoff or Backoff()
        self._wake = threading.Event()
        self._stopped = False
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"zeroflaw-{self.kind}", daemon=True)

    @abstractmethod
    def _send(self, rows: Sequence[Row]) -> float:
        """Send rows, take those that are acknowledged off the channel, and return seconds to wait."""

    def start(self) -> None:
        """Begin to send; what was refused in an earlier run is tried once more."""
        self._history.unpark(self.channel)
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new rows."""
        self._wake.set()

    def drain(self, seconds: float) -> bool:
        """Wait until all is sent or refused, at most some seconds; returns whether it is."""
        end = time.monotonic() + seconds
        while self._history.unsent(self.channel, 1):
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return True

    def stop(self, seconds: float = 5.0) -> None:
        """End, at most some seconds from now; what is not acknowledged stays in the history."""
        self._stopped = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stopped:
            self._wake.clear()
            try:
                rows = self._history.unsent(self.channel, AT_ONCE)
                wait = self._send(rows) if rows else IDLE
                failures = 0
            # The list is in the history: whatever goes wrong, this thread goes on, and says so.
            except Exception as error:
                failures += 1
                rows, wait = [], self._backoff.seconds(failures)
                said = str(error) if isinstance(error, ZeroflawError) else f"{type(error).__name__}: {error}"
                self._say(f"nothing can be sent just now ({said}); tried again")
            if not self._stopped and wait:
                self._pause(wait, interruptible=not rows)

    def _sent(self, ids: list[int]) -> None:
        """Take what was acknowledged off the list."""
        self._history.mark_sent(self.channel, ids)
        self.acknowledged += len(ids)

    def _pause(self, seconds: float, *, interruptible: bool) -> None:
        """Wait; new rows end it only where no failure is waited for."""
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            if self._wake.wait(left):
                if interruptible:
                    return
                self._wake.clear()

    def _say(self, text: str) -> None:
        """Say something unless it was said last."""
        if text != self._said:
            self._said = text
            self._tell(f"{self.kind}: {text}")

    def _say_well(self) -> None:
        """Say that it works again, where something else was said before."""
        if self._said:
            self._said = ""
            self._tell(f"{self.kind}: verdicts are received again")


class Address(NamedTuple):
    """Where a webhook listens."""

    secure: bool
    host: str
    port: int
    target: str


def parse_webhook(url: str) -> Address:
    """Return the parts of a webhook's URL.

    Raises:
        UsageError: it is none, or holds a user or password.
    """
    wanted = "http[s]://HOST[:PORT]/PATH"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--webhook must be {wanted}, got '{printable(url, 60)}'") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError("--webhook takes no user or password, which others could see; sign with a secret")
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise UsageError(f"--webhook must be {wanted}, got '{printable(url, 60)}'")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(secure, parts.hostname, port or (443 if secure else 80), target)


Outcome = Literal["sent", "refused", "busy", "away"]


class Webhook(Sender):
    """Posts each verdict as JSON; any answer from 200 to 299 acknowledges it.

    With a secret, posts are signed as https://www.standardwebhooks.com has it: ``webhook-signature`` is
    ``v1,`` and the Base64 of HMAC-SHA256 over ``ID.TIMESTAMP.BODY``. Redirects are not followed. Answers of
    408, 425, 429 and 5xx, time-outs and broken connections are tried again; after another answer the verdict
    is parked until the next start.

    Args:
        history, channel, tell, backoff: see `Sender`.
        address: where it listens.
        secret: for signatures, or None; ``whsec_`` and Base64, or any text.
        tls: for https, or None for the system's certificates.
        timeout: seconds for a connection and for each part of an answer.

    Raises:
        UsageError: the secret is no Base64 after ``whsec_``.
    """

    kind = "webhook"

    def __init__(
        self,
        history: History,
        channel: str,
        tell: Tell,
        *,
        address: Address,
        secret: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(history, channel, tell, backoff)
        self._address, self._timeout = address, timeout
        self._key = None if secret is None else _signing_key(secret)
        self._tls = (tls or ssl.create_default_context()) if address.secure else None
        self._connection: http.client.HTTPConnection | None = None
        self._failures = 0
        self._tries: Counter[int] = Counter()  # of rows that got an answer of 5xx: others are sent before
        self._parked = 0

    @override
    def _send(self, rows: Sequence[Row]) -> float:
        sent: list[int] = []
        try:
            for row in sorted(rows, key=lambda row: (self._tries[row.id], row.id)):
                if self._stopped:
                    break
                outcome, why, least = self._post(row)
                if outcome in ("busy", "away"):
                    return self._failed(row, outcome, why, least)
                self._failures = 0
                self._tries.pop(row.id, None)
                if outcome == "refused":
                    self._parked += 1
                    self._history.park(self.channel, [row.id])
                    self._say(f"{why}; what is refused is kept, and tried again at the next start")
                    continue
                self._say_well()
                sent.append(row.id)
                if len(sent) == TOGETHER:
                    self._sent(sent)
                    sent = []
        finally:
            if sent:
                self._sent(sent)
        if len(rows) < AT_ONCE:
            self._close()
        return 0.0

    def _failed(self, row: Row, outcome: Outcome, why: str, least: float) -> float:
        """Return how long to wait after a failure; a row that an answer of 5xx was for comes last."""
        self._failures += 1
        self._tries[row.id] += outcome == "busy"
        self._close()
        self._say(f"{why}; verdicts are kept and sent again")
        return max(least, self._backoff.seconds(self._failures))

    def _post(self, row: Row) -> tuple[Outcome, str, float]:
        """Post a verdict; returns what became of it, why in words, and seconds to wait at least."""
        reused = self._connection is not None
        try:
            return self._exchange(row)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self._close()
            if not reused:
                return "away", self._unreachable(error), 0.0
        except (OSError, http.client.HTTPException) as error:
            self._close()
            return "away", self._unreachable(error), 0.0
        return self._post(row)  # the connection had been idle for too long: on a new one

    def _exchange(self, row: Row) -> tuple[Outcome, str, float]:
        body, name = message(row), event(row)
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._address.target, body, self._headers(name, body))
        answer = self._connection.getresponse()
        answer.read1(_LARGEST_ANSWER)  # what is there; the rest, which may never end, nobody wants
        if answer.length == 0 and not answer.will_close:
            answer.read()  # nothing more, by which the connection is free again
        else:
            self._close()
        status = answer.status
        if 200 <= status < 300:
            return "sent", "", 0.0
        why = f"{self._where()} answers {status} {printable(answer.reason, 60)}".rstrip()
        if status in _TRY_AGAIN or status >= 500:
            asked = answer.headers.get("Retry-After", "")
            wait = float(min(int(asked), _LONGEST_WAIT)) if asked.isascii() and asked.isdigit() else 0.0
            return "busy", why, wait
        if 300 <= status < 400:
            why += ", and redirects are not followed"
        return "refused", why, 0.0

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)

    def _headers(self, name: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"zeroflaw/{__version__}",
            "Idempotency-Key": name,
        }
        if self._key is not None:
            now = str(int(time.time()))
            signed = hmac.digest(self._key, f"{name}.{now}.".encode() + body, "sha256")
            headers["webhook-id"], headers["webhook-timestamp"] = name, now
            headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        return headers

    def _unreachable(self, error: Exception) -> str:
        return f"{self._where()} gives no answer ({reason(error)})"

    def _where(self) -> str:
        """Return the receiver without path and query, which may be secret."""
        return f"{self._address.host}:{self._address.port}"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @override
    def stop(self, seconds: float = 5.0) -> None:
        super().stop(seconds)
        if self._parked:
            verdicts = f"{self._parked} verdict{'s' * (self._parked != 1)}"
            self._tell(
                f"webhook: {verdicts} refused by the receiver; kept, and tried again at the next start"
            )


def _signing_key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (ValueError, binascii.Error) as error:
        raise UsageError(
            "the webhook's secret begins with whsec_, but Base64 does not follow; copy it again"
        ) from error
