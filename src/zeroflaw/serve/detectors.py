"""The detectors of a service by name, each loaded again when its folder changes."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import quote

import numpy as np

from zeroflaw.errors import DetectorError, InputError, UsageError, ZeroflawError, closest, printable, reason
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.drift import Watch
from zeroflaw.runtime.folder import CALIBRATION, Seen
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import expit
from zeroflaw.runtime.stream import OnError

BATCH = 8  # pictures that go through the network together
WINDOW = 50  # photos that are compared with the good ones
_CONFIG = "config.json"
_GREY = np.full((64, 64, 3), 128, np.uint8)

Stamp = tuple[tuple[int, int, int] | None, ...]


class Fitted(Protocol):
    """What the service asks of a detector; `zeroflaw.detectors.base.BackboneDetector` has it."""

    name: ClassVar[str]
    calibration_: Calibration | None
    seen_: Seen

    def predict(
        self,
        images: Iterable[Any],
        *,
        maps: bool = ...,
        batch_size: int = ...,
        on_error: OnError | None = ...,
    ) -> Iterator[Prediction]:
        """Judge images; see `zeroflaw.Detector.predict`."""


Opener = Callable[[Path], Fitted]


class Facts(NamedTuple):
    """Facts of a photo that was judged, of which drift is told."""

    p_value: float | None
    photo: Mapping[str, float] | None
    size: tuple[int, int]


@dataclass(eq=False)
class Entry:
    """A detector of the service.

    Attributes:
        name: in the service.
        folder: where it was saved.
        fitted: the detector.
        fingerprint: of the folder; see `fingerprint`.
        summary: what it was made from, in a sentence.
        stamp: of the folder's files when they were read.
        recent: the last photos.
    """

    name: str
    folder: Path
    fitted: Fitted
    fingerprint: str
    stamp: Stamp
    recent: deque[Facts] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def calibration(self) -> Calibration | None:
        """Threshold and p-values, or None."""
        return self.fitted.calibration_

    def to_dict(self) -> dict[str, Any]:
        """Return what clients may know of it."""
        found = self.calibration
        hot = None if found is None or found.map_threshold is None else float(expit(found.map_threshold))
        reference = self.fitted.seen_.reference
        return {
            "name": self.name,
            "method": str(self.fitted.name),
            "summary": f"made from {self.fitted.seen_}" if str(self.fitted.seen_) != "none" else "",
            "threshold": None if found is None else found.threshold,
            "promise": None if found is None else found.sentence(),
            "map_threshold": hot,
            "good_logits": [] if found is None else list(found.good),
            "fingerprint": self.fingerprint,
            "photos": 0 if reference is None else reference.images,
        }

    def note(self, prediction: Prediction) -> None:
        """Take in what was said about one more photo."""
        self.recent.append(Facts(prediction.p_value, prediction.photo, prediction.size))

    def alarm(self) -> str | None:
        """Say that light, lens, camera or product have changed, if the last photos say so."""
        calibration, recent = self.calibration, list(self.recent)
        if calibration is None:
            return None
        watch = Watch(
            calibration,
            [one.p_value for one in recent if one.p_value is not None],
            [one.photo for one in recent if one.photo is not None],
            [one.size for one in recent],
        )
        return watch.alarm()


class Detectors:
    """Detectors by name; safe to use from several threads.

    Args:
        named: names and folders.
        opener: loads a folder.
        changed: called with an entry that was loaded again.

    Raises:
        ZeroflawError: a folder cannot be loaded; see `zeroflaw.load`.
    """

    def __init__(
        self,
        named: Mapping[str, Path],
        opener: Opener,
        changed: Callable[[Entry], object] = lambda entry: None,
    ) -> None:
        self._opener = opener
        self._loading = threading.Lock()
        self.changed = changed
        self.problems: dict[str, str] = {}  # by name, of folders that could not be loaded again
        self._entries = {name: self._load(name, folder) for name, folder in named.items()}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def names(self) -> list[str]:
        """In the order given."""
        return list(self._entries)

    def get(self, name: str | None) -> Entry:
        """Return a detector; without a name, the only one.

        Raises:
            InputError: there is none of that name.
            UsageError: no name was given, and there are several.
        """
        if name is None:
            if len(self._entries) > 1:
                known = " or ".join(f"?detector={quote(one)}" for one in self._entries)
                raise UsageError(f"say which detector, in the address: {known}")
            return next(iter(self._entries.values()))
        if name not in self._entries:
            known = ", ".join(self._entries)
            hint = closest(name, self._entries)
            raise InputError(f"there is no detector '{printable(name, 60)}'{hint} (there are: {known})")
        return self._entries[name]

    def refresh(self) -> None:
        """Load again what has changed on the disk; a folder that cannot be loaded stays as it was.

        Why not is in ``problems`` until it can.
        """
        for entry in self:
            stamp = _stamp(entry.folder)
            if stamp != entry.stamp:
                self.reload(entry.name, stamp)

    def reload(self, name: str, stamp: Stamp | None = None) -> Entry:
        """Load a folder again, and return the new entry, or the old one where that fails."""
        with self._loading:
            old = self._entries[name]
            try:
                entry = self._load(name, old.folder)
            except ZeroflawError as error:
                old.stamp = _stamp(old.folder) if stamp is None else stamp  # tried once a change
                self.problems[name] = f"'{name}' goes on as it was: {error}"
                return old
            self.problems.pop(name, None)
            if entry.fingerprint == old.fingerprint and entry.calibration == old.calibration:
                old.stamp = entry.stamp
                return old
            self._entries[name] = entry
        self.changed(entry)
        return entry

    def _load(self, name: str, folder: Path) -> Entry:
        stamp, mark = _stamp(folder), fingerprint(folder)
        fitted = self._opener(folder)
        # The engine opens its graphs and takes its memory now, not while somebody waits for a first verdict.
        for _ in fitted.predict([_GREY] * BATCH, maps=True, batch_size=BATCH):
            pass
        return Entry(name, folder, fitted, mark, stamp)


def fingerprint(folder: Path) -> str:
    """Return what tells detectors apart whose log-odds differ: SHA-256 of ``config.json``.

    That file holds parameters, backbone and the SHA-256 of what was learned; it does not change with the
    calibration, whose threshold decides what log-odds mean.

    Raises:
        DetectorError: there is no such file.
    """
    path = folder / _CONFIG
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DetectorError(
            f"'{printable(folder)}' is not a saved detector: its {_CONFIG} cannot be read ({reason(error)}); "
            "give a folder that 'zeroflaw fit' wrote"
        ) from error


def names_of(said: Sequence[str]) -> dict[str, Path]:
    """Return detectors as they are said on the command line, ``FOLDER`` or ``NAME=FOLDER``, by their names.

    Raises:
        UsageError: a name is missing or there twice.
    """
    found: dict[str, Path] = {}
    for text in said:
        before, equals, after = text.partition("=")
        named = equals and "/" not in before and "\\" not in before
        folder = Path(after if named else text)
        name = before if named else folder.resolve().name
        if not name.isprintable() or not 0 < len(name) <= 60 or "/" in name:
            raise UsageError(f"a detector is said as FOLDER or NAME=FOLDER, got '{printable(text, 120)}'")
        if name in found:
            raise UsageError(
                f"two detectors would be called '{printable(name)}'; name one: OTHER={printable(folder, 120)}"
            )
        found[name] = folder
    return found


def _stamp(folder: Path) -> Stamp:
    """Return what changes when one of a detector's files does."""

    def one(path: Path) -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    return tuple(one(folder / name) for name in (_CONFIG, CALIBRATION))
