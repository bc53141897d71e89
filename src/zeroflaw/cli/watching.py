"""How ``zeroflaw watch`` puts its parts together: lock, receivers, detector, history, signals, exit code."""

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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from zeroflaw.cli.options import DetectorOptions, open_detector
from zeroflaw.cli.output import put, put_json, say
from zeroflaw.detectors import Detector, is_folder
from zeroflaw.errors import InputError, OutputError, UsageError, needing, printable, reason
from zeroflaw.files import locked
from zeroflaw.images import largest_file
from zeroflaw.serve.arrivals import Arrivals
from zeroflaw.serve.detectors import fingerprint
from zeroflaw.serve.history import History
from zeroflaw.serve.moving import Mover
from zeroflaw.serve.notify import Sender, Webhook, parse_webhook, read_secret
from zeroflaw.serve.pictures import PictureStore
from zeroflaw.serve.watch import Plan, Result, Tally, Watcher
from zeroflaw.serve.watched import Watched, digest

ANOMALOUS = 1
LOCK = ".zeroflaw-watch.lock"
DRAIN = 30.0  # seconds that --once waits for a receiver that acknowledges nothing
PATIENCE = 10.0  # seconds, at least, until a file that is no picture is said to be none
_WORDS = {True: "flawed", False: "good", None: "-"}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The options of ``zeroflaw watch`` that are not about the detector; None means not given."""

    folder: Path
    detector: str
    name: str | None
    recursive: bool
    settle: float
    interval: float
    once: bool
    fail_on_anomaly: bool
    move_to: Path | None
    history: Path
    database: str | None
    keep_pictures: bool
    keep_days: float | None
    webhook: str | None
    webhook_secret_file: Path | None
    mqtt: str | None
    mqtt_password_file: Path | None
    ca_file: Path | None
    no_maps: bool
    batch_size: int
    as_json: bool
    quiet: bool


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


def watch_folder(wishes: Wishes, options: DetectorOptions) -> int:
    """Watch, and return the exit code.

    Raises:
        UsageError: options do not go together, or the folder is watched already.
        HistoryError: the history cannot be opened.
    """
    folder, stop = wishes.folder, Stop()
    place = wishes.name or os.path.realpath(folder)
    tell = _teller(wishes.quiet)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        receivers = _receivers(wishes)
        mover = None if wishes.move_to is None else Mover(folder, wishes.move_to)
        stack.enter_context(stop.listening())
        ready = open_detector(wishes.detector, options, quiet=wishes.quiet)
        _require_single(ready, wishes.fail_on_anomaly)
        history = History.open(wishes.database or wishes.history, keep_days=wishes.keep_days)
        stack.callback(history.close)
        senders = [make(history, f"{kind}:{digest(place)[:16]}", tell) for kind, make in receivers.items()]
        plan = _plan(wishes, place, ready, [sender.channel for sender in senders])
        arrivals = Arrivals(
            folder,
            settle=wishes.settle,
            patience=plan.patience,
            recursive=wishes.recursive,
            without=[] if mover is None else mover.places,
            tell=tell,
        )
        watcher = Watcher(
            ready,
            history,
            plan,
            arrivals=arrivals,
            watched=Watched(history.database, place),
            mover=mover,
            store=PictureStore(wishes.history / "pictures") if wishes.keep_pictures else None,
            report=_reporter(wishes.as_json or not sys.stdout.isatty()),
            tell=tell,
            wake=lambda: _wake(senders),
            calibration=getattr(ready, "calibration_", None),
        )
        say(f"watching {printable(folder)}, history {history.name}", wishes.quiet)
        return _run(watcher, senders, stop, wishes)


def _plan(wishes: Wishes, place: str, ready: Detector, channels: Sequence[str]) -> Plan:
    patience = max(PATIENCE, 5 * wishes.settle)
    saved = Path(wishes.detector) if is_folder(wishes.detector) else None
    parameters = hashlib.sha256(repr((ready.name, ready.get_params())).encode()).hexdigest()
    return Plan(
        folder=wishes.folder,
        place=place,
        detector=ready.name if saved is None else Path(os.path.realpath(saved)).name,
        fingerprint=parameters if saved is None else fingerprint(saved),
        interval=wishes.interval,
        patience=patience,
        batch_size=wishes.batch_size,
        largest=largest_file(),
        maps=not wishes.no_maps,
        channels=tuple(channels),
        once=wishes.once,
        deadline=6 * patience,
    )


def _run(watcher: Watcher, senders: Sequence[Sender], stop: Stop, wishes: Wishes) -> int:
    """Watch, let receivers have what they can take, and return the exit code."""
    begin = time.perf_counter()
    for sender in senders:
        sender.start()
    try:
        tally = watcher.run(stop)
        if wishes.once:
            _drain(senders, stop, wishes.quiet)
    except OutputError as error:  # nothing is lost: it is judged again at the next start
        if not stop():
            raise
        say(f"zeroflaw: {error}")
        tally = watcher.tally
    finally:
        for sender in senders:
            sender.stop()
    say(summary(tally, time.perf_counter() - begin), wishes.quiet)
    if stop.number is not None:
        say("zeroflaw: terminated" if stop.number == signal.SIGTERM else "zeroflaw: interrupted")
        return 128 + stop.number
    if tally.unmoved:
        return OutputError.exit_code
    if tally.unreadable or tally.denied:
        return InputError.exit_code
    return ANOMALOUS if wishes.fail_on_anomaly and tally.anomalous else 0


def _wake(senders: Sequence[Sender]) -> None:
    for sender in senders:
        sender.wake()


def _drain(senders: Sequence[Sender], stop: Stop, quiet: bool) -> None:
    """Wait for receivers a while; what they do not take is sent by the next run."""
    for sender in senders:
        end, count = time.monotonic() + DRAIN, sender.acknowledged
        while not stop() and not (empty := sender.drain(0.2)) and time.monotonic() < end:
            if sender.acknowledged != count:
                end, count = time.monotonic() + DRAIN, sender.acknowledged
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


def _receivers(wishes: Wishes) -> dict[str, Make]:
    """Check the options about receivers, and return how to make each, by its kind."""
    tls = _trusting(wishes.ca_file)
    found: dict[str, Make] = {}
    if wishes.webhook_secret_file is not None and wishes.webhook is None:
        raise UsageError("--webhook-secret-file signs what --webhook sends; give both")
    if wishes.mqtt_password_file is not None and wishes.mqtt is None:
        raise UsageError("--mqtt-password-file is for --mqtt; give both")
    if wishes.webhook is not None:
        address = parse_webhook(wishes.webhook)
        secret = read_secret(wishes.webhook_secret_file, "ZEROFLAW_WEBHOOK_SECRET", "webhook's secret")
        found["webhook"] = lambda history, channel, tell: Webhook(
            history, channel, tell, address=address, secret=secret, tls=tls
        )
    if wishes.mqtt is not None:
        with needing("MQTT", "serve"):
            from zeroflaw.serve.mqtt import Mqtt, parse_mqtt
        broker = parse_mqtt(wishes.mqtt)
        password = read_secret(wishes.mqtt_password_file, "ZEROFLAW_MQTT_PASSWORD", "broker's password")
        if wishes.mqtt_password_file is not None and broker.user is None:
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
