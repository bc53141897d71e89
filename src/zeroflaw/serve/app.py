"""The routes of the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body as JsonBody
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from typing_extensions import override

from zeroflaw._version import __version__
from zeroflaw.errors import InputError, ZeroflawError
from zeroflaw.serve import kserve
from zeroflaw.serve.batcher import ClosedError
from zeroflaw.serve.metrics import Measured
from zeroflaw.serve.pictures import heat, media_type
from zeroflaw.serve.problems import RefusedError, answer, of_error
from zeroflaw.serve.records import LONGEST_NAME, Filter, Order, Source, Verdicts, clean, read_map
from zeroflaw.serve.security import COOKIE, SESSION, Guard, Rules, Tokens
from zeroflaw.serve.service import Service
from zeroflaw.serve.tables import csv_lines
from zeroflaw.serve.views import (
    DetectorView,
    DetectView,
    Feedback,
    HistoryView,
    Recalibrate,
    RecalibrationView,
    RowView,
    Session,
    StatusView,
    refusals,
    row_view,
)

PAGE = Path(__file__).parent / "page"
# Nothing is told to anybody but those who ask, whatever the environment says to the framework.
_SILENT: Any = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
_HEARTBEAT = 15  # seconds
_GUESS = 0.5  # seconds that a wrong token takes
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}  # a digest's picture never changes
_log = logging.getLogger("zeroflaw.serve")

_PICTURES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
_ANY_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp", "bmp", "tiff")}}
}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}

Id = Annotated[int, InPath(ge=1, le=2**63 - 1)]
Digest = Annotated[str, InPath(pattern="^[0-9a-f]{64}$")]
Name = Annotated[
    str | None, Query(max_length=60, description="Name of a detector; not needed where there is one.")
]
Which = Annotated[str, Query(max_length=60)]
Text = Annotated[str | None, Query(max_length=LONGEST_NAME)]


def wanted_rows(
    detector: Name = None,
    verdict: Verdicts | None = None,
    since: Annotated[str | None, Query(max_length=40)] = None,
    until: Annotated[str | None, Query(max_length=40)] = None,
    text: Text = None,
    order: Order = "newest",
) -> Filter:
    """Read a filter out of a query."""
    return Filter(detector=detector, verdict=verdict, since=since, until=until, text=text, order=order)


def make_app(service: Service, rules: Rules) -> ASGIApp:
    """Return the application: routes, what guards them, and what counts them."""

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="zeroflaw",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=alive,
        telemetry=_SILENT,
        description="Finds flaws in photos of products. Errors are application/problem+json.",
    )
    _add_errors(app)
    _add_judging(app, service)
    _add_history(app, service)
    _add_detectors(app, service)
    _add_events(app, service)
    _add_session(app, rules.tokens)
    kserve.add_routes(app, service)
    _add_page(app, service)
    return Measured(Guard(app, rules), service.metrics)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ZeroflawError)
    async def ours(request: Request, error: ZeroflawError) -> Response:
        response = answer(error)
        if response.status_code >= 500:
            _log.warning("request %s: %s", _number(request), error)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            said = f"{first['ctx']['error']}, at character {first['loc'][-1] + 1}"
            return answer(RefusedError(400, f"the request's JSON cannot be read ({clean(said)}); mend it"))
        if first["loc"] == ("body",):  # nothing, a form, a list: whatever it is, no object
            return answer(RefusedError(422, "send a JSON object, with 'Content-Type: application/json'"))
        place = ".".join(
            clean(str(part), 40) for part in first["loc"] if part not in ("query", "body", "path")
        )
        said = clean(first["msg"].removeprefix("Input should be "), 200)
        return answer(RefusedError(422, f"{place or 'the body'} must be right: {said}"))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        known = request.scope.get("state", {}).get("refused")
        if isinstance(known, RefusedError):  # while the body came, which the framework says in other words
            return answer(known)
        said = {
            400: "the request's body cannot be read as JSON in UTF-8; mend it",
            404: "there is nothing here",
            405: "this is not done here with this method",
        }
        detail = said.get(error.status_code, clean(str(error.detail)))
        return answer(RefusedError(error.status_code, detail, error.headers))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return answer(RefusedError(400, "the sender has gone"))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        _log.error("request %s failed", _number(request), exc_info=error)
        return answer(error)


def _number(request: Request) -> object:
    return request.scope.get("state", {}).get("request_id")


def source_of(request: Request) -> Source:
    """Return how a picture came: browsers say which page sends it."""
    return "page" if "origin" in request.headers else "http"


def _add_judging(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/detect",
        response_model=DetectView,
        responses=refusals(404, 409, 415, 429, 503, 504),
        openapi_extra=_PICTURES,
    )
    async def detect(request: Request, detector: Name = None) -> Any:
        """Judge pictures: all of a request, or, with 429, none.

        A header ``Idempotency-Key`` makes it safe to send a request again: its verdicts are in the history
        once.
        """
        service.detectors.get(detector)
        key = request.headers.get("idempotency-key")
        uploads = await service.doorway.receive(request)
        name, found = await service.judge(uploads, detector, source_of(request), key)
        if len(found) == 1 and isinstance(found[0], Exception):
            raise found[0]
        for one in found:  # what is wrong with the service, not with a picture
            if isinstance(one, Exception) and of_error(one)[0]["status"] >= 500:
                raise one
        results = [
            row_view(one)
            if not isinstance(one, Exception)
            else {"name": clean(upload.name), "error": of_error(one)[0]}
            for one, upload in zip(found, uploads, strict=True)
        ]
        return {"results": results, "detector": name}


def _add_history(app: FastAPI, service: Service) -> None:
    history, store = service.history, service.store

    @app.get("/v1/history", response_model=HistoryView, responses=refusals(503))
    def find(
        wanted: Annotated[Filter, Depends(wanted_rows)],
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=60)] = None,
    ) -> Any:
        """Return a page of what was judged; ``next`` is the cursor of the page that follows."""
        page = history.find(Filter(**_asked(wanted), limit=limit, cursor=cursor))
        return {"rows": [row_view(row) for row in page.rows], "next": page.next, "total": page.total}

    @app.get(
        "/v1/history.csv",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {}}}, **refusals(503)},
    )
    def csv(wanted: Annotated[Filter, Depends(wanted_rows)]) -> Any:
        """Return all that was judged as CSV."""
        lines = csv_lines(history, wanted)
        first = next(lines)
        more = next(lines)  # what is wrong with the history is said before anything is sent

        def all_lines() -> Any:
            yield first + more
            yield from lines

        named = {"Content-Disposition": 'attachment; filename="history.csv"'}
        return StreamingResponse(all_lines(), media_type="text/csv; charset=utf-8", headers=named)

    @app.get("/v1/history/{id}", response_model=RowView, responses=refusals(404, 503))
    def row(id: Id) -> Any:
        """Return what was said about a picture."""
        return row_view(history.get(id))

    @app.get("/v1/history/{id}/map.png", response_class=Response, responses=_PNG | refusals(404, 503))
    def drawn(id: Id) -> Response:
        """Return the map of a picture in colours, transparent where it is low, to be laid over it."""
        hot, png = history.get(id).record.get("map_threshold"), history.map(id)
        if png is None:
            raise InputError("the map of this picture is not kept any more")
        return Response(heat(read_map(png), hot), media_type="image/png", headers=_KEPT)

    @app.get("/v1/pictures/{digest}", response_class=Response, responses=_ANY_PICTURE | refusals(404))
    def picture(digest: Digest) -> Response:
        """Return a picture as it was sent."""
        data = store.get(digest)
        if data is None:
            raise InputError("this picture is not kept any more")
        return Response(data, media_type=media_type(data), headers=_KEPT)

    @app.get("/v1/pictures/{digest}/thumbnail", response_class=Response, responses=_JPEG | refusals(404, 415))
    def thumbnail(digest: Digest) -> Response:
        """Return a picture as JPEG, upright, its longest side at most 320 pixels."""
        data = store.thumbnail(digest)
        if data is None:
            raise InputError("this picture is not kept any more")
        return Response(data, media_type="image/jpeg", headers=_KEPT)

    @app.post("/v1/feedback", response_model=RowView, responses=refusals(404, 503))
    def feedback(said: Annotated[Feedback, JsonBody()]) -> Any:
        """Keep what a person says about a picture; a label of null takes it back."""
        return service.correct(said.id, said.label, said.note)


def _asked(wanted: Filter) -> dict[str, Any]:
    names = ("detector", "verdict", "since", "until", "text", "order")
    return {name: getattr(wanted, name) for name in names}


def _add_detectors(app: FastAPI, service: Service) -> None:
    @app.get("/v1/detectors", response_model=list[DetectorView], responses=refusals())
    def detectors() -> Any:
        """List the detectors."""
        return [entry.to_dict() for entry in service.detectors]

    @app.get("/v1/recalibration", response_model=RecalibrationView, responses=refusals(404, 503))
    def proposal(detector: Which) -> Any:
        """Say what labelled photos would make of a detector's threshold; nothing changes."""
        return service.proposal(detector).to_dict()

    @app.post("/v1/recalibration", response_model=DetectorView, responses=refusals(404, 409, 503))
    def accept(said: Annotated[Recalibrate, JsonBody()]) -> Any:
        """Accept that proposal."""
        return service.recalibrate(said.detector).to_dict()

    @app.get("/v1/status", response_model=StatusView, responses=refusals(503))
    def status() -> Any:
        """Say how the service is."""
        return service.status()

    @app.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **refusals()}
    )
    def metrics() -> Response:
        """Return figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_events(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/events",
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **refusals(429, 503)},
    )
    async def events() -> Any:
        """Tell what happens, as server-sent events: verdict, feedback, detector, warning."""
        if service.closing:
            raise ClosedError("the service is about to end; ask again when it is back")
        if service.events.full:
            raise RefusedError(429, "too many listen already; close a page", {"Retry-After": "10"})
        return EventSourceResponse(
            service.events.listen(),
            ping=_HEARTBEAT,
            ping_message_factory=lambda: ServerSentEvent(comment="here"),
        )


def _add_session(app: FastAPI, tokens: Tokens | None) -> None:
    @app.post("/v1/session", status_code=204, response_class=Response, responses=refusals())
    async def enter(said: Annotated[Session, JsonBody()], request: Request) -> Response:
        """Take a token and set a cookie for the page, which can send no headers with pictures and events."""
        response = Response(status_code=204)
        if tokens is None:
            return response
        if not tokens.is_token(said.token):
            await asyncio.sleep(_GUESS)
            raise RefusedError(401, "this is not the token of this service", {"WWW-Authenticate": "Bearer"})
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, tokens.session(), max_age=SESSION, httponly=True, samesite="strict", secure=secure
        )
        return response

    @app.delete("/v1/session", status_code=204, response_class=Response, responses=refusals())
    async def leave() -> Response:
        """Clear the cookie in the browser; a copy of it holds until it expires or the token changes."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response


class _PageFiles(StaticFiles):
    """Files of the page: a browser keeps them, and asks each time whether they are still the same."""

    @override
    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = PAGE / "index.html"
        if not index.is_file():
            raise InputError("this service has no page; its routes are described in /openapi.json")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    if PAGE.is_dir():
        app.mount("/static", _PageFiles(directory=PAGE), name="static")
