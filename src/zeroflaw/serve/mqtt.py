"""Verdicts on a topic of an MQTT broker: QoS 1, and whether we are there as a retained message beside it."""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import override

from zeroflaw.errors import UsageError, printable, reason
from zeroflaw.serve.history import History
from zeroflaw.serve.notify import Backoff, Sender, Tell, message
from zeroflaw.serve.records import Row

KEEP_ALIVE = 30  # seconds, after which a broker tells others that we are gone
AVAILABILITY = "availability"
SLOW = 30.0  # seconds without an acknowledgement, after which it is said


class Broker(NamedTuple):
    """A broker and the topic on it."""

    secure: bool
    host: str
    port: int
    topic: str
    user: str | None


def parse_mqtt(url: str) -> Broker:
    """Return the parts of ``mqtt[s]://[user@]host[:port]/topic``.

    Raises:
        UsageError: it is none, or holds a password.
    """
    wanted = "--mqtt must be mqtt[s]://[USER@]HOST[:PORT]/TOPIC"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{wanted}, got '{printable(url, 60)}'") from error
    if parts.password is not None:
        raise UsageError(
            "--mqtt takes no password, which others could see; give it with --mqtt-password-file or in "
            "ZEROFLAW_MQTT_PASSWORD"
        )
    topic = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{wanted}, got '{printable(url, 60)}'")
    if not topic or set(topic) & set("+#\0") or topic.endswith("/") or len(topic.encode()) > 60_000:
        raise UsageError(f"{wanted}, with a topic without + and #, got '{printable(topic, 60)}'")
    secure = parts.scheme == "mqtts"
    user = None if parts.username is None else unquote(parts.username)
    return Broker(secure, parts.hostname, port or (8883 if secure else 1883), topic, user)


class Mqtt(Sender):
    """Publishes each verdict as JSON with QoS 1; the broker's acknowledgement takes it off the list.

    ``TOPIC/availability`` is retained: ``online`` while we are connected, ``offline`` else, which the broker
    says itself when we vanish (last will).

    Args:
        history, channel, tell, backoff: see `Sender`.
        broker: where.
        password: of the broker's user, or None.
        tls: for mqtts, or None for the system's certificates.
    """

    kind = "mqtt"

    def __init__(
        self,
        history: History,
        channel: str,
        tell: Tell,
        *,
        broker: Broker,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(history, channel, tell, backoff)
        self._broker = broker
        self._acknowledged: set[int] = set()  # message ids
        self._changed = threading.Condition()
        # The same at each start, so that a broker ends what is left of a killed run.
        mine = hashlib.sha256(f"{socket.gethostname()}\n{channel}\n{broker.topic}".encode()).hexdigest()
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"zeroflaw-{mine[:14]}")
        if broker.user is not None:
            client.username_pw_set(broker.user, password)
        if broker.secure:
            client.tls_set_context(tls or ssl.create_default_context())
        client.will_set(self._availability, "offline", qos=1, retain=True)
        client.reconnect_delay_set(max(1, round(self._backoff.first)), max(1, round(self._backoff.most)))
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client

    @property
    def _availability(self) -> str:
        return f"{self._broker.topic}/{AVAILABILITY}"

    @override
    def start(self) -> None:
        self._client.connect_async(self._broker.host, self._broker.port, KEEP_ALIVE)
        self._client.loop_start()
        super().start()

    @override
    def _send(self, rows: Sequence[Row]) -> float:
        if not self._client.is_connected():
            return self._backoff.first
        with self._changed:  # of earlier rows and of the availability, whose numbers come again one day
            self._acknowledged.clear()
        waiting = {self._client.publish(self._broker.topic, message(row), qos=1).mid: row.id for row in rows}
        since = time.monotonic()
        while waiting and not self._stopped:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._acknowledged & waiting.keys(), 1.0)
                done = self._acknowledged & waiting.keys()
                self._acknowledged -= done
            if done:
                self._sent([waiting.pop(mid) for mid in done])
                self._say_well()
                since = time.monotonic()
            elif self._client.is_connected() and time.monotonic() - since > SLOW:
                self._say(f"{self._where()} does not acknowledge what it is sent; waiting for it")
        return 0.0

    @override
    def stop(self, seconds: float = 5.0) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        super().stop(seconds)
        if self._client.is_connected():
            said = self._client.publish(self._availability, "offline", qos=1, retain=True)
            with self._changed:
                self._changed.wait_for(lambda: said.mid in self._acknowledged, min(seconds, 2.0))
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, data: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._say(f"{self._where()} refuses us ({printable(code)}); verdicts are kept, tried again")
            return
        client.publish(self._availability, "online", qos=1, retain=True)
        self._say_well()
        self._wake.set()

    def _on_connect_fail(self, client: Client, data: Any) -> None:
        error = sys.exc_info()[1]
        why = f" ({reason(error)})" if error is not None else ""
        self._say(f"{self._where()} cannot be reached{why}; verdicts are kept, tried again")

    def _on_disconnect(
        self,
        client: Client,
        data: Any,
        flags: DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure and not self._said and not self._stopped:
            self._say(f"{self._where()} has gone ({printable(code)}); verdicts are kept, tried again")

    def _on_publish(
        self, client: Client, data: Any, mid: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()

    def _where(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"
