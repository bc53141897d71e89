"""The service as a process: its socket, and an end that loses nothing."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from zeroflaw.errors import UsageError, reason
from zeroflaw.serve.app import make_app
from zeroflaw.serve.security import Rules
from zeroflaw.serve.service import Service

DRAIN = 60  # seconds that requests have to end after SIGTERM
_WAITING = 1024  # connections that the system holds until they are accepted
_LONGEST_HEAD = 16 * 2**10  # bytes of a request's line and headers


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens; port 0 is any free one.

    Raises:
        UsageError: the address cannot be listened at.
    """
    try:
        listener = socket.create_server((host, port), backlog=_WAITING, family=_family(host))
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"the service cannot listen at {host}, port {port} ({reason(error)}); give another --port "
            "or --host"
        ) from error
    with listener:
        yield listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as a browser wants it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Http(H11Protocol):
    """Answers those who ask for a WebSocket as if they had not, and advises nobody to install one."""

    @override
    def _unsupported_upgrade_warning(self) -> None:
        return


class _Server(uvicorn.Server):
    """Ends in peace at the first SIGTERM or SIGINT, and at once at the second."""

    def __init__(self, config: uvicorn.Config, service: Service, began: Callable[[], object]) -> None:
        super().__init__(config)
        self._service, self._began = service, began

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._began()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # As the one it replaces, which at its end raises the signal again: an end in peace is no failure.
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.end_lines()
        super().handle_exit(sig, frame)


def run(service: Service, rules: Rules, listener: socket.socket, began: Callable[[], object]) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun are answered, and pictures that wait judged.

    Args:
        service: what is served.
        rules: which requests pass.
        listener: the socket.
        began: called once it serves; a signal from then on ends it in peace.
    """
    config = uvicorn.Config(
        make_app(service, rules),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=_Http,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_graceful_shutdown=DRAIN,
        lifespan="on",
    )
    _Server(config, service, began).run(sockets=[listener])
