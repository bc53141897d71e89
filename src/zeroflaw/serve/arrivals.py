"""Which files of a folder are complete, seen by looking again and again, which works on network shares, too.

A file is complete when size and time of change stayed the same for the settling time, or when it was renamed
into its place and is otherwise as it was the time before. Links, pipes, devices, hidden files and hidden
folders are no photos; links are never followed. One look lists the names and asks for the facts of new and
unsettled files; those of complete ones are asked for in turn, some thousands a look.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zeroflaw.errors import InputError, printable, reason
from zeroflaw.finding import EXTENSIONS, RESULTS, is_results, without_results

IN_TURN = 2000  # complete files whose facts are asked for in one look
_CHUNK = 1 << 20  # bytes
_NEVER = float("inf")
_POSIX = sys.platform != "win32"  # elsewhere an entry does not know its file's number, and names no parent
_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)

Tell = Callable[[str], object]


class Facts(NamedTuple):
    """What tells a file from the one that was there before: number, bytes, nanoseconds of the last change."""

    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Facts:
        """Return those of a file that was looked at."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Arrival(NamedTuple):
    """A complete file.

    Attributes:
        name: relative to the folder, with ``/`` between its parts.
        facts: when it was found to be complete.
        age: seconds for which it has not changed, as far as we saw.
    """

    name: str
    facts: Facts
    age: float


@dataclass(slots=True)
class _File:
    facts: Facts
    number: int  # of the file as the listing says it, which some file systems do differently
    since: float  # when it was seen to change last
    due: float  # when it is complete if it does not change
    seen: int  # the last look that found it
    wanted: bool


class FolderGoneError(InputError):
    """The folder that is watched cannot be listed: a network share that is away, for example."""


class Arrivals:
    """Finds the files of a folder that are complete, each once for each of its contents.

    Args:
        folder: that is watched.
        settle: seconds without change after which a file is complete.
        patience: the same for an empty file, which somebody may just have opened.
        recursive: also look into folders below it.
        without: folders that are not looked into: where judged files go, for example.
        tell: takes a sentence about a folder or link that is left out; each is said once.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle: float,
        patience: float,
        recursive: bool,
        without: Iterable[Path] = (),
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._settle, self._patience = settle, patience
        self._recursive = recursive
        self._without = {os.path.realpath(path) for path in without}
        self._tell = tell
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._dropped: list[str] = []
        self._is_mount = folder.is_mount()
        self._look = 0
        self._told: set[str] = set()

    def __len__(self) -> int:
        """Return how many photos are in the folder."""
        return sum(file.wanted for file in self._files.values())

    @property
    def unsettled(self) -> int:
        """How many photos are not complete yet, or wait to be tried again."""
        return sum(file.wanted and file.due != _NEVER for file in self._files.values())

    def again(self, name: str, seconds: float) -> None:
        """Return a file once more after some seconds, if it does not change before."""
        if (file := self._files.get(name)) is not None:
            # Never earlier than is said: it may have been seen to change in the meantime.
            file.due = max(self._clock() + seconds, 0.0 if file.due == _NEVER else file.due)

    def names(self) -> list[str]:
        """Return the photos that are in the folder."""
        return [name for name, file in self._files.items() if file.wanted]

    def dropped(self) -> list[str]:
        """Return the photos that are not there any more, each once."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def look(self) -> list[Arrival]:
        """Look at the folder once, and return the files that are complete, the oldest first.

        Raises:
            FolderGoneError: it cannot be listed; nothing is forgotten.
        """
        if self._is_mount and not self.folder.is_mount():  # what is there now is the empty place below it
            raise FolderGoneError(f"{printable(self.folder)} is not mounted any more")
        self._look += 1
        now = self._clock()
        turns = max(1, -(-len(self._files) // IN_TURN))
        fresh: dict[str, tuple[Facts, int, bool]] = {}
        lost: list[str] = []  # folders that cannot be listed just now
        for number, (name, entry, wanted) in enumerate(self._listed(lost)):
            file = self._files.get(name)
            if file is not None:
                file.seen = self._look
                same = not _POSIX or file.number == entry.inode()
                if same and file.due == _NEVER and (number + self._look) % turns:
                    continue
            try:
                status = os.lstat(entry.path)
            except OSError:  # gone in between, or the share just went away: the next look says more
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            facts = Facts.of(status)
            if file is None:
                fresh[name] = facts, entry.inode() if _POSIX else 0, wanted
            elif facts != file.facts or not same:
                self._changed(file, facts, now)
                file.number = entry.inode() if _POSIX else 0
        gone = self._drop_gone(lost)
        for name, (facts, entry_number, wanted) in fresh.items():
            file = self._files[name] = _File(facts, entry_number, now, 0.0, self._look, wanted)
            self._changed(file, facts, now)
            if gone.get(facts.inode) == facts:  # renamed into place: nobody writes to it any more
                file.due = now
        return self._complete(now)

    def _changed(self, file: _File, facts: Facts, now: float) -> None:
        file.facts, file.since = facts, now
        file.due = now + (self._settle if facts.size else self._patience)

    def _drop_gone(self, lost: list[str]) -> dict[int, Facts]:
        """Forget files that are not there any more, and return their facts by number."""
        gone = [
            name
            for name, file in self._files.items()
            if file.seen != self._look and not any(name.startswith(folder) for folder in lost)
        ]
        self._dropped += [name for name in gone if self._files[name].wanted]
        return {(file := self._files.pop(name)).facts.inode: file.facts for name in gone}

    def _complete(self, now: float) -> list[Arrival]:
        due = [(name, file) for name, file in self._files.items() if file.due <= now]
        for _, file in due:
            file.due = _NEVER
        found = [Arrival(name, file.facts, now - file.since) for name, file in due if file.wanted]
        return sorted(found, key=lambda arrival: (arrival.facts.changed, arrival.name))

    def _listed(self, lost: list[str]) -> Iterator[tuple[str, os.DirEntry[str], bool]]:
        """Yield name, entry and whether it is a photo, of all regular files."""
        todo = [""]
        while todo:
            prefix = todo.pop()
            try:
                with os.scandir(self.folder / prefix) as listing:
                    entries = list(listing)
            except OSError as error:
                if not prefix:
                    raise FolderGoneError(
                        f"{printable(self.folder)} cannot be listed ({reason(error)})"
                    ) from error
                lost.append(prefix)
                self._say_once(prefix, f"cannot be listed ({reason(error)}); tried again at each look")
                continue
            entries = self._not_results(prefix, entries)
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_symlink():
                    self._say_once(name, "left out, links are not followed")
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry, _is_photo(entry.name)
                elif self._recursive and self._is_looked_into(entry):
                    todo.append(f"{name}/")

    def _not_results(self, prefix: str, entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
        """Leave out what a run of ``detect`` wrote into a folder."""
        names = [entry.name for entry in entries]
        if RESULTS not in names or not is_results(self.folder / prefix):
            return entries
        self._say_once(f"{prefix}{RESULTS}", "results of an earlier run, left out with their pictures")
        below = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        folders, photos = without_results(below, [name for name in names if name not in below])
        kept = {*folders, *photos}
        return [entry for entry in entries if entry.name in kept]

    def _is_looked_into(self, entry: os.DirEntry[str]) -> bool:
        return (
            entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and os.path.realpath(entry.path) not in self._without
        )

    def _say_once(self, name: str, text: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._tell(f"{name}: {text}")


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122


class ChangedError(Exception):
    """A file is not any more what it was when it was complete."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a complete file.

    Attributes:
        digest: SHA-256 of all its bytes.
        data: these bytes, or None where there are more than may be read.
    """

    digest: str
    data: bytes | None


def read_whole(folder: Path, arrival: Arrival, largest: int) -> Content:
    """Read a complete file, without following a link that took its place or that of a folder.

    Args:
        folder: that is watched.
        arrival: the file.
        largest: bytes that are kept; of more only the digest is taken.

    Raises:
        ChangedError: it was changed, replaced or removed in the meantime.
        OSError: it cannot be read.
    """
    digest, parts, size = hashlib.sha256(), [], 0
    with _opened(folder, arrival.name) as handle:
        if not _is_same(handle, arrival.facts):
            raise ChangedError(arrival.name)
        while chunk := os.read(handle, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if size <= largest:
                parts.append(chunk)
        if not _is_same(handle, arrival.facts) or size != arrival.facts.size:
            raise ChangedError(arrival.name)
    return Content(digest.hexdigest(), b"".join(parts) if size <= largest else None)


def _is_same(handle: int, facts: Facts) -> bool:
    status = os.fstat(handle)
    return stat.S_ISREG(status.st_mode) and Facts.of(status) == facts


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    """Open a file below a folder; on the way to it no link is followed, where the system can."""
    opened: list[int] = []
    try:
        if os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW"):
            *folders, last = name.split("/")
            opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            for part in folders:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                opened.append(os.open(part, flags, dir_fd=opened[-1]))
            opened.append(os.open(last, _FLAGS, dir_fd=opened[-1]))
        else:
            opened.append(os.open(folder / name, _FLAGS))
        yield opened[-1]
    except FileNotFoundError as error:
        raise ChangedError(name) from error
    finally:
        for handle in reversed(opened):
            os.close(handle)
