"""What happens, told to all who listen: verdicts of this and other processes, corrections, warnings."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from zeroflaw.errors import HistoryError
from zeroflaw.serve.history import History
from zeroflaw.serve.records import Row

Kind = Literal["verdict", "feedback", "detector", "warning"]
LISTENERS = 64
_BEHIND = (
    1000  # events that a listener may be behind; after that its line is cut, and it asks for the history
)
_LOOK = 1.0  # seconds between looks at what other processes added
_AT_ONCE = 200

Event = Mapping[str, str]


class Events:
    """Tells listeners what happens; its methods but `publish` and `poke` belong to the event loop.

    Args:
        history: whose new rows are told, whoever added them: this service, or a watched folder's process.
        view: what clients are shown of a row.
    """

    def __init__(self, history: History, view: Callable[[Row], Mapping[str, Any]]) -> None:
        self._history, self._view = history, view
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last = 0

    async def start(self) -> None:
        """Begin to follow the history."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End all lines."""
        self.hang_up()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def hang_up(self) -> None:
        """Let every line end after what was told on it."""
        for listener in [*self._listeners]:
            listener.put_nowait(None)

    @property
    def full(self) -> bool:
        """Whether nobody else may listen."""
        return len(self._listeners) >= LISTENERS

    async def listen(self) -> AsyncIterator[Event]:
        """Yield what happens from now on."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        if not self._listeners:
            self._last = await run_in_threadpool(self._history.newest)
        self._listeners.add(queue)
        self._poked.set()
        try:
            while (event := await queue.get()) is not None:
                yield event
                if queue.qsize() > _BEHIND:
                    return
        finally:
            self._listeners.discard(queue)

    def publish(self, kind: Kind, data: Mapping[str, Any]) -> None:
        """Tell something, from any thread."""
        self._call(lambda: self._tell(kind, data))

    def poke(self) -> None:
        """Say, from any thread, that there are new rows."""
        self._call(self._poked.set)

    def _call(self, what: Callable[[], object]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

    def _tell(self, kind: Kind, data: Mapping[str, Any]) -> None:
        event = {"event": kind, "data": json.dumps(data, ensure_ascii=False, allow_nan=False)}
        for listener in self._listeners:
            if listener.qsize() <= _BEHIND:
                listener.put_nowait(event)

    async def _follow(self) -> None:
        """Tell new rows as they come, in their order."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), _LOOK if self._listeners else None)
            self._poked.clear()
            try:
                while self._listeners and await self._tell_new() == _AT_ONCE:
                    pass
            except HistoryError:  # those who ask for it are told; it may come back
                await asyncio.sleep(_LOOK)

    async def _tell_new(self) -> int:
        rows = await run_in_threadpool(self._history.after, self._last, _AT_ONCE)
        for row in rows:
            self._tell("verdict", self._view(row))
            self._last = row.id
        return len(rows)
