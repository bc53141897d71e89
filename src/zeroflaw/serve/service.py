"""What the service is behind its routes: detectors, the line, the history, pictures, events, warnings."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from zeroflaw._version import __version__
from zeroflaw.errors import HistoryError, OutputError, ZeroflawError
from zeroflaw.runtime.folder import write_calibration
from zeroflaw.serve.batcher import LARGEST, PLACES, Done, Line, Ticket
from zeroflaw.serve.detectors import Detectors, Entry
from zeroflaw.serve.events import Events
from zeroflaw.serve.history import History
from zeroflaw.serve.metrics import Metrics
from zeroflaw.serve.pictures import PictureStore
from zeroflaw.serve.problems import RefusedError
from zeroflaw.serve.recalibration import Proposal, completed, propose
from zeroflaw.serve.records import LONGEST_NAME, Label, Row, Source, Verdict, clean
from zeroflaw.serve.uploads import Doorway, Upload
from zeroflaw.serve.views import row_view

DEADLINE = 120.0  # seconds from a request's last byte to its answer
_LOOK = 2.0  # seconds between looks at the folders of detectors
_PRUNE = 60.0  # seconds between looks at what is too old
_log = logging.getLogger("zeroflaw.serve")


@dataclass(frozen=True)
class Settings:
    """Bounds of a service.

    Attributes:
        places: pictures in the line, and of a request.
        largest: bytes of these.
        keep_pictures: whether pictures go into the store.
    """

    places: int = PLACES
    largest: int = LARGEST
    keep_pictures: bool = True


class Service:
    """One service; `start` and `stop` belong to its event loop.

    Args:
        detectors: by name.
        history: rows.
        store: pictures.
        settings: bounds.
    """

    def __init__(
        self, detectors: Detectors, history: History, store: PictureStore, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.detectors, self.history, self.store = detectors, history, store
        places, largest = self.settings.places, self.settings.largest
        self.line = Line(detectors, self._keep, places=places, largest=largest)
        self.doorway = Doorway(places, 4 * largest)
        self.events = Events(history, row_view)
        self.metrics = Metrics(lambda: self.line.waiting, places, self._disk)
        self.closing = False
        self._alarms: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._calibrating = threading.Lock()
        detectors.changed = self._changed

    async def start(self) -> None:
        """Begin to judge, to follow the history, and to look after what is kept."""
        self.line.start()
        await self.events.start()
        self._tasks = [
            asyncio.create_task(self._again(_LOOK, self.detectors.refresh)),
            asyncio.create_task(self._again(_PRUNE, lambda: self.history.prune(self.store.remove))),
        ]

    def end_lines(self) -> None:
        """Say that the service is about to end, so that nobody listens on."""
        self.closing = True
        self.events.hang_up()

    async def stop(self) -> None:
        """Judge what waits, and close everything."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await run_in_threadpool(self.line.close)
        await self.events.stop()
        self.history.close()

    async def _again(self, seconds: float, work: Any) -> None:
        """Do something now and then, whatever becomes of it."""
        while True:
            try:
                await run_in_threadpool(work)
            except (ZeroflawError, OSError) as error:
                _log.warning("%s", error)
            await asyncio.sleep(seconds)

    @property
    def ready(self) -> bool:
        """Whether pictures would be judged and kept; `status` and refusals say why not."""
        if self.closing or not self.line.alive:
            return False
        try:
            self.history.database.check()
            if self.settings.keep_pictures:
                self.store.check()
        except (HistoryError, OutputError):
            return False
        return True

    # Judging

    async def judge(
        self, uploads: Sequence[Upload], detector: str | None, source: Source, key: str | None = None
    ) -> tuple[str, list[Row | Exception]]:
        """Judge the pictures of a request, and return the detector's name and a row, or an error, for each.

        Args:
            uploads: the pictures; they are closed.
            detector: its name; None where there is only one.
            source: how they came.
            key: of the sender, so that the same request sent again is in the history once.

        Raises:
            FullError: there is no place for all of them; nothing was judged.
            ClosedError: the service is about to end.
            InputError: there is no such detector.
            UsageError: it must be said which.
            RefusedError: they were not judged in time.
        """
        sizes = [upload.size for upload in uploads]
        try:
            name = self.detectors.get(detector).name
            if len(sizes) > self.line.places:
                raise RefusedError(
                    413, f"at most {self.line.places} pictures are taken at a time; send fewer"
                )
            self.line.reserve(sizes)
        except ZeroflawError:
            for upload in uploads:
                upload.file.close()
            raise
        try:
            tickets = await run_in_threadpool(_tickets, uploads, name, source, key)
        except BaseException:
            self.line.cancel(sizes)
            raise
        self.line.put(tickets)
        answers = [asyncio.wrap_future(ticket.answer) for ticket in tickets]
        try:
            async with asyncio.timeout(DEADLINE):
                found = await asyncio.gather(*answers, return_exceptions=True)
        except TimeoutError:
            raise RefusedError(504, "the pictures were not judged in time; send fewer, or later") from None
        return name, [self._same(ticket, one) for ticket, one in zip(tickets, found, strict=True)]

    def _same(self, ticket: Ticket, found: Row | BaseException) -> Row | Exception:
        """Return the answer of a ticket, unless its key belongs to another picture or detector."""
        if isinstance(found, Exception):
            if not isinstance(found, ZeroflawError):
                _log.error("a picture was not judged", exc_info=found)
            return found
        if isinstance(found, BaseException):
            raise found
        if found.digest != ticket.digest:
            return RefusedError(409, "the Idempotency-Key was used for another picture; take a new one")
        if found.detector != ticket.detector:
            return RefusedError(
                409,
                f"the Idempotency-Key was used for the detector '{found.detector}', not '{ticket.detector}'; "
                "take a new one",
            )
        return found

    def _keep(self, done: Sequence[Done]) -> Sequence[Row]:
        """Put what was judged into the history; called by the line."""
        rows = self.history.add([self._verdict(one) for one in done])
        entries = {one.entry.name: one.entry for one in done}
        for one, row in zip(done, rows, strict=True):
            one.entry.note(one.prediction)
            self.metrics.judged(row)
        self.events.poke()
        for entry in entries.values():
            self._look_for_drift(entry)
        return rows

    def _verdict(self, done: Done) -> Verdict:
        ticket, entry = done.ticket, done.entry
        kept = self.store.put(ticket.digest, ticket.data) if self.settings.keep_pictures else None
        return Verdict.of(
            done.prediction,
            detector=entry.name,
            fingerprint=entry.fingerprint,
            source=ticket.source,
            key=ticket.key,
            name=ticket.name,
            digest=ticket.digest,
            milliseconds=round(1000 * (time.perf_counter() - ticket.arrived), 3),
            picture_bytes=kept,
        )

    # Warnings

    def _look_for_drift(self, entry: Entry) -> None:
        alarm = entry.alarm()
        self.metrics.drift.labels(entry.name).set(alarm is not None)
        if alarm is None:
            self._alarms.pop(entry.name, None)
            return
        new = entry.name not in self._alarms
        self._alarms[entry.name] = alarm
        if new:
            self.events.publish("warning", {"detector": entry.name, "text": alarm})

    def _changed(self, entry: Entry) -> None:
        self._alarms.pop(entry.name, None)
        self.events.publish("detector", entry.to_dict())

    def _disk(self) -> float:
        try:
            return float(self.history.picture_bytes())
        except ZeroflawError:
            return float("nan")

    def status(self) -> dict[str, Any]:
        """Return how the service is, as JSON values."""
        problems = [{"detector": name, "text": text} for name, text in [*self.detectors.problems.items()]]
        alarms = [{"detector": name, "text": text} for name, text in [*self._alarms.items()]]
        return {
            "version": __version__,
            "queue": {"waiting": self.line.waiting, "places": self.line.places},
            "detectors": self.detectors.names,
            "disk": {"bytes": self.history.picture_bytes(), "limit": self.history.keep_bytes},
            "warnings": problems + alarms,
            "offline": True,
        }

    # What people say

    def correct(self, id: int, label: Label | None, note: str) -> dict[str, Any]:
        """Keep a person's correction, tell everybody, and return the row as clients are shown it."""
        row = row_view(self.history.correct(id, label, note))
        self.events.publish("feedback", row)
        return row

    def proposal(self, detector: str) -> Proposal:
        """Return what labelled photos would make of a detector's threshold."""
        entry = self.detectors.get(detector)
        with self._calibrating:
            return propose(entry, self.history.labelled(entry.name), self.store.get)

    def recalibrate(self, detector: str) -> Entry:
        """Accept the proposal: write the calibration, and load the detector again.

        Raises:
            RefusedError: there is no proposal.
            DetectorError: the calibration cannot be written.
        """
        entry = self.detectors.get(detector)
        with self._calibrating:
            rows = self.history.labelled(entry.name)
            found = propose(entry, rows, self.store.get)
            if found.calibration is None:
                raise RefusedError(409, found.why_not or "there is nothing to propose")
            made = completed(entry, found.calibration, rows, self.store.get)
            write_calibration(entry.folder, made)
        return self.detectors.reload(entry.name)


def _tickets(uploads: Sequence[Upload], detector: str, source: Source, key: str | None) -> list[Ticket]:
    """Read the pictures of a request."""
    prefix = uuid.uuid4().hex if key is None else clean(key)
    found = []
    for number, upload in enumerate(uploads):
        data = upload.read()
        digest = hashlib.sha256(data).hexdigest()
        name = clean(upload.name, LONGEST_NAME)
        found.append(Ticket(detector, name, data, digest, source, f"{prefix} {number}"))
    return found
