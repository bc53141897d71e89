"""What every request must pass before anything else looks at it, and what every answer carries.

- ``Host`` is on a list: a page of a stranger that is led to this machine by its name server has another one.
- ``Origin`` of whatever changes something is this service: pages of strangers cannot write.
- A token, where there is one, comes with the request or as a session's cookie.
- Bodies are counted while they come, whatever they declare, and come at a pace.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroflaw.errors import UsageError
from zeroflaw.files import read_text
from zeroflaw.serve.problems import RefusedError, answer

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
COOKIE = "zeroflaw"
SESSION = 12 * 3600  # seconds
SMALL = 64 * 2**10  # bytes of a body of JSON
JSON = 32 * 2**20  # bytes of one that holds pictures
GRACE, PACE = 30.0, 64 * 2**10  # seconds before a body must have come at this many bytes a second
SHORTEST_TOKEN = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/", "/v1/session", "/v2/health/live", "/v2/health/ready")
_READS = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,255})(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether an address that is listened at can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Tokens:
    """Tells who knows the token; sessions are signed with it and outlive a restart.

    Args:
        token: the secret.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Return those of a token file: one line of at least 16 characters.

        Raises:
            UsageError: it holds no token.
        """
        token = read_text(path, 4096, "token file", UsageError).strip()
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError(
                f"the token file '{path}' must hold one line of at least {SHORTEST_TOKEN} letters and "
                "digits; make one with: openssl rand -hex 24"
            )
        return cls(token)

    def is_token(self, said: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(said.encode(errors="replace"), self._token)

    def session(self) -> str:
        """Return the value of a new session's cookie."""
        text = f"{int(time.time()) + SESSION}.{secrets.token_hex(8)}"
        return f"{text}.{self._signed(text)}"

    def is_session(self, value: str) -> bool:
        """Whether this is the value of a session that has not ended."""
        text, _, mark = value.rpartition(".")
        until = text.partition(".")[0]
        if not hmac.compare_digest(self._signed(text).encode(), mark.encode(errors="replace")):
            return False
        return until.isdecimal() and int(until) > time.time()

    def _signed(self, text: str) -> str:
        return hmac.new(self._token, b"session " + text.encode(errors="replace"), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Rules:
    """What requests must fulfil.

    Attributes:
        hosts: names that may be in ``Host``, without port, in small letters.
        any_address: addresses in numbers may be there, too; nobody's name leads to these.
        tokens: None where no token is wanted.
        largest: bytes of a body that brings pictures.
    """

    hosts: frozenset[str]
    any_address: bool = False
    tokens: Tokens | None = None
    largest: int = 256 * 2**20

    @classmethod
    def at(cls, host: str, more: Iterable[str] = (), **settings: object) -> Rules:
        """Return those of a service that listens at ``host`` and is also reached by ``more`` names."""
        names = {*_LOOPBACK, host.lower(), *(name.lower() for name in more)}
        return cls(frozenset(names), not is_loopback(host), **settings)  # type: ignore[arg-type]

    def knows(self, host: str) -> bool:
        """Whether the value of ``Host`` is one of this service."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address


class Guard:
    """The outermost layer of the service; see the module.

    Args:
        app: what is guarded.
        rules: which requests pass.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI says."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = number = secrets.token_hex(8)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = number
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check(scope, headers)
            counted = self._counted(scope, headers, receive)
        except RefusedError as error:
            await answer(error)(scope, receive, with_headers)
            return
        await self._app(scope, counted, with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._rules.knows(hosts[0]):
            raise RefusedError(
                421, "the service does not go by the name in 'Host'; start it with --allow-host NAME"
            )
        if scope["method"] not in _READS:
            _check_origin(headers, hosts[0])
        path = scope["path"]
        if self._rules.tokens is None or path in _OPEN or path.startswith("/static/"):
            return
        if not self._is_known(headers):
            raise RefusedError(
                401,
                "a token is wanted, as 'Authorization: Bearer TOKEN' or through POST /v1/session",
                {"WWW-Authenticate": "Bearer"},
            )

    def _is_known(self, headers: Headers) -> bool:
        tokens = self._rules.tokens
        assert tokens is not None
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and tokens.is_token(said.strip()):
            return True
        return tokens.is_session(cookie(headers.get("cookie", "")))

    def _largest(self, path: str) -> int:
        if path == "/v1/detect":
            return self._rules.largest
        return min(JSON, self._rules.largest) if path.endswith("/infer") else SMALL

    def _counted(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """Return a ``receive`` that ends a body that is too large or too slow."""
        largest = self._largest(scope["path"])
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > largest:
            raise _too_large(largest)
        began, came, whole = time.monotonic(), 0, False

        def refused(error: RefusedError) -> RefusedError:
            scope["state"]["refused"] = error  # for those who read bodies and have other words for it
            return error

        async def counted() -> Message:
            nonlocal came, whole
            if whole:
                return await receive()
            try:
                left = began + GRACE + came / PACE - time.monotonic()
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                slow = RefusedError(
                    408, "the body came too slowly, or is shorter than it says; send again", _CLOSE
                )
                raise refused(slow) from None
            came += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if came > largest:
                raise refused(_too_large(largest))
            return message

        return counted


_CLOSE = {"Connection": "close"}


def _too_large(largest: int) -> RefusedError:
    return RefusedError(
        413, f"the body has more than the {largest:,} bytes that are taken; send less", _CLOSE
    )


def _check_origin(headers: Headers, host: str) -> None:
    """Refuse what a page of a stranger lets a browser send; other clients say no origin."""
    origin = headers.get("origin")
    if origin is None and headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return
    if origin is None or origin.partition("://")[2].lower() != host.lower():
        raise RefusedError(403, "another web page may not change anything here")


def cookie(header: str) -> str:
    """Return the session in a ``Cookie`` header, or an empty text."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
