"""``zeroflaw watch``: judge the photos that a camera writes into a folder, as they come."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from zeroflaw.cli.options import (
    batch_size_option,
    detector_options,
    open_detector,
    reading_options,
    take_options,
)
from zeroflaw.cli.output import PATH, json_option, put, put_json, quiet_option, say
from zeroflaw.detectors import Detector, is_folder
from zeroflaw.errors import (
    HistoryError,
    InputError,
    OutputError,
    UsageError,
    needing,
    printable,
    reason,
)
from zeroflaw.files import locked
from zeroflaw.images import largest_file
from zeroflaw.serve.arrivals import Arrivals
from zeroflaw.serve.history import History
from zeroflaw.serve.moving import Mover
from zeroflaw.serve.notify import Sender, Webhook, parse_webhook, read_secret
from zeroflaw.serve.watch import Plan, Result, Tally, Watcher
from zeroflaw.serve.watched import Watched, digest

ANOMALOUS = 1
LOCK = ".zeroflaw-watch.lock"
DRAIN = 30.0  # seconds that --once waits for receivers
PATIENCE = 10.0  # seconds, at least, until a file that is no picture is said to be none
_WORDS = {True: "flawed", False: "good", None: "-"}
_SECRET, _PASSWORD = "ZEROFLAW_WEBHOOK_SECRET", "ZEROFLAW_MQTT_PASSWORD"


class Stop:
    """Hears SIGINT and SIGTERM, so that work in hand is ended in order; a second one is as usual."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        """Whether one has come."""
        return self.number is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen until the block ends."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def hear(number: int, frame: FrameType | None) -> None:
            self.number = number
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@click.command()
@click.argument("folder", type=PATH, metavar="FOLDER")
@click.option(
    "--detector", required=True, metavar="NAME|DIR", help="A saved detector, or a kind of detector."
)
@click.option(
    "--database",
    default="zeroflaw-data",
    show_default=True,
    metavar="DIR|URL",
    help="History: a folder, sqlite:////PATH or postgresql://USER@HOST/NAME.",
)
@click.option("--name", metavar="NAME", help="What the folder is called in the history; its path by default.")
@click.option("-r", "--recursive", is_flag=True, help="Watch the folders below it, too.")
@click.option(
    "--settle",
    type=click.FloatRange(0.05, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="A file that has not changed for so long is complete.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.02, 3600),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the folder.",
)
@click.option("--once", is_flag=True, help="Judge what is there, and end.")
@click.option("--fail-on-anomaly", is_flag=True, help="With --once: exit with 1 if a photo is anomalous.")
@click.option("--move-to", type=PATH, metavar="DIR", help="Move photos to DIR/good, flawed or unjudged.")
@click.option("--webhook", metavar="URL", help="Post each verdict as JSON.")
@click.option(
    "--webhook-secret-file", type=PATH, metavar="FILE", help=f"Secret that signs posts; or {_SECRET}."
)
@click.option("--mqtt", metavar="URL", help="Publish each verdict: mqtt[s]://[USER@]HOST[:PORT]/TOPIC.")
@click.option(
    "--mqtt-password-file", type=PATH, metavar="FILE", help=f"Password of the broker's user; or {_PASSWORD}."
)
@click.option("--ca-file", type=PATH, metavar="FILE", help="Certificates to trust for https and mqtts.")
@click.option("--no-maps", is_flag=True, help="No maps and regions, which is faster.")
@detector_options
@batch_size_option
@json_option
@quiet_option
@reading_options
def watch(
    folder: Path,
    detector: str,
    database: str,
    name: str | None,
    recursive: bool,
    settle: float,
    interval: float,
    once: bool,
    fail_on_anomaly: bool,
    move_to: Path | None,
    no_maps: bool,
    batch_size: int,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Judge the photos that are written into FOLDER, each once, until SIGINT or SIGTERM.

    A line per verdict goes to stdout: JSON, or text on a terminal. Verdicts are kept in the history before
    they are told; a webhook or broker that is away gets them when it is back.
    """
    if fail_on_anomaly and not once:
        raise UsageError("--fail-on-anomaly is the exit code of a run that ends; use it with --once")
    if not folder.is_dir():
        raise InputError(f"there is no folder '{printable(folder)}' to watch; check the path")
    place = name or os.path.realpath(folder)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        receivers = _receivers(options)
        mover = None if move_to is None else Mover(folder, move_to)
        ready = open_detector(detector, take_options(options, None), quiet=quiet)
        _require_single(ready, fail_on_anomaly)
        history = History.open(database)
        stack.callback(history.close)
        tell = _teller(quiet)
        senders = [make(history, f"{kind}:{digest(place)[:16]}", tell) for kind, make in receivers.items()]
        patience = max(PATIENCE, 5 * settle)
        plan = Plan(
            folder=folder,
            place=place,
            detector=_detector_name(detector, ready),
            fingerprint=_fingerprint(detector, ready),
            interval=interval,
            patience=patience,
            batch_size=batch_size,
            largest=largest_file(),
            maps=not no_maps,
            channels=tuple(sender.channel for sender in senders),
            once=once,
            deadline=6 * patience,
        )
        watcher = Watcher(
            ready,
            history,
            plan,
            arrivals=Arrivals(
                folder,
                settle=settle,
                patience=patience,
                recursive=recursive,
                without=[] if mover is None else mover.places,
                tell=tell,
            ),
            watched=Watched(history.database, place),
            mover=mover,
            report=_reporter(as_json or not sys.stdout.isatty()),
            tell=tell,
            wake=lambda: _wake(senders),
            calibration=getattr(ready, "calibration_", None),
        )
        return _run(watcher, senders, Stop(), once, fail_on_anomaly, quiet)


def _run(
    watcher: Watcher, senders: Sequence[Sender], stop: Stop, once: bool, fail_on_anomaly: bool, quiet: bool
) -> int:
    """Watch, let receivers have what they can take, and return the exit code."""
    begin = time.perf_counter()
    with stop.listening():
        for sender in senders:
            sender.start()
        try:
            tally = watcher.run(stop)
            if once:
                _drain(senders, stop, quiet)
        except HistoryError as error:
            if not stop():
                raise
            say(f"zeroflaw: {error}")
            tally = watcher.tally
        finally:
            for sender in senders:
                sender.stop()
    say(summary(tally, time.perf_counter() - begin), quiet)
    if stop.number is not None:
        say("zeroflaw: terminated" if stop.number == signal.SIGTERM else "zeroflaw: interrupted")
        return 128 + stop.number
    if tally.unmoved:
        return OutputError.exit_code
    if tally.unreadable or tally.denied:
        return InputError.exit_code
    return ANOMALOUS if fail_on_anomaly and tally.anomalous else 0


def _wake(senders: Sequence[Sender]) -> None:
    for sender in senders:
        sender.wake()


def _drain(senders: Sequence[Sender], stop: Stop, quiet: bool) -> None:
    """Wait for receivers a while; what they do not take is sent by the next run."""
    end = time.monotonic() + DRAIN
    for sender in senders:
        while not stop() and not (empty := sender.drain(0.2)) and time.monotonic() < end:
            continue
        if not stop() and not empty:
            say(f"zeroflaw: {sender.kind}: verdicts are left to be sent; the next run does", quiet)


def summary(tally: Tally, seconds: float) -> str:
    """Say in one line what a run did."""
    parts = [f"{tally.judged} image{'s' * (tally.judged != 1)} in {seconds:.1f} s"]
    parts += [f"{tally.anomalous} anomalous"] * bool(tally.anomalous)
    parts += [f"{tally.known} judged before"] * bool(tally.known)
    unreadable = tally.unreadable + len(tally.denied)
    parts += [f"{unreadable} could not be read"] * bool(unreadable)
    parts += [f"{len(tally.unmoved)} could not be moved"] * bool(tally.unmoved)
    unsettled = tally.unsettled - len(tally.denied) - len(tally.unmoved)
    parts += [f"{unsettled} still being written"] * (unsettled > 0)
    return "; ".join(parts)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse a second watch of the same folder, from other machines, too, where its file system has locks."""
    busy = f"'{printable(folder)}' is watched already; end the other watch, or watch another folder"
    here = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK, busy))
        except OSError:  # a folder that may only be read: at least nobody on this machine
            aside = Path(tempfile.gettempdir()) / f"zeroflaw-watch-{here}.lock"
            try:
                stack.enter_context(locked(aside, busy))
            except OSError as error:
                raise UsageError(
                    f"no lock can be made in '{printable(folder)}' nor at '{aside}' ({reason(error)}); let "
                    "one of them be written"
                ) from error
        yield


Make = Callable[[History, str, Callable[[str], object]], Sender]


def _receivers(options: dict[str, Any]) -> dict[str, Make]:
    """Take the options about receivers out of those of the verb, check them, and return how to make each."""
    webhook, mqtt = options.pop("webhook"), options.pop("mqtt")
    secret_file, password_file = options.pop("webhook_secret_file"), options.pop("mqtt_password_file")
    tls = _trusting(options.pop("ca_file"))
    found: dict[str, Make] = {}
    if secret_file is not None and webhook is None:
        raise UsageError("--webhook-secret-file signs what --webhook sends; give both")
    if password_file is not None and mqtt is None:
        raise UsageError("--mqtt-password-file is for --mqtt; give both")
    if webhook is not None:
        address = parse_webhook(webhook)
        secret = read_secret(secret_file, _SECRET, "webhook's secret")
        found["webhook"] = lambda history, channel, tell: Webhook(
            history, channel, tell, address=address, secret=secret, tls=tls
        )
    if mqtt is not None:
        with needing("MQTT", "serve"):
            from zeroflaw.serve.mqtt import Mqtt, parse_mqtt
        broker = parse_mqtt(mqtt)
        password = read_secret(password_file, _PASSWORD, "broker's password")
        if password_file is not None and broker.user is None:
            raise UsageError("a password needs a user; write --mqtt mqtts://USER@HOST/TOPIC")
        found["mqtt"] = lambda history, channel, tell: Mqtt(
            history, channel, tell, broker=broker, password=password, tls=tls
        )
    return found


def _trusting(path: Path | None) -> ssl.SSLContext | None:
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--ca-file '{printable(path)}' holds no certificates ({reason(error)}); give a PEM file"
        ) from error


def _require_single(ready: Detector, fail_on_anomaly: bool) -> None:
    if ready.needs.whole_batch:
        raise UsageError(
            f"{ready.name} judges a photo by those that come with it; watch with a detector made from good "
            "photos: zeroflaw fit GOOD-PHOTOS -o DIR"
        )
    if fail_on_anomaly and getattr(ready, "threshold_rule", None) is None:
        raise UsageError(
            "--fail-on-anomaly needs a verdict, and the detector has no threshold; give it one with zeroflaw "
            "calibrate"
        )


def _detector_name(given: str, ready: Detector) -> str:
    return Path(os.path.realpath(given)).name if is_folder(given) else ready.name


def _fingerprint(given: str, ready: Detector) -> str:
    return hashlib.sha256(repr((given, ready.get_params())).encode()).hexdigest()


def _teller(quiet: bool) -> Callable[[str], object]:
    return lambda text: say(f"zeroflaw: {text}", quiet)


def _reporter(as_json: bool) -> Callable[[Result], object]:
    def tell(result: Result) -> None:
        if as_json:
            put_json(result.record)
        else:
            put(text_line(result))
        sys.stdout.flush()

    return tell


def text_line(result: Result) -> str:
    """Return a verdict as a line for people."""
    row = result.row
    if row.error is not None:
        return f"error   {result.record['source']}: {row.error}"
    p_value = "" if row.p_value is None else f"  p {row.p_value:.3f}"
    moved = f" -> {result.record['moved_to']}" if "moved_to" in result.record else ""
    return f"{_WORDS[row.anomalous]:6}  {row.logit:+7.2f}{p_value}  {result.record['source']}{moved}"
