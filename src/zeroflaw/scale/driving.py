"""See to it that every block is worked on once: on processes of this machine, or on what else is an engine.

What a block is, and what is done to it, is the business of those who hand them in: images of stores that
become rows, or of a data set that become metrics.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from zeroflaw.errors import InputError, printable

TRIES = 2  # of a block as it is; then its halves are tried, and a single image is given up
DEATHS = 8  # in a row, without a block that was finished
PATIENCE = 900.0  # seconds without a block that was finished
BEAT = 5.0  # seconds between two looks at what blocks are worked on by

Item = TypeVar("Item")
Found = TypeVar("Found")


class Engine(Protocol):
    """Where blocks are worked on.

    Attributes:
        ahead: how many blocks are handed out at a time.
    """

    ahead: int

    def submit(self, *arguments: object) -> Future[Any]:
        """Hand a block, and what else its work takes, to a worker."""
        ...

    def died(self, error: BaseException) -> bool:
        """Whether a block's error means that its worker died, and not that it said something."""
        ...

    def restart(self) -> bool:
        """Replace workers that died; returns whether the blocks of all others went with them."""
        ...

    def require(self) -> None:
        """Look whether what gives out the work is still there.

        Raises:
            InputError: it is gone.
        """
        ...

    def close(self) -> None:
        """Let all workers go, without waiting for what they do."""
        ...


_work: Callable[..., Any]  # of a worker process: what it does,
_held: tuple[object, ...]  # and its last arguments


def _begin(parent: int, work: Callable[..., Any], *held: object) -> None:
    """Keep what is the same for all blocks, leave interrupts to the parent, and end when it is gone."""
    global _work, _held
    _work, _held = work, held
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work_here(*arguments: object) -> Any:
    return _work(*arguments, *_held)


class Processes:
    """Workers on this machine.

    Args:
        workers: how many.
        work: what they do.
        held: its last arguments, which are the same for all blocks and sent once.
    """

    def __init__(self, workers: int, work: Callable[..., Any], *held: object) -> None:
        self.workers = workers
        self.ahead = 2 * workers  # so that none waits for the next
        self._begin = functools.partial(_begin, os.getpid(), work, *held)
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # threads of a network do not survive a fork
        return ProcessPoolExecutor(self.workers, context, initializer=self._begin)

    def submit(self, *arguments: object) -> Future[Any]:
        """Hand a block to a process."""
        try:
            return self._pool.submit(_work_here, *arguments)
        except BrokenProcessPool:
            self.restart()
            return self._pool.submit(_work_here, *arguments)

    def died(self, error: BaseException) -> bool:
        """Whether a process is gone or out of memory."""
        return isinstance(error, BrokenProcessPool | MemoryError)

    def restart(self) -> bool:
        """Begin with new processes: a pool that lost one can do nothing more."""
        self.close()
        self._pool = self._new()
        return True

    def require(self) -> None:
        """Do nothing: it is this process that gives out the work."""

    def close(self) -> None:
        """Kill all processes: what they were at is judged again."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


@dataclass
class _Suspect(Generic[Item]):
    """A block whose worker died: it runs alone, so that nothing else dies with it."""

    block: tuple[Item, ...]
    deaths: int


@dataclass
class Drive(Generic[Item, Found]):
    """One run over blocks.

    Attributes:
        engine: that works on them; it is closed by who made it.
        give_up: takes a block of one image that killed its workers, and why.
        more: what work takes beside a block.
        patience: seconds without a finished block after which the run ends.
    """

    engine: Engine
    give_up: Callable[[tuple[Item, ...], str], Found]
    more: tuple[object, ...] = ()
    patience: float = PATIENCE
    _suspects: list[_Suspect[Item]] = field(default_factory=list)
    _deaths: int = 0  # since a block was finished

    def run(self, blocks: Iterable[tuple[Item, ...]]) -> Iterator[Found]:
        """Yield what became of blocks as they are finished.

        Raises:
            ZeroflawError: a worker said so: the store or the detector is gone.
            InputError: workers died again and again, or nothing was finished for too long.
        """
        source = iter(blocks)
        running: dict[Future[Found], _Suspect[Item]] = {}
        last = time.monotonic()
        try:
            while True:
                self._fill(source, running)
                if not running:
                    return
                ended, _ = wait(running, timeout=min(self.patience, BEAT), return_when=FIRST_COMPLETED)
                self.engine.require()
                if ended:
                    last = time.monotonic()
                elif time.monotonic() - last >= self.patience:
                    raise InputError(
                        f"no block was finished for {self.patience:.0f} seconds; look at the workers, then "
                        "run the same command again: it goes on"
                    )
                yield from self._end(running, ended)
        finally:
            for future in running:
                future.cancel()

    def _submit(self, block: tuple[Item, ...]) -> Future[Found]:
        return self.engine.submit(block, *self.more)

    def _fill(self, source: Iterator[tuple[Item, ...]], running: dict[Future[Found], _Suspect[Item]]) -> None:
        if self._suspects:
            if not running:
                suspect = self._suspects.pop(0)
                running[self._submit(suspect.block)] = suspect
            return
        while len(running) < self.engine.ahead and (block := next(source, None)) is not None:
            running[self._submit(block)] = _Suspect(block, 0)

    def _end(
        self, running: dict[Future[Found], _Suspect[Item]], ended: Iterable[Future[Found]]
    ) -> Iterator[Found]:
        died: list[tuple[_Suspect[Item], str]] = []
        for future in ended:
            block = running.pop(future)
            error = future.exception()
            if error is None:
                self._deaths = 0
                yield future.result()
            elif self.engine.died(error):
                died.append((block, printable(str(error).partition("\n")[0])))
            else:
                raise getattr(error, "cause", None) or error
        if not died:
            return
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise InputError(
                f"workers died {DEATHS} times in a row and no block was finished ({died[0][1]}); give them "
                "more memory or fewer --workers, then run the same command again: it goes on"
            )
        if self.engine.restart():
            died += [(block, died[0][1]) for block in running.values()]
            running.clear()
        for block, why in died:
            yield from self._again(block, why)

    def _again(self, suspect: _Suspect[Item], why: str) -> Iterator[Found]:
        """Try a block again; then its halves, until the image that kills workers is alone."""
        block, deaths = suspect.block, suspect.deaths + 1
        if deaths < TRIES:
            self._suspects.append(_Suspect(block, deaths))
        elif len(block) > 1:
            middle = len(block) // 2
            self._suspects += [_Suspect(block[:middle], 0), _Suspect(block[middle:], 0)]
        else:
            yield self.give_up(block, f"its worker died {deaths} times ({why})")
