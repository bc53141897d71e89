"""Refusals as ``application/problem+json`` (RFC 9457), one sentence each; our errors find a status here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from zeroflaw.errors import HistoryError, ImageError, InputError, OutputError, UsageError, ZeroflawError
from zeroflaw.serve.batcher import ClosedError, FullError

MEDIA = "application/problem+json"
_PATH = re.compile(r"'[^']*[/\\]([^'/\\]+)'")


class RefusedError(ZeroflawError):
    """A request is refused.

    Attributes:
        status: of HTTP.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, dict(headers or {})


_STATUS: tuple[tuple[type[ZeroflawError], int], ...] = (
    (FullError, 429),
    (ClosedError, 503),
    (HistoryError, 503),
    (OutputError, 503),
    (ImageError, 415),
    (InputError, 404),
    (UsageError, 422),
)


def problem(status: int, detail: str) -> dict[str, Any]:
    """Return a problem as JSON values."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def of_error(error: Exception) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the problem that an error is to a client, and headers; what is not ours is not shown to it."""
    if isinstance(error, RefusedError):
        return problem(error.status, str(error)), error.headers
    if isinstance(error, ZeroflawError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        wait = {429: str(error.seconds) if isinstance(error, FullError) else "1", 503: "5"}.get(status)
        return problem(status, _without_paths(str(error))), {"Retry-After": wait} if wait else {}
    return problem(500, "this is a fault of the service; its log says more"), {}


def _without_paths(text: str) -> str:
    """Return a sentence in which files of this machine go by their last name alone."""
    return _PATH.sub(r"'\1'", text)


def answer(error: Exception) -> JSONResponse:
    """Return the response to an error."""
    found, headers = of_error(error)
    return JSONResponse(found, found["status"], headers, media_type=MEDIA)
