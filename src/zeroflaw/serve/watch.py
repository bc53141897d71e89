"""A folder into which a camera writes: each file is judged once, and its verdict is kept before it is told.

The order of things, of which any may be the last before the power goes: a file is complete; it is read once,
and these bytes are judged; the verdict is on the disk, under a key of content, folder and name; receivers are
woken; the file is moved; the line is written. What was not done is done at the next start, because a key that
is in the history is not judged again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from zeroflaw._version import __version__
from zeroflaw.errors import ImageError, OutputError, printable, reason
from zeroflaw.images import shown
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import OnError
from zeroflaw.serve.arrivals import Arrival, Arrivals, ChangedError, Content, FolderGoneError, read_whole
from zeroflaw.serve.changes import Changes
from zeroflaw.serve.history import History
from zeroflaw.serve.moving import Mover, Place
from zeroflaw.serve.pictures import PictureStore
from zeroflaw.serve.records import SCHEMA, Row, Verdict, clean
from zeroflaw.serve.watched import Known, Watched

IN_MEMORY = 1 << 26  # bytes of encoded files that are judged together, unless one has more
PRUNE = 3600.0  # seconds between two times that what is too old is removed
LONGEST = 60.0  # seconds between attempts of anything

Tell = Callable[[str], object]
T = TypeVar("T")


class Judge(Protocol):
    """What judges pictures; every detector does."""

    def predict(
        self,
        images: Iterable[Any],
        *,
        maps: bool = ...,
        batch_size: int = ...,
        on_error: OnError | None = ...,
    ) -> Iterator[Prediction]:
        """Judge encoded pictures; each is called by its number in ``Prediction.source``."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a watch does.

    Attributes:
        folder: that is watched.
        place: what it is called in keys: its path, or a name that it keeps when it moves.
        detector: name of the detector, for the history.
        fingerprint: of the detector.
        interval: seconds between two looks.
        patience: seconds for which a file that is no picture must not change before that is its verdict.
        batch_size: files that are judged together.
        largest: bytes of a file that is read.
        maps: compute maps, and from them regions.
        channels: of the history, to which verdicts are sent.
        once: end when all files that are there are judged.
        deadline: with ``once``, seconds after which files that still change are left for the next time.
    """

    folder: Path
    place: str
    detector: str
    fingerprint: str
    interval: float = 1.0
    patience: float = 10.0
    batch_size: int = 8
    largest: int
    maps: bool = True
    channels: tuple[str, ...] = ()
    once: bool = False
    deadline: float = 60.0

    def key(self, digest: str, name: str) -> str:
        """Return the key of a file in the history: its content, this folder, and its name in it."""
        path = hashlib.sha256(os.fsencode(self.place) + b"\0" + os.fsencode(name)).hexdigest()
        return f"{digest}:{path[:32]}"


class Result(NamedTuple):
    """A verdict that is in the history.

    ``record`` is the row of ``zeroflaw detect`` with ``id``, ``time`` and, where it was moved, ``moved_to``.
    """

    row: Row
    record: Mapping[str, Any]


@dataclass
class Tally:
    """What a run did.

    Attributes:
        judged: files that got a verdict, or a score where there is no threshold.
        anomalous: how many of them are.
        unreadable: files that are no pictures.
        known: files that had been judged before.
        denied: names of files that could not be read.
        unmoved: names of files that could not be moved.
        unsettled: how many files were not complete at the end.
    """

    judged: int = 0
    anomalous: int = 0
    unreadable: int = 0
    known: int = 0
    denied: set[str] = field(default_factory=set)
    unmoved: set[str] = field(default_factory=set)
    unsettled: int = 0


class _Read(NamedTuple):
    """A file that was read, when that began, and its key."""

    arrival: Arrival
    content: Content
    start: float
    key: str


class Watcher:
    """Judges the files of a folder as they come, until it is told to stop.

    Args:
        judge: a fitted detector.
        history: where verdicts are kept.
        plan: what to do.
        arrivals: finds complete files.
        watched: what is known of files from earlier runs.
        mover: moves judged files, or None.
        store: keeps copies of the files, or None.
        report: takes each verdict once it is kept.
        tell: takes sentences for people.
        wake: called when there are new rows to be sent.
        calibration: of the detector, to notice changes of light or lens; or None.
    """

    def __init__(
        self,
        judge: Judge,
        history: History,
        plan: Plan,
        *,
        arrivals: Arrivals,
        watched: Watched,
        mover: Mover | None = None,
        store: PictureStore | None = None,
        report: Callable[[Result], object],
        tell: Tell,
        wake: Callable[[], object] = lambda: None,
        calibration: Calibration | None = None,
    ) -> None:
        self._judge, self._history, self._plan = judge, history, plan
        self._arrivals, self._watched, self._mover, self._store = arrivals, watched, mover, store
        self._report, self._tell, self._wake = report, tell, wake
        self._changes = None if calibration is None else Changes(calibration)
        self._queue: deque[Arrival] = deque()
        self._waits: dict[str, float] = {}  # seconds that a file waits before it is tried again
        self._gone, self._first = False, True
        self._prune_at = 0.0
        self._stopped: Callable[[], bool] = lambda: False
        self.tally = Tally()

    def run(self, stopped: Callable[[], bool]) -> Tally:
        """Watch until ``stopped`` says so, or, with ``once``, until all is judged.

        Raises:
            OutputError: with ``once``, or stopped: verdicts cannot be kept.
            FolderGoneError: with ``once``: the folder cannot be listed.
        """
        self._stopped = stopped
        begin = look_at = time.monotonic()
        while not stopped():
            if (now := time.monotonic()) >= look_at:
                self._look()
                self._prune(now)
                took = time.monotonic() - now  # a look may last, on a slow share: a tenth of the time at most
                look_at = now + took + max(self._plan.interval, 9 * took)
            if self._queue:
                self._judge_some()
            elif self._plan.once and self._is_done(time.monotonic() - begin):
                break
            else:
                pause(look_at - time.monotonic(), stopped)
        self.tally.unsettled = self._arrivals.unsettled
        return self.tally

    def _prune(self, now: float) -> None:
        """Remove what is too old, if somebody said what that is."""
        if self._history.keep_days is None or now < self._prune_at:
            return
        self._prune_at = now + PRUNE
        remove = (lambda digest: None) if self._store is None else self._store.remove
        self._patiently(lambda: self._history.prune(remove))

    def _is_done(self, seconds: float) -> bool:
        tried = len(self.tally.denied) + len(self.tally.unmoved)
        return self._arrivals.unsettled <= tried or seconds > self._plan.deadline

    def _look(self) -> None:
        """Put files that are complete into the queue."""
        try:
            found = self._arrivals.look()
        except FolderGoneError as error:
            if self._plan.once:
                raise
            if not self._gone:
                self._tell(f"{error}; waiting for it")
            self._gone = True
            return
        if self._gone:
            self._tell(f"{printable(self._plan.folder)} is back")
        self._gone = False
        self._queue.extend(found)
        gone = self._arrivals.dropped()
        if self._first and len(self._arrivals):
            self._patiently(lambda: self._watched.forget_others(self._arrivals.names()))
            self._first = False
        for name in gone:
            self._waits.pop(name, None)
            self.tally.denied.discard(name)
            self.tally.unmoved.discard(name)
        self._patiently(lambda: self._watched.forget(gone))

    def _judge_some(self) -> None:
        """Judge the files at the head of the queue, as many as go together."""
        batch: list[_Read] = []
        size = 0
        while self._queue and len(batch) < self._plan.batch_size and size < IN_MEMORY:
            read = self._read(self._queue.popleft())
            if read is not None:
                batch.append(read)
                size += len(read.content.data or b"")
        if batch:
            self._judge_batch(batch)
        self._patiently(self._watched.keep)

    def _judge_batch(self, batch: Sequence[_Read]) -> None:
        """Judge files unless they are known, keep the verdicts, and do what comes after."""
        rows = self._patiently(lambda: self._history.of_keys("watch", [read.key for read in batch]))
        for read in batch:
            if (row := rows.get(read.key)) is not None:
                self._finish_known(read.arrival, row)
        verdicts = list(self._verdicts([read for read in batch if read.key not in rows]))
        if self._store is not None:
            verdicts = [self._copied(self._store, *one) for one in verdicts]
        found, channels = [verdict for _, verdict, _ in verdicts], self._plan.channels
        kept = self._patiently(lambda: self._history.add(found, channels=channels)) if found else []
        self._wake()
        for (read, _, prediction), row in zip(verdicts, kept, strict=True):
            self._finish(read, row, prediction)
        if self._changes is not None and (said := self._changes.said()):
            self._tell(said)

    def _read(self, arrival: Arrival) -> _Read | None:
        """Read a file; None where it is known already, changes, or cannot be read just now."""
        known = self._watched.get(arrival.name)
        if known is not None and known.facts == arrival.facts and self._is_known(arrival, known):
            return None
        start = time.monotonic()
        try:
            content = read_whole(self._plan.folder, arrival, self._plan.largest)
        except ChangedError:
            self._arrivals.again(arrival.name, self._plan.interval)
            return None
        except OSError as error:
            self._later(arrival.name, f"cannot be read ({reason(error)})", self.tally.denied)
            return None
        self.tally.denied.discard(arrival.name)
        read = _Read(arrival, content, start, self._plan.key(content.digest, arrival.name))
        if known is not None and known.key == read.key and self._is_known(arrival, known):
            self._watched.remember(arrival, read.key)  # it was touched, or copied anew
            return None
        return read

    def _is_known(self, arrival: Arrival, known: Known) -> bool:
        """Deal with a file that was judged in an earlier run and is as it was then."""
        if self._mover is None:
            self.tally.known += 1
            return True
        row = self._patiently(lambda: self._history.of_keys("watch", [known.key])).get(known.key)
        if row is not None:
            self._finish_known(arrival, row)
        return row is not None  # one that is too old to be kept is judged again, to know where it belongs

    def _verdicts(self, batch: Sequence[_Read]) -> Iterator[tuple[_Read, Verdict, Prediction | None]]:
        """Judge files; those that are no pictures yet, and may become some, are left for later."""
        whole = [read for read in batch if read.content.data is not None]
        errors: dict[int, str] = {}

        def refuse(error: ImageError) -> None:
            errors[_number(error.source)] = error.reason

        judged = self._judge.predict(
            [read.content.data for read in whole],
            maps=self._plan.maps,
            batch_size=self._plan.batch_size,
            on_error=refuse,
        )
        predictions = {_number(prediction.source): prediction for prediction in judged}
        for number, read in enumerate(whole):
            if number in predictions:
                prediction = predictions[number]
                yield read, Verdict.of(prediction, **self._named(read)), replace(prediction, map=None)
            elif (left := self._plan.patience - read.arrival.age) > 0:
                self._arrivals.again(read.arrival.name, left)
            else:
                yield read, self._refused(read, errors[number]), None
        for read in batch:
            if read.content.data is None:
                size, most = read.arrival.facts.size, self._plan.largest
                why = f"the file has {size:,} bytes, and at most {most:,} are read; make it smaller"
                yield read, self._refused(read, why), None

    def _copied(
        self, store: PictureStore, read: _Read, verdict: Verdict, prediction: Prediction | None
    ) -> tuple[_Read, Verdict, Prediction | None]:
        """Keep a copy of a file that is a picture, before its row says that there is one."""
        data = read.content.data
        if prediction is None or data is None:
            return read, verdict, prediction
        size = self._patiently(lambda: store.put(read.content.digest, data))
        return read, replace(verdict, picture_bytes=size), prediction

    def _refused(self, read: _Read, why: str) -> Verdict:
        record = {"schema": SCHEMA, "zeroflaw": __version__, "source": clean(read.arrival.name), "error": why}
        return Verdict(**self._named(read), record=record, error=why)

    def _named(self, read: _Read) -> dict[str, Any]:
        return {
            "detector": self._plan.detector,
            "fingerprint": self._plan.fingerprint,
            "source": "watch",
            "key": read.key,
            "name": clean(read.arrival.name),
            "digest": read.content.digest,
            "milliseconds": 1000 * (time.monotonic() - read.start),
        }

    def _patiently(self, call: Callable[[], T]) -> T:
        """Ask the history or the store; while their disk is full or away, verdicts wait here."""
        wait = 1.0
        while True:
            try:
                return call()
            except OutputError as error:
                if self._plan.once or self._stopped():
                    raise
                self._tell(f"{error}; judging waits, and tries again in {wait:.0f} s")
                pause(wait, self._stopped)
                wait = min(2 * wait, LONGEST)

    def _finish(self, read: _Read, row: Row, prediction: Prediction | None) -> None:
        """Tell a new verdict, and do what comes after."""
        self.tally.judged += row.error is None
        self.tally.unreadable += row.error is not None
        self.tally.anomalous += bool(row.anomalous)
        more: dict[str, Any] = {"source": shown(self._plan.folder / read.arrival.name), "id": row.id}
        if (moved := self._settle(read.arrival, row)) is not None:
            more["moved_to"] = shown(moved)
        regions = {} if row.error is not None else {"regions": row.regions}
        self._report(Result(row, {**row.record, **regions, **more, "time": row.time}))
        if self._changes is not None and prediction is not None:
            self._changes.add(prediction)

    def _finish_known(self, arrival: Arrival, row: Row) -> None:
        """Do what an earlier run did not come to."""
        self.tally.known += arrival.name not in self.tally.unmoved  # which is tried again and again
        self._settle(arrival, row)

    def _settle(self, arrival: Arrival, row: Row) -> Path | None:
        """Move a file, or remember that it is judged; returns where it was moved to."""
        if self._mover is None:
            self._watched.remember(arrival, row.key)
            return None
        try:
            moved = self._mover.move(arrival, row.digest, _place(row))
        except OutputError as error:
            self._watched.remember(arrival, row.key)
            self._later(arrival.name, str(error), self.tally.unmoved)
            return None
        self.tally.unmoved.discard(arrival.name)
        if moved is None:  # another file by now, or none
            self._arrivals.again(arrival.name, self._plan.interval)
        return moved

    def _later(self, name: str, why: str, those: set[str]) -> None:
        """Try a file again after a while, longer each time; the reason is said once."""
        wait = self._waits[name] = min(2 * self._waits.get(name, self._plan.interval), LONGEST)
        self._arrivals.again(name, wait)
        if name not in those:
            those.add(name)
            self._tell(f"{name}: {why}; tried again later")


def _place(row: Row) -> Place:
    if row.error is not None or row.anomalous is None:
        return "unjudged"
    return "flawed" if row.anomalous else "good"


def _number(source: str) -> int:
    """Return the place of a picture in its list, from the name that a judge gives it."""
    return int(source.rpartition(" ")[2])


def pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait, in short steps, so that what a signal says is heard.

    Not on an event: the handler of a signal that sets one could wait for ever for a lock that is held here.
    """
    end = time.monotonic() + seconds
    while not stopped() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
