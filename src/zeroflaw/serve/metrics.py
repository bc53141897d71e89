"""Figures for Prometheus. Labels have few values: routes and detectors, never what a client made up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroflaw._version import __version__
from zeroflaw.serve.records import Row

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each, which nobody asks for
_METHODS = {"GET", "HEAD", "POST", "DELETE"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What is counted, in a registry of its own.

    Args:
        waiting, places: of the line.
        disk: bytes of the pictures that are kept.
    """

    def __init__(self, waiting: Callable[[], float], places: int, disk: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "zeroflaw"}
        self.requests = Counter("requests", "Requests answered", ("route", "method", "status"), **own)
        self.seconds = Histogram(
            "request_seconds", "Seconds of requests", ("route",), buckets=_SECONDS, **own
        )
        self.verdicts = Counter("verdicts", "Pictures judged", ("detector", "verdict"), **own)
        self.judging = Histogram(
            "judge_seconds",
            "Seconds from the arrival of a picture to its verdict",
            ("detector",),
            buckets=_SECONDS,
            **own,
        )
        self.drift = Gauge("drift", "1 while photos are unlike the good ones", ("detector",), **own)
        Gauge("queue_places", "Places of the line", **own).set(places)
        Gauge("queue_waiting", "Pictures in the line", **own).set_function(waiting)
        Gauge("pictures_bytes", "Bytes of the pictures that are kept", **own).set_function(disk)
        Gauge("info", "1, with the version", ("version",), **own).labels(__version__).set(1)

    def judged(self, row: Row) -> None:
        """Count a verdict."""
        verdict = {None: "none", True: "anomalous", False: "normal"}[row.anomalous]
        self.verdicts.labels(row.detector, verdict).inc()
        self.judging.labels(row.detector).observe(row.milliseconds / 1000)

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return generate_latest(self.registry)


class Measured:
    """Counts what an application answers.

    Args:
        app: the application.
        metrics: where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            if not route.endswith("/events"):
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)
