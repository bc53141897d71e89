"""A small service that speaks the routes of the page, with pictures that are drawn here and no detector.

It judges by redness: enough to test the page without a model, and to see the page while it is worked on:

    python tests/serve/fake_service.py            # http://127.0.0.1:8770
    python tests/serve/fake_service.py --photos 500 --token secret
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image, UnidentifiedImageError
from scipy.special import expit

PAGE = Path(__file__).parents[2] / "src/zeroflaw/serve/page"
GOOD = [round(float(value), 4) for value in np.linspace(-4, 0.99, 19)]
THRESHOLD = 1.0
PROMISE = "Threshold from 19 good photos: expect about 1 false alarm in 20 good parts."
POLICY = "default-src 'self'; img-src 'self' blob: data:"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
Row = dict[str, Any]


def photo(redness: float, *, seed: int = 0, size: tuple[int, int] = (240, 320)) -> bytes:
    """Draw a grey part (height, width) with a red spot; redness is its log-odds, about -4 to 6."""
    draw = np.random.default_rng(seed)
    height, width = size
    grey = 120 + 40 * np.sin(np.arange(width) / 17)[None, :] + draw.normal(0, 3, size)
    pixels = np.repeat(np.clip(grey, 0, 255)[:, :, None], 3, axis=2).astype(np.uint8)
    top, left = int(draw.integers(30, height - 70)), int(draw.integers(30, width - 90))
    pixels[top : top + 40, left : left + 60] = (int(128 + 12 * redness), 40, 40)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def by_redness(data: bytes) -> Row:
    """Judge a drawn part."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    rows, columns = np.nonzero(pixels[:, :, 0] - pixels[:, :, 1] > 30)
    logit = (pixels[:, :, 0].max() if not len(rows) else pixels[rows[0], columns[0], 0] - 128) / 12
    regions = []
    if len(rows) and logit >= THRESHOLD:
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        share = 100 * len(rows) / (height * width)
        regions.append({"box": box, "area": len(rows), "share": share, "peak": 0.9, "peak_at": box[:2]})
    return {"logit": float(logit), "width": width, "height": height, "regions": regions}


def problem(status: int, title: str, detail: str, **headers: str) -> JSONResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status, named, media_type="application/problem+json")


@dataclasses.dataclass
class Fake:
    """What the service holds. It survives a stop, as a database does.

    Attributes:
        token: wanted on every route if set.
        keep: whether pictures are kept.
        refusals: answers to the next requests to judge, in their order.
        broken: the sentence with which the history refuses to answer, if any.
    """

    token: str | None = None
    keep: bool = True
    judge: Callable[[bytes], Row] = by_redness
    refusals: list[JSONResponse] = dataclasses.field(default_factory=list)
    broken: str | None = None
    warnings: list[Row] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    pictures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    batches: list[int] = dataclasses.field(default_factory=list)
    answers: dict[str | None, Any] = dataclasses.field(default_factory=dict)
    detectors: list[Row] = dataclasses.field(default_factory=list)
    listeners: list[asyncio.Queue[str]] = dataclasses.field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        calibrated = {"threshold": THRESHOLD, "promise": PROMISE, "map_threshold": 0.8, "good_logits": GOOD}
        nothing = {"threshold": None, "promise": None, "map_threshold": None, "good_logits": []}
        about = {
            "method": "memory",
            "summary": "compares with good photos",
            "fingerprint": "f0",
            "photos": 19,
        }
        self.detectors = [
            {"name": "gears", **about, **calibrated},
            {"name": "words", **about, **nothing, "method": "rwda"},
        ]

    def detector(self, name: str) -> Row:
        return next(one for one in self.detectors if one["name"] == name)

    def add(self, name: str, data: bytes, detector: str = "gears", *, ago: float = 0, **values: Any) -> Row:
        """Judge a picture and keep it, as if it had come ``ago`` seconds earlier; values overrule."""
        threshold = self.detector(detector)["threshold"]
        found = self.judge(data)
        digest = hashlib.sha256(data).hexdigest()
        number = len(self.rows) + 1
        logit = found["logit"]
        row: Row = {
            "id": number,
            "time": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
            "detector": detector,
            "fingerprint": "f0",
            "source": "page",
            "key": str(number),
            "name": name,
            "digest": digest,
            **found,
            "score": float(expit(logit)),
            "threshold": threshold,
            "anomalous": None if threshold is None else logit >= threshold,
            "p_value": None if threshold is None else (1 + sum(g >= logit for g in GOOD)) / (len(GOOD) + 1),
            "milliseconds": 21.5,
            **dict.fromkeys(("label", "corrected_at", "error", "thumbnail", "picture", "map")),
            "note": "",
        }
        if self.keep:
            self.pictures[digest] = data
            row |= {"picture": f"/v1/pictures/{digest}", "thumbnail": f"/v1/pictures/{digest}/thumbnail"}
            row["map"] = f"/v1/history/{number}/map.png"
        row |= values
        self.rows.append(row)
        return row

    def tell(self, event: str, data: Row) -> None:
        for queue in self.listeners:
            queue.put_nowait(f"event: {event}\ndata: {json.dumps(data)}\n\n")

    def find(self, asked: dict[str, str]) -> list[Row]:
        """Rows as a query wants them."""
        verdict = {"anomalous": True, "normal": False, "none": None}
        since, until = (
            datetime.fromisoformat(asked[name]) if name in asked else None for name in ("since", "until")
        )

        def wanted(row: Row) -> bool:
            text = asked.get("text", "").lower()
            kind = asked.get("verdict")
            judged = datetime.fromisoformat(row["time"])
            return (
                asked.get("detector", row["detector"]) == row["detector"]
                and text in f"{row['name']}\n{row['note']}".lower()
                and (kind not in verdict or row["anomalous"] is verdict[kind])
                and (kind != "corrected" or row["label"] is not None)
                and (since is None or judged >= since)
                and (until is None or judged < until)
            )

        found = [row for row in self.rows if wanted(row)]
        if asked.get("order") == "highest":
            return sorted(found, key=lambda row: (-row["logit"], -row["id"]))
        return found if asked.get("order") == "oldest" else found[::-1]

    def recalibration(self, name: str) -> Row:
        labelled = [row for row in self.rows if row["label"] and row["detector"] == name]
        good, flawed = ([r["logit"] for r in labelled if r["label"] == kind] for kind in ("good", "flawed"))
        found: Row = {"labelled": {"good": len(good), "flawed": len(flawed)}, "possible": False}
        if not good or not flawed:
            return {**found, "why_not": "Both good and flawed photos are needed; correct some of either."}
        now, proposed = self.detector(name)["threshold"], round((max(good) + min(flawed)) / 2, 4)

        def figures(threshold: float) -> Row:
            return {
                "threshold": threshold,
                "promise": f"Threshold from {len(good)} good photos and {len(flawed)} flawed ones.",
                "false_alarms": sum(g >= threshold for g in good) / len(good),
                "recall": sum(f >= threshold for f in flawed) / len(flawed),
            }

        changes = [r["id"] for r in labelled if (r["logit"] >= now) != (r["logit"] >= proposed)]
        both = {"now": figures(now), "proposed": figures(proposed)}
        changed = {"changes": {"count": len(changes), "ids": changes[:20]}}
        return {**found, **both, **changed, "possible": True, "why_not": None}

    def app(self) -> FastAPI:  # noqa: C901, PLR0915  # routes
        app = FastAPI(docs_url=None, redoc_url=None)

        @app.middleware("http")
        async def guard(request: Request, forward: Any) -> Response:
            path = request.url.path
            known = self.token in (None, request.cookies.get("session"))
            if path.startswith("/v1/") and path != "/v1/session" and not known:
                return problem(401, "Unauthorized", "A token is wanted.")
            answer: Response = await forward(request)
            answer.headers["Content-Security-Policy"] = POLICY
            return answer

        @app.get("/")
        async def page() -> Response:
            return Response((PAGE / "index.html").read_bytes(), media_type="text/html")

        @app.get("/static/{name}")
        async def static(name: str) -> Response:
            path = PAGE / name
            return Response(path.read_bytes(), media_type=TYPES[path.suffix])

        @app.post("/v1/session")
        async def enter(request: Request) -> Response:
            if (await request.json())["token"] != self.token:
                return problem(401, "Unauthorized", "This is not the token of this service.")
            answer = Response(status_code=204)
            answer.set_cookie("session", str(self.token), httponly=True, samesite="strict")
            return answer

        @app.delete("/v1/session")
        async def leave() -> Response:
            answer = Response(status_code=204)
            answer.delete_cookie("session")
            return answer

        @app.post("/v1/detect")
        async def detect(request: Request, files: list[UploadFile], detector: str = "gears") -> Any:
            if self.refusals:
                return self.refusals.pop(0)
            key = request.headers.get("idempotency-key")
            if key is None or key not in self.answers:
                self.answers[key] = await judged(files, detector)
            return self.answers[key]

        async def judged(files: list[UploadFile], detector: str) -> Any:
            self.batches.append(len(files))
            results: list[Row] = []
            for file in files:
                name, data = file.filename or "", await file.read()
                try:
                    results.append(self.add(name, data, detector))
                    self.tell("verdict", results[-1])
                except UnidentifiedImageError:
                    answer = problem(415, "Unsupported", "This is not a picture that can be read.")
                    if len(files) == 1:
                        return answer
                    results.append({"name": name, "error": json.loads(answer.body)})
            return {"results": results, "detector": detector}

        @app.get("/v1/history")
        async def history(request: Request, limit: int = 100, cursor: int = 0) -> Any:
            if self.broken:
                return problem(500, "Internal Server Error", self.broken)
            found = self.find(dict(request.query_params))
            rest = cursor + limit < len(found)
            rows = found[cursor : cursor + limit]
            return {"rows": rows, "next": str(cursor + limit) if rest else None, "total": len(found)}

        @app.get("/v1/history.csv")
        async def csv(request: Request) -> Response:
            names = [row["name"] for row in self.find(dict(request.query_params))]
            return Response("\n".join(["name", *names]), media_type="text/csv")

        @app.get("/v1/history/{number}")
        async def one(number: int) -> Any:
            if not 0 < number <= len(self.rows):
                return problem(404, "Not Found", f"There is no photo {number}.")
            return self.rows[number - 1]

        @app.get("/v1/history/{number}/map.png")
        async def heat(number: int) -> Response:
            row = self.rows[number - 1]
            pixels = np.zeros((30, 40, 4), np.uint8)
            for region in row["regions"] or ():
                left, top, width, height = (
                    value * side // whole
                    for value, side, whole in zip(
                        region["box"], (40, 30, 40, 30), (row["width"], row["height"]) * 2, strict=True
                    )
                )
                pixels[top : top + height + 1, left : left + width + 1] = (240, 150, 60, 150)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            return Response(stream.getvalue(), media_type="image/png")

        @app.get("/v1/pictures/{digest}")
        async def picture(digest: str) -> Response:
            return Response(self.pictures[digest], media_type="image/png")

        @app.get("/v1/pictures/{digest}/thumbnail")
        async def thumbnail(digest: str) -> Response:
            image = Image.open(io.BytesIO(self.pictures[digest])).convert("RGB")
            image.thumbnail((320, 320))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=88)
            return Response(
                stream.getvalue(), media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"}
            )

        @app.post("/v1/feedback")
        async def feedback(request: Request) -> Any:
            said = await request.json()
            row = self.rows[said["id"] - 1]
            if said["note"] == "refuse":
                return problem(422, "Unprocessable", "This note is refused.")
            row |= {"label": said["label"], "note": said["note"]}
            row["corrected_at"] = datetime.now(UTC).isoformat() if said["label"] else None
            self.tell("feedback", row)
            return row

        @app.get("/v1/detectors")
        async def detectors() -> Any:
            return self.detectors

        @app.get("/v1/recalibration")
        async def propose(detector: str) -> Any:
            return self.recalibration(detector)

        @app.post("/v1/recalibration")
        async def accept(request: Request) -> Any:
            name = (await request.json())["detector"]
            proposed = self.recalibration(name)["proposed"]
            changed = {
                "threshold": proposed["threshold"],
                "promise": proposed["promise"],
                "fingerprint": "f1",
            }
            self.detector(name).update(changed)
            self.tell("detector", self.detector(name))
            return self.detector(name)

        @app.get("/v1/events")
        async def events() -> Response:
            queue: asyncio.Queue[str] = asyncio.Queue()
            self.listeners.append(queue)
            self.loop = asyncio.get_running_loop()

            async def lines() -> AsyncIterator[str]:
                yield ": here\n\n"
                try:
                    while text := await queue.get():
                        yield text
                finally:
                    self.listeners.remove(queue)

            return StreamingResponse(lines(), media_type="text/event-stream")

        @app.get("/v1/status")
        async def status() -> Any:
            names = [one["name"] for one in self.detectors]
            disk = {"bytes": 0, "limit": None}
            queue = {"waiting": 0, "places": 64}
            return {
                "version": "0.0",
                "queue": queue,
                "detectors": names,
                "disk": disk,
                "warnings": self.warnings,
                "offline": True,
            }

        return app


class Running:
    """A fake service that answers, until it is stopped; it can be started again at the same address."""

    def __init__(self, fake: Fake, port: int = 0) -> None:
        self.fake = fake
        self.port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        config = uvicorn.Config(self.fake.app(), port=self.port, log_level="error", ws="none", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.should_exit = True
        for queue in list(self.fake.listeners):
            assert self.fake.loop is not None
            self.fake.loop.call_soon_threadsafe(queue.put_nowait, "")
        self.thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--port", type=int, default=8770)
    parser.add_argument("--token")
    options = parser.parse_args()
    fake, draw = Fake(token=options.token), np.random.default_rng(0)
    for number in range(options.photos):
        fake.add(f"part {number:04}.png", photo(float(draw.normal(-1.5, 1.6)), seed=number), ago=60 * number)
    print(Running(fake, options.port).url)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
