"""The line of pictures that wait: bounded, judged in small batches, kept before they are answered.

One thread judges. It takes what waits for a detector as one stream, in batches of 8, the next pictures being
decoded while the others are judged; a batch that is not full after 5 milliseconds is judged as it is. Another
thread puts what was judged into the history, several verdicts in a transaction. Places are taken for all
pictures of a request at once, or for none.
"""

from __future__ import annotations

import functools
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from zeroflaw.errors import ImageError, ZeroflawError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.serve.detectors import BATCH, Detectors, Entry
from zeroflaw.serve.records import Row, Source

STILL = 0.005  # seconds that a batch waits for more pictures
PLACES = 64
LARGEST = 256 * 2**20  # bytes of all pictures that wait
_TOGETHER = 32  # verdicts of a transaction
_MOST_SECONDS = 60  # that anybody is told to wait


class FullError(ZeroflawError):
    """There is no place in the line for all pictures of a request.

    Attributes:
        seconds: after which there may be.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the service has all the pictures that it can hold; send again in {seconds} s")
        self.seconds = seconds


class ClosedError(ZeroflawError):
    """The service is about to end."""


@dataclass(eq=False)
class Ticket:
    """A picture that is to be judged.

    Attributes:
        detector: name of the one that judges it.
        name: as the sender calls it.
        data: the encoded picture.
        digest: SHA-256 of that.
        source, key: see `zeroflaw.serve.records.Judged`.
        arrived: when, by ``time.perf_counter``.
        answer: gets the row of the history, or why there is none.
    """

    detector: str
    name: str
    data: bytes = field(repr=False)
    digest: str
    source: Source
    key: str
    arrived: float = field(default_factory=time.perf_counter)
    answer: Future[Row] = field(default_factory=Future, repr=False)


class Done(NamedTuple):
    """A picture that was judged, and by whom."""

    ticket: Ticket
    prediction: Prediction
    entry: Entry


Keep = Callable[[Sequence[Done]], Sequence[Row]]


class Line:
    """Pictures that wait, and the threads that serve them; safe to use from several threads.

    Args:
        detectors: who judges.
        keep: puts what was judged into the history, and returns its rows.
        places: pictures that may be in the line.
        largest: bytes that they may have together.
    """

    def __init__(
        self, detectors: Detectors, keep: Keep, *, places: int = PLACES, largest: int = LARGEST
    ) -> None:
        self._detectors, self._keep = detectors, keep
        self.places, self._largest = places, largest
        self._waiting: deque[Ticket] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._inside = self._bytes = 0
        self._pace = 0.1  # seconds that a picture takes, of late
        self._judged: queue.Queue[Done | None] = queue.Queue(places)
        self._threads = [
            threading.Thread(target=work, name=f"zeroflaw {name}", daemon=True)
            for name, work in (("judge", self._judge_all), ("keep", self._keep_all))
        ]

    def start(self) -> None:
        """Begin to judge."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Judge what waits, and end; nothing more is taken."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def waiting(self) -> int:
        """Pictures in the line, those being judged included."""
        return self._inside

    @property
    def alive(self) -> bool:
        """Whether pictures would be judged."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    @property
    def seconds(self) -> int:
        """After which a picture that came now could be judged."""
        return min(_MOST_SECONDS, max(1, math.ceil(self._inside * self._pace)))

    def reserve(self, sizes: Sequence[int]) -> None:
        """Take places for all pictures of a request, or none; `put` or `cancel` must follow.

        Args:
            sizes: of the pictures in bytes.

        Raises:
            FullError: there is no place for all of them.
            ClosedError: the service is about to end.
        """
        with self._change:
            if self._closed:
                raise ClosedError("the service is about to end; send again when it is back")
            if self._inside + len(sizes) > self.places or self._bytes + sum(sizes) > self._largest:
                raise FullError(self.seconds)
            self._inside += len(sizes)
            self._bytes += sum(sizes)

    def cancel(self, sizes: Sequence[int]) -> None:
        """Give back places that `reserve` took, or those of pictures that are done."""
        with self._change:
            self._inside -= len(sizes)
            self._bytes -= sum(sizes)
            if self._closed:
                self._change.notify_all()

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Let pictures wait in the places that were reserved for them."""
        for ticket in tickets:
            ticket.answer.add_done_callback(functools.partial(self._done, len(ticket.data)))
        with self._change:
            self._waiting.extend(tickets)
            self._change.notify_all()

    def _done(self, size: int, answer: Future[Row]) -> None:
        self.cancel([size])

    # Judging

    def _judge_all(self) -> None:
        while (first := self._first()) is not None:
            self._judge_stream(first)
        self._judged.put(None)

    def _first(self) -> str | None:
        """Return the detector of the picture that has waited longest; None when the line has ended."""
        with self._change:
            while not self._waiting:
                if self._closed and not self._inside:  # whoever took a place will still put something there
                    return None
                self._change.wait()
            return self._waiting[0].detector

    def _judge_stream(self, name: str) -> None:
        """Judge what waits for a detector, and what comes while that is done."""
        entry = self._detectors.get(name)
        open_: dict[str, Ticket] = {}  # by the names that the stream gives to pictures

        def stream() -> Iterator[bytes]:
            number, began = 0, 0.0
            while True:
                if number % BATCH == 0:
                    began = time.perf_counter()
                if (ticket := self._next(entry, number, began + STILL)) is None:
                    return
                open_[f"image {number}"] = ticket
                number += 1
                yield ticket.data

        def refuse(error: ImageError) -> None:
            ticket = open_.pop(error.source)
            ticket.answer.set_exception(ImageError(ticket.name, error.reason))

        start, count = time.perf_counter(), 0
        try:
            for prediction in entry.fitted.predict(stream(), maps=True, batch_size=BATCH, on_error=refuse):
                self._judged.put(Done(open_.pop(prediction.source), prediction, entry))
                count += 1
        except Exception as error:  # whatever it is, those who wait must know, and the next ones be judged
            for ticket in open_.values():
                ticket.answer.set_exception(error)
        if count:
            self._pace += 0.2 * ((time.perf_counter() - start) / count - self._pace)

    def _next(self, entry: Entry, number: int, deadline: float) -> Ticket | None:
        """Return the next picture of a stream; None where it ends."""
        with self._change:
            while True:
                if number >= BATCH and self._others_first(entry):
                    return None
                if (ticket := self._taken(entry.name)) is not None:
                    return ticket
                left = deadline - time.perf_counter()
                if left <= 0 or self._closed:
                    return None
                self._change.wait(left)

    def _taken(self, name: str) -> Ticket | None:
        """Take the picture that has waited longest for a detector; where its sender gave up, the next one."""
        for ticket in [one for one in self._waiting if one.detector == name]:
            self._waiting.remove(ticket)
            if ticket.answer.set_running_or_notify_cancel():
                return ticket
        return None

    def _others_first(self, entry: Entry) -> bool:
        """Whether somebody waits longer for another detector, or this one was loaded again."""
        stale = self._detectors.get(entry.name) is not entry
        return stale or bool(self._waiting and self._waiting[0].detector != entry.name)

    # Keeping

    def _keep_all(self) -> None:
        while (first := self._judged.get()) is not None:
            done = [first]
            ended = False
            while len(done) < _TOGETHER and not self._judged.empty():
                more = self._judged.get()
                if more is None:
                    ended = True
                    break
                done.append(more)
            self._keep_some(done)
            if ended:
                return

    def _keep_some(self, done: Sequence[Done]) -> None:
        try:
            rows = self._keep(done)
        except Exception as error:  # as above
            for one in done:
                one.ticket.answer.set_exception(error)
            return
        for one, row in zip(done, rows, strict=True):
            one.ticket.answer.set_result(row)
