"""Files: reading within bounds, and writing so that a reader never sees half of a file or folder.

What a run has not finished lies in ``.NAME.*.tmp`` beside the file or folder NAME, and nowhere else; the next
run that writes a folder NAME clears what a killed one left there.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zeroflaw.errors import InputError, UsageError, ZeroflawError, printable
from zeroflaw.errors import reason as reason

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# A key of 64 parts or more, which a TOML reader takes quadratic time for; no file needs one.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")


# Reading


def file_size(path: Path, limit: int, what: str, error: type[ZeroflawError] = InputError) -> int:
    """Return the size of a regular file in bytes, or refuse what cannot be one; a link is followed.

    Args:
        path: of the file; a pipe or device, which might never end, is not opened.
        limit: largest size in bytes.
        what: what the file is to the user, "words file" for example, for the message.
        error: class of the error.

    Raises:
        ZeroflawError: of the class ``error``: no regular file, larger than ``limit``, or not to be read.
    """
    name = f"{what} '{printable(path)}'"
    try:
        status = path.stat()
    except (OSError, ValueError) as wrong:  # ValueError: a zero byte in the name
        if isinstance(wrong, FileNotFoundError):
            raise error(f"{name} does not exist; check the path") from wrong
        raise error(f"{name} cannot be looked at ({reason(wrong)}); check the path") from wrong
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{name} is {_kind(status.st_mode)}, not a file; give the path of a file")
    if status.st_size > limit:
        raise error(f"{name} has {status.st_size:,} bytes, and at most {limit:,} are read; make it smaller")
    return status.st_size


def read_rest(stream: BinaryIO, size: int, limit: int) -> bytes:
    """Read at most ``limit`` bytes and one more of a file that should have ``size``.

    Room is asked for as it is needed: ``read(limit + 1)`` would ask for all of it, which may not be there.
    """
    data = stream.read(size + 1)
    return data if len(data) <= size else data + stream.read(max(0, limit + 1 - len(data)))


def read_bytes(path: Path, limit: int, what: str, error: type[ZeroflawError] = InputError) -> bytes:
    """Return the content of a regular file of bounded size; arguments and errors of `file_size`."""
    size = file_size(path, limit, what, error)
    try:
        with path.open("rb") as stream:
            data = read_rest(stream, size, limit)
    except OSError as wrong:
        name = f"{what} '{printable(path)}'"
        raise error(f"{name} cannot be read ({reason(wrong)}); check its permissions") from wrong
    if len(data) > limit:  # it grew, or lies in a file system that does not know sizes
        raise error(f"{what} '{printable(path)}' has more than {limit:,} bytes; make it smaller")
    return data


def read_text(path: Path, limit: int, what: str, error: type[ZeroflawError] = InputError) -> str:
    """Return the text of a UTF-8 file, without byte order mark; arguments and errors of `file_size`."""
    data = read_bytes(path, limit, what, error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        place = f"byte 0x{data[wrong.start]:02x} in line {line}"
        raise error(f"{what} '{printable(path)}' is not UTF-8 ({place}); save it as UTF-8") from wrong


def read_json(path: Path, limit: int, what: str, error: type[ZeroflawError] = InputError) -> dict[str, Any]:
    """Return the object in a JSON file, which can be written again as it is: no NaN, no half characters.

    Arguments and errors of `file_size`.
    """
    text = read_text(path, limit, what, error)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as wrong:
        raise error(f"{what} '{printable(path)}' is not JSON ({reason(wrong)}); correct it") from wrong
    if not isinstance(value, dict):
        raise error(f"{what} '{printable(path)}' must hold a JSON object, not a {type(value).__name__}")
    return value


def read_toml(path: Path, limit: int, what: str, error: type[ZeroflawError] = InputError) -> dict[str, Any]:
    """Return the content of a TOML file; arguments and errors of `file_size`, with the line of a mistake."""
    text = read_text(path, limit, what, error)
    name = f"{what} '{printable(path)}'"
    if _DEEP_KEY.search(text):
        raise error(f"{name} has a key of more than 64 parts; write flat tables")
    try:
        return tomllib.loads(text)
    except RecursionError as wrong:
        raise error(f"{name} has lists nested too deep; write flat lists") from wrong
    except ValueError as wrong:  # TOMLDecodeError, and what int() and datetime refuse
        place = re.search(r"\(at line (\d+)", str(wrong))
        line = int(place[1]) if place else len(text.splitlines()) or 1
        said = printable(re.sub(r"\s*\(at .*\)$", "", str(wrong)).partition(";")[0])
        raise error(f"{name} is not TOML: '{said}' in line {line}; correct that line") from wrong


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file as hexadecimal digits; see `file_size` for what is refused."""
    file_size(path, 1 << 62, "file")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


LOCAL = "local-dir:"  # before the folder of a backbone


def local_folder(name: str) -> Path | None:
    """Return the path in ``local-dir:PATH``; None where a backbone goes by another name."""
    if not name.startswith(LOCAL):
        return None
    # Path.expanduser raises where there is no such user; this leaves the name alone.
    return Path(os.path.expanduser(name.removeprefix(LOCAL)))  # noqa: PTH111


# Writing


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path):
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp made it private
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def require_replaceable(target: Path) -> Path:
    """Return where a folder really is, if another one can take its place.

    Raises:
        UsageError: it is a mount point, or the current folder or above that.
    """
    target = Path(os.path.realpath(target))
    if target.is_mount() or Path.cwd().is_relative_to(target):
        raise UsageError(
            f"'{printable(target)}' is a mount point or the current folder, whose place cannot be taken; "
            "give a folder below it"
        )
    return target


def require_own(folder: Path, what: str, written: Callable[[Path], set[str]]) -> tuple[Path, bool]:
    """Refuse, before any work, a folder whose place must not be taken.

    Args:
        folder: where a folder will appear: nothing, an empty one, or one of an earlier run.
        what: will be written, in words.
        written: returns which files below a folder an earlier run wrote; none where no run did.

    Returns:
        Where it really is, and whether something of an earlier run is there.

    Raises:
        UsageError: it is a file, or holds one of somebody else; nothing can be written there; or see
            `require_replaceable`.
    """
    try:
        target = require_replaceable(folder)
        if os.path.lexists(target) and not target.is_dir():
            raise UsageError(f"{printable(folder)} is a file; give a folder for {what}")
        ours = written(target) if target.is_dir() else set()
        known = ours | {parent.as_posix() for name in ours for parent in PurePosixPath(name).parents}
        names = (path.relative_to(target).as_posix() for path in target.rglob("*") if _is_leaf(path))
        strange = next((name for name in names if name not in known), None)
        if strange is not None:
            raise UsageError(
                f"{printable(folder)} holds {printable(strange)}, which was not written by an earlier run; "
                "give another folder"
            )
        parent = next(path for path in target.parents if path.exists())
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise UsageError(
            f"{what} cannot be written to {printable(folder)} ({reason(error)}); give another folder"
        ) from error
    return target, bool(ours)


def _is_leaf(path: Path) -> bool:
    """Whether something is a file, a link, or a folder with nothing in it."""
    return path.is_symlink() or not path.is_dir() or not any(path.iterdir())


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a fresh folder beside ``target`` that takes its place at the end, or vanishes on any error.

    Raises:
        UsageError: another run is writing ``target``, or its place cannot be taken.
    """
    target = require_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        name = printable(target)
        raise UsageError(f"no folder can be made at '{name}' ({reason(error)}); choose another") from error
    with only_writer(target), _named(target):
        fresh, old = (target.with_name(f".{target.name}.{kind}.tmp") for kind in ("new", "old"))
        if old.exists() and not target.exists():
            old.rename(target)
        try:
            _clear(fresh, old)
            fresh.mkdir()
            yield fresh
            _open_up(fresh)
            _take_place(fresh, target, old)
        finally:
            _clear(fresh, old)


def write_files(
    target: Path,
    files: Mapping[str, bytes],
    what: str,
    error: type[ZeroflawError],
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write files into a folder; see `whole_folder`.

    Args:
        target: the folder.
        files: what is in it, by name.
        what: it is, for the message.
        error: raised where it cannot be written.
        check: looks at the folder before it takes its place.
    """
    try:
        with whole_folder(target) as fresh:
            for name, data in files.items():
                (fresh / name).write_bytes(data)
            if check is not None:
                check(fresh)
    except OSError as cause:
        raise error(
            f"{what} could not be written to {printable(target)} ({reason(cause)}); choose another place"
        ) from cause


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock, which a file stands for; that of a killed process is none.

    Args:
        path: of the file, which is made, and removed at the end.
        busy: the sentence for when another process holds it.

    Raises:
        UsageError: another process holds it.
        OSError: the file cannot be made, or its file system knows no locks.
    """
    handle = _lock(path, busy)
    try:
        yield
    finally:
        _unlock(path, handle)


@contextmanager
def only_writer(target: Path) -> Iterator[None]:
    """Keep other runs away from a folder, for which a file beside it stands.

    Raises:
        UsageError: another run is writing it, or nothing can be written there.
    """
    path, where = target.with_name(f".{target.name}.lock.tmp"), printable(target)
    try:
        handle = _lock(path, f"another run is writing '{where}'; wait for it or give another folder")
    except OSError as error:
        raise UsageError(f"nothing can be written at '{where}' ({reason(error)}); choose another") from error
    try:
        yield
    finally:
        _unlock(path, handle)


def _lock(path: Path, busy: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform == "win32":
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise UsageError(busy) from error
            raise
        if sys.platform == "win32" or _is_same(path, handle):
            return handle
        os.close(handle)  # the run before us removed the file that we locked


def _unlock(path: Path, handle: int) -> None:
    if sys.platform != "win32":  # where a file that is open cannot be removed
        path.unlink(missing_ok=True)
    os.close(handle)


def _is_same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _clear(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Give files that some writers make private the usual permissions."""
    mask = _umask()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


def _take_place(fresh: Path, target: Path, old: Path) -> None:
    if not target.exists():
        fresh.rename(target)
    elif not _exchange(fresh, target):
        target.rename(old)  # a run killed here is mended by the next one
        try:
            fresh.rename(target)
        except OSError:
            old.rename(target)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step where the system can; False where it cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say what was being written when the system refuses, on a full disk for example."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON without NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
