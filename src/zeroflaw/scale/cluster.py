"""Workers of a Ray cluster."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from zeroflaw.errors import InputError, UsageError, needing, printable, reason
from zeroflaw.scale.driving import BEAT

HEADLESS = 30.0  # seconds that a cluster may be without its head; after 60, Ray ends the process


class Cluster:
    """Workers of a Ray cluster.

    Args:
        address: of the cluster; "local" begins one on this machine.
        workers: how many blocks are worked on at a time.
        work: what is done with a block.
        held: its last arguments, which are the same for all blocks and sent once.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no such cluster.
    """

    def __init__(self, address: str, workers: int, work: Callable[..., Any], *held: object) -> None:
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
        self._held = [ray.put(one) for one in held]
        # That a worker dies is counted here: its block may be what kills it.
        self._work = ray.remote(num_cpus=1, max_retries=0)(work)

    def _unanswered(self, why: str) -> UsageError:
        return UsageError(
            f"no Ray cluster answers at {self._address} ({why}); start one, or use --workers alone"
        )

    def submit(self, *arguments: object) -> Future[Any]:
        """Hand a block to the cluster."""
        future: Future[Any] = self._work.remote(*arguments, *self._held).future()
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
