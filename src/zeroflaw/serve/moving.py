"""Moving judged files to where they belong: whole, once, and never over another file."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Literal

from zeroflaw.errors import OutputError, UsageError, printable, reason
from zeroflaw.files import sha256
from zeroflaw.serve.arrivals import Arrival, ChangedError, Facts

Place = Literal["good", "flawed", "unjudged"]
PLACES: tuple[Place, ...] = ("good", "flawed", "unjudged")
_NO_REPLACE = 1  # RENAME_NOREPLACE of renameat2(2)
_HERE = -100  # AT_FDCWD
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK}


class Mover:
    """Moves files of a watched folder to ``good``, ``flawed`` and ``unjudged`` below another one.

    A move that was cut short is finished by moving the same file again: what lies at its target with the same
    content is that file.

    Args:
        folder: that is watched.
        target: where the three folders are made.

    Raises:
        UsageError: one of the three is the watched folder, or cannot be made.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self._folder, self._target = folder, target
        self.places = [target / place for place in PLACES]
        try:
            for path in self.places:
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            name = printable(target)
            raise UsageError(
                f"no folder for judged photos can be made at '{name}' ({reason(error)}); choose another place"
            ) from error
        if any(path.samefile(folder) for path in self.places):
            raise UsageError(
                f"'{printable(folder)}' is where judged photos would go; move them to another folder"
            )

    def move(self, arrival: Arrival, digest: str, place: Place) -> Path | None:
        """Move a judged file, below its own folders, and return where it is now.

        Where another file has its name already, eight digits of its digest are put to it.

        Args:
            arrival: the file as it was judged.
            digest: SHA-256 of its content.
            place: where it goes.

        Returns:
            None where it is not there any more, or is another file by now, which stays.

        Raises:
            OutputError: it cannot be moved; it is where it was.
        """
        source = self._folder / arrival.name
        wanted = self._target / place / arrival.name
        try:
            if not _is_still(source, arrival.facts):
                return None
            wanted.parent.mkdir(parents=True, exist_ok=True)
            for target in _names(wanted, digest):
                if _moved(source, target, arrival.facts, digest):
                    return target
            why = "all its names are taken there"
        except ChangedError:
            return None
        except OSError as error:
            if not os.path.lexists(source):
                return None
            why = reason(error)
        raise OutputError(f"{printable(source)} cannot be moved to {printable(wanted)} ({why})")


def _names(wanted: Path, digest: str) -> list[Path]:
    """Return the name that is wanted, and those to take where another file has it."""
    stem = wanted.stem if len(os.fsencode(wanted.stem)) < 160 else wanted.stem[:40]  # 255 bytes at most
    return [wanted, *(wanted.with_name(f"{stem}.{mark}{wanted.suffix}") for mark in (digest[:8], digest))]


def _is_still(path: Path, facts: Facts) -> bool:
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and Facts.of(status) == facts


def _moved(source: Path, target: Path, facts: Facts, digest: str) -> bool:
    """Move a file; False where another one has the name of the target."""
    if os.path.lexists(target):
        if target.is_symlink() or not target.is_file() or sha256(target) != digest:
            return False
        source.unlink()  # the move was cut short before this
        return True
    try:
        _rename(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copied(source, target, facts, digest)
    if not _is_still(target, facts):  # it was replaced a moment ago: nobody has judged this one
        _rename(target, source)
        raise ChangedError(str(source))
    return True


def _rename(source: Path, target: Path) -> None:
    """Rename a file, but never over another one.

    Raises:
        FileExistsError: there is another one.
        OSError: as of `os.rename`.
    """
    if sys.platform == "win32":
        source.rename(target)
        return
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is not None:
        if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), _NO_REPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
    try:  # file systems without that: a second name, which must be new, and the first one goes
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        source.rename(target)
        return
    source.unlink()


def _copied(source: Path, target: Path, facts: Facts, digest: str) -> bool:
    """Move a file to another file system: a whole copy on the disk first, then its name, then the original
    goes.
    """
    temporary = target.with_name(f".{digest[:32]}.move.tmp")  # a run that was killed left it: begin again
    try:
        with source.open("rb") as original, temporary.open("wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copystat(source, temporary)
        if sha256(temporary) != digest:
            raise ChangedError(str(source))
        try:
            _rename(temporary, target)
        except FileExistsError:
            return False
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    if _is_still(source, facts):
        source.unlink()
    return True


def _flush_folder(folder: Path) -> None:
    """Put a folder's entries on the disk, where the system can."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
