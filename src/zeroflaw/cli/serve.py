"""``zeroflaw serve``: detectors behind HTTP, with a page and a history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.options import Number, engine_options, history_options, reading_options
from zeroflaw.cli.output import PATH, quiet_option, repeated, say
from zeroflaw.detectors import Detector, load
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.errors import UsageError, needing, printable


@click.command()
@click.argument("detectors", nargs=-1, required=True, metavar="DETECTOR...")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free one."
)
@repeated("--allow-host", "allowed", metavar="NAME", help="Another name that the service is reached by.")
@click.option("--token-file", type=PATH, metavar="FILE", help="File with a token that clients must send.")
@history_options
@click.option("--no-pictures", is_flag=True, help="Keep verdicts alone.")
@click.option(
    "--keep-gb",
    type=Number(0, 1e9, min_open=True),
    metavar="N",
    help="Forget the oldest pictures above this; their rows stay.",
)
@click.option(
    "--queue",
    "places",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    metavar="N",
    help="Pictures that may wait; others are told to come later.",
)
@engine_options
@quiet_option
@reading_options
def serve(
    detectors: tuple[str, ...],
    host: str,
    port: int,
    allowed: tuple[str, ...],
    token_file: Path | None,
    history: Path,
    database: str | None,
    no_pictures: bool,
    keep_days: float | None,
    keep_gb: float | None,
    places: int,
    quiet: bool,
    engine: str | None,
    device: str | None,
) -> None:
    """Serve saved detectors, each FOLDER or NAME=FOLDER: a page for people, HTTP for machines, a history.

    It listens on this machine alone. To be reached from others it wants a token (--token-file), and the name
    that it is reached by (--allow-host). SIGTERM lets it end what it has begun.
    """
    with needing("the service", "serve"):
        from zeroflaw.serve import running
        from zeroflaw.serve.detectors import Detectors, names_of
        from zeroflaw.serve.history import History
        from zeroflaw.serve.pictures import PictureStore
        from zeroflaw.serve.security import Rules, Tokens, is_loopback
        from zeroflaw.serve.service import Service, Settings
    if token_file is None and not is_loopback(host):
        raise UsageError(
            f"whoever reaches {host} could use the service; give a token (--token-file FILE), or listen on "
            "127.0.0.1"
        )
    tokens = None if token_file is None else Tokens.read(token_file)
    named = names_of(detectors)
    said = {"engine": engine, "device": device}
    place: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    loaded = Detectors(named, lambda path: _judging(load(path, **place), path))
    kept = None if keep_gb is None else round(keep_gb * 1e9)
    rules = Rules.at(host, allowed, tokens=tokens)
    with running.listening(host, port) as listener:  # before a history is made that nothing would use
        opened = History.open(database or history, keep_days=keep_days, keep_bytes=kept)
        store = PictureStore(history / "pictures")
        service = Service(loaded, opened, store, Settings(places=places, keep_pictures=not no_pictures))
        where = f"{', '.join(loaded.names)} at {running.address_of(listener)}"
        running.run(
            service, rules, listener, lambda: say(f"zeroflaw: {where} (history {opened.name})", quiet)
        )


def _judging(detector: Detector, folder: Path) -> BackboneDetector[Any]:
    """Return a detector that a service can use.

    Raises:
        UsageError: it judges photos by one another.
    """
    if not isinstance(detector, BackboneDetector) or detector.needs.whole_batch:
        raise UsageError(
            f"'{printable(folder)}' judges photos by one another, which a service gets one by one; serve one "
            "that was made from words or good photos"
        )
    return detector
