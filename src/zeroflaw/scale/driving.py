"""See to it that every block is judged once: on processes of this machine, or on a Ray cluster.

A worker writes the part of its block itself. So a block that is judged twice, because a worker died after
writing, leaves one part; and what is done after a kill is what the store holds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

from zeroflaw.errors import InputError, UsageError, needing, printable, reason
from zeroflaw.scale.items import Block
from zeroflaw.scale.judging import Task, failed, judge
from zeroflaw.scale.store import Store, Table

TRIES = 2  # of a block as it is; then its halves are tried, and a single image is given up
DEATHS = 8  # in a row, without a block that was finished
PATIENCE = 900.0  # seconds without a block that was finished
BEAT = 5.0  # seconds between two looks at what blocks are worked on by
HEADLESS = 30.0  # seconds that a cluster may be without its head; after 60, Ray ends the process


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one block.

    Attributes:
        images: how many rows it has.
        anomalous, judged, unreadable: how many of them are called anomalous, have a verdict, have an error.
        seconds: processor time that a worker spent on it.
    """

    images: int = 0
    anomalous: int = 0
    judged: int = 0
    unreadable: int = 0
    seconds: float = 0.0


def work(block: Block, task: Task, url: str, table: Table) -> Done:
    """Judge a block and write its part; what a worker does."""
    start = time.process_time()
    rows = judge(block, task)
    Store(url, table).write(block, rows)
    return _count(rows, time.process_time() - start)


def _count(rows: list[dict[str, Any]], seconds: float) -> Done:
    labels = [row.get("label") for row in rows]
    errors = sum("error" in row for row in rows)
    return Done(
        len(rows), sum(map(bool, labels)), sum(label is not None for label in labels), errors, seconds
    )


class Engine(Protocol):
    """Where blocks are worked on.

    Attributes:
        ahead: how many blocks are handed out at a time.
    """

    ahead: int

    def submit(self, block: Block) -> Future[Done]:
        """Hand a block to a worker."""
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


_held: tuple[Any, ...] = ()  # of a worker process: arguments of `work`, after the block


def _begin(parent: int, *arguments: Any) -> None:
    """Keep what is the same for all blocks, leave interrupts to the parent, and end when it is gone."""
    global _held
    _held = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work_here(block: Block) -> Done:
    return work(block, *_held)


class Processes:
    """Workers on this machine.

    Args:
        workers: how many.
        arguments: of `work`, after the block.
    """

    def __init__(self, workers: int, *arguments: Any) -> None:
        self.workers = workers
        self.ahead = 2 * workers  # so that none waits for the next
        self._arguments = (os.getpid(), *arguments)
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # threads of a network do not survive a fork
        return ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=self._arguments)

    def submit(self, block: Block) -> Future[Done]:
        """Hand a block to a process."""
        try:
            return self._pool.submit(_work_here, block)
        except BrokenProcessPool:
            self.restart()
            return self._pool.submit(_work_here, block)

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


class Cluster:
    """Workers of a Ray cluster.

    Args:
        address: of the cluster; "local" begins one on this machine.
        workers: how many blocks are worked on at a time.
        arguments: of `work`, after the block.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no such cluster.
    """

    def __init__(self, address: str, workers: int, *arguments: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with needing("--ray", "scale"):
            import ray  # an extra, and slow to import
        self._ray = ray
        self.ahead = workers
        self._address = printable(address)
        if place := _host_and_port(address):
            try:
                _knock(place)  # Ray would ask for minutes
            except (OSError, OverflowError) as error:  # no port has such a number
                raise self._unanswered(reason(error)) from error
        try:
            where = {"num_cpus": workers} if address == "local" else {}
            ray.init(address=address, log_to_driver=False, configure_logging=False, **where)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise self._unanswered(printable(error)) from error
        # Where its head listens; a client of Ray speaks to one place alone.
        named = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address
        self._head = _host_and_port(named)
        self._looked = self._seen = time.monotonic()
        self._arguments = [ray.put(argument) for argument in arguments]
        # That a worker dies is counted here: its block may be what kills it.
        self._work = ray.remote(num_cpus=1, max_retries=0)(work)

    def _unanswered(self, why: str) -> UsageError:
        return UsageError(
            f"no Ray cluster answers at {self._address} ({why}); start one, or use --workers alone"
        )

    def submit(self, block: Block) -> Future[Done]:
        """Hand a block to the cluster."""
        future: Future[Done] = self._work.remote(block, *self._arguments).future()
        return future

    def died(self, error: BaseException) -> bool:
        """Whether a worker or its node is gone: all that Ray says but what the work itself raised."""
        known = self._ray.exceptions
        said = isinstance(error, known.RayTaskError) and not isinstance(error, MemoryError)
        return isinstance(error, known.RayError | MemoryError) and not said

    def restart(self) -> bool:
        """Ray replaces its workers itself, and the others go on."""
        return False

    def require(self) -> None:
        """Look whether the head of the cluster is there, which may be away for a while.

        Raises:
            InputError: it is gone.
        """
        now = time.monotonic()
        if self._head is None or now - self._looked < BEAT:
            return
        self._looked = now
        try:
            _knock(self._head)
            self._seen = now
        except OSError as error:
            if now - self._seen >= HEADLESS:
                raise InputError(
                    f"the Ray cluster at {self._address} has lost its head ({reason(error)}); start one "
                    "again, then run the same command: it goes on"
                ) from error

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Return what HOST:PORT names; None for "local", "auto"."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def _knock(place: tuple[str, int]) -> None:
    """Open and close a connection.

    Raises:
        OSError: nothing listens there.
    """
    with socket.create_connection(place, timeout=10):
        pass


@dataclass
class _Suspect:
    """A block whose worker died: it runs alone, so that nothing else dies with it."""

    block: Block
    deaths: int


@dataclass
class Drive:
    """One run over blocks.

    Attributes:
        engine: that works on them.
        give_up: takes a block of one image that killed its workers, and why.
        patience: seconds without a finished block after which the run ends.
    """

    engine: Engine
    give_up: Callable[[Block, str], Done]
    patience: float = PATIENCE
    _suspects: list[_Suspect] = field(default_factory=list)
    _deaths: int = 0  # since a block was finished

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """Yield what became of blocks as they are finished.

        Raises:
            ZeroflawError: a worker said so: the store or the detector is gone.
            InputError: workers died again and again, or nothing was finished for too long.
        """
        source = iter(blocks)
        running: dict[Future[Done], _Suspect] = {}
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
            self.engine.close()

    def _fill(self, source: Iterator[Block], running: dict[Future[Done], _Suspect]) -> None:
        if self._suspects:
            if not running:
                suspect = self._suspects.pop(0)
                running[self.engine.submit(suspect.block)] = suspect
            return
        while len(running) < self.engine.ahead and (block := next(source, None)) is not None:
            running[self.engine.submit(block)] = _Suspect(block, 0)

    def _end(self, running: dict[Future[Done], _Suspect], ended: Iterable[Future[Done]]) -> Iterator[Done]:
        died: list[tuple[_Suspect, str]] = []
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

    def _again(self, suspect: _Suspect, why: str) -> Iterator[Done]:
        """Try a block again; then its halves, until the image that kills workers is alone."""
        block, deaths = suspect.block, suspect.deaths + 1
        if deaths < TRIES:
            self._suspects.append(_Suspect(block, deaths))
        elif len(block) > 1:
            middle = len(block) // 2
            self._suspects += [_Suspect(block[:middle], 0), _Suspect(block[middle:], 0)]
        else:
            yield self.give_up(block, f"its worker died {deaths} times ({why})")


def giving_up(task: Task, store: Store) -> Callable[[Block, str], Done]:
    """Return what writes the rows of images that no worker survives."""

    def give_up(block: Block, why: str) -> Done:
        rows = failed(block, task, why)
        store.write(block, rows)
        return _count(rows, 0.0)

    return give_up
