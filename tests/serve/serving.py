"""What tests of the service share: verdicts, histories, rows by the thousand."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from zeroflaw.runtime.calibration import calibration_of
from zeroflaw.runtime.folder import Identity, SavedDetector, Seen, read_folder, write_folder
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import expit
from zeroflaw.runtime.stream import OnError, batches, read_ahead
from zeroflaw.serve import running
from zeroflaw.serve.app import make_app
from zeroflaw.serve.detectors import Detectors
from zeroflaw.serve.history import History
from zeroflaw.serve.pictures import PictureStore
from zeroflaw.serve.records import Verdict
from zeroflaw.serve.security import Rules, Tokens
from zeroflaw.serve.service import Service, Settings


def prediction(logit: float = 0.5, **more: Any) -> Prediction:
    """A prediction with a map, whose threshold is 0."""
    values = {"source": "x.png", "score": 1 / (1 + np.exp(-logit)), "logit": logit, "scores": {"word": 0.5}}
    values |= {"size": (40, 60), "map": np.full((4, 6), 0.25, np.float32)}
    made = Prediction(**{**values, **more})
    return made.with_threshold(0.0, "Threshold from 20 good photos.", p_value=0.05, map_threshold=0.2)


def verdict(key: str = "a", logit: float = 0.5, **more: Any) -> Verdict:
    """A verdict as the service makes it."""
    who = {"detector": "bottle", "fingerprint": "f" * 64, "source": "http", "name": f"{key}.png"}
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Verdict.of(prediction(logit), **{**who, "key": key, "digest": digest, **more})


def fill(file: Path, count: int) -> None:
    """Write rows into the SQLite database of a history, quicker than through the history."""
    random = np.random.default_rng(0)
    logits = random.normal(-2, 2, count)
    record = json.dumps(prediction().to_dict() | {"more": "x" * 300})
    rows = (
        (
            f"2026-{1 + n * 12 // count:02d}-03T04:05:06.{n:06d}Z",
            ("bottle", "nut", "cable")[n % 3],
            f"{n}",
            f"line-{n % 7}/part-{n:06d}.png",
            f"{n % 5000:064x}",
            logits[n],
            logits[n],
            bool(logits[n] > 0) if n % 3 else None,
            '[{"box": [1, 2, 3, 4], "area": 12, "share": 0.5, "peak": 0.9, "peak_at": [1, 2]}]',
            record,
            "2026-05-06T07:08:09.000000Z" if n % 997 == 0 else None,
        )
        for n in range(count)
    )
    names = "time, detector, key, name, digest, logit, rank, anomalous, regions, record, corrected_at"
    fixed = "fingerprint, source, milliseconds, note"
    with sqlite3.connect(file) as connection:
        connection.executemany(
            f"INSERT INTO verdicts ({names}, {fixed}) VALUES ({', '.join('?' * 11)}, 'f', 'http', 3.5, '')",
            rows,
        )
        connection.execute("INSERT INTO pictures SELECT digest, 1000, max(time) FROM verdicts GROUP BY 1")
    connection.close()


# A service without a model


def photo(
    redness: float = 0.0, *, size: tuple[int, int] = (24, 32), kind: str = "PNG", seed: int = 0
) -> bytes:
    """Return an encoded picture whose log-odds by `Redness` are ``redness``, to a sixteenth."""
    pixels = np.random.default_rng(seed).integers(0, 5, (*size, 3), dtype=np.uint8)
    pixels[..., 0] = np.clip(round(128 + 16 * redness), 0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


class Redness:
    """Judges a picture by its red channel, in batches as detectors do; `pause` holds it up."""

    name: ClassVar[str] = "redness"

    def __init__(self, saved: SavedDetector) -> None:
        self.calibration_ = saved.calibration
        self.seen_ = saved.seen
        self.pause = threading.Event()
        self.pause.set()
        self.batches: list[int] = []
        self.fault: Exception | None = None

    def predict(
        self,
        images: Iterable[Any],
        *,
        maps: bool = False,
        batch_size: int = 8,
        on_error: OnError | None = None,
    ) -> Iterator[Prediction]:
        for batch in batches(read_ahead(images, on_error), batch_size):
            self.batches.append(len(batch))
            self.pause.wait()
            if self.fault is not None:
                raise self.fault
            for one in batch:
                logit = round((float(one.image[..., 0].mean()) - 128) / 16, 4)
                said = Prediction(
                    source=one.name,
                    score=float(expit(logit)),
                    logit=logit,
                    scores={"red": float(expit(logit))},
                    size=one.image.shape[:2],
                    map=np.full((3, 4), expit(logit), np.float32) if maps else None,
                    notes=one.notes,
                )
                yield said if self.calibration_ is None else self.calibration_.judged(said)


def save_redness(folder: Path, good: Sequence[float] = (), *, seen: Seen | None = None) -> Path:
    """Save a detector that `open_redness` opens; with good log-odds it has a threshold."""
    made = calibration_of([good, ()], good).model_copy(update={"left_out": True}) if good else None
    network = Identity(name="none", sha256="0" * 64, fingerprint="0" * 64)
    saved = SavedDetector(
        "redness", {}, network, {"kind": "red"}, {"red": np.ones(1, np.float32)}, {}, seen or Seen(), "", made
    )
    write_folder(folder, saved)
    return folder


def open_redness(folder: Path) -> Redness:
    return Redness(read_folder(folder))


GOOD = [-4 + number / 8 for number in range(20)]


@contextmanager
def serving(
    folder: Path,
    *,
    detectors: Sequence[str] = ("red",),
    token: str | None = None,
    settings: Settings | None = None,
    good: Sequence[float] = GOOD,
    **kept: Any,
) -> Iterator[tuple[TestClient, Service]]:
    """Run a service in this process and yield a client of it."""
    named = {name: folder / name for name in detectors}
    for path in named.values():
        if not path.exists():
            save_redness(path, good)
    history = History.open(folder / "history", **kept)
    service = Service(
        Detectors(named, open_redness), history, PictureStore(folder / "pictures"), settings=settings
    )
    rules = Rules.at("127.0.0.1", tokens=None if token is None else Tokens(token))
    with TestClient(make_app(service, rules), base_url="http://127.0.0.1:8765") as client:
        try:
            yield client, service
        finally:
            for entry in service.detectors:
                entry.fitted.pause.set()  # type: ignore[attr-defined]


@contextmanager
def on_socket(folder: Path, settings: Settings | None = None) -> Iterator[int]:
    """Run a service on a real socket, in a thread, and yield its port."""
    save_redness(folder / "red", GOOD)
    history = History.open(folder / "history")
    detectors = Detectors({"red": folder / "red"}, open_redness)
    service = Service(detectors, history, PictureStore(folder / "pictures"), settings)
    app = make_app(service, Rules.at("127.0.0.1", largest=service.settings.largest))
    with running.listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", http="h11")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join()


def red(service: Service, name: str = "red") -> Redness:
    """Return the fake detector of a service."""
    fitted = service.detectors.get(name).fitted
    assert isinstance(fitted, Redness)
    return fitted


def files(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """Return pictures as a client of HTTP sends them."""
    return [("files", (f"{number}.png", data)) for number, data in enumerate(pictures)]


def wait_for(what: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
