"""What there is to judge: files, rows of tables and members of archives, anywhere that fsspec reaches."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from zeroflaw.errors import ImageError, InputError, ZeroflawError, needing, printable
from zeroflaw.finding import EXTENSIONS

LANCE = ".lance"
BLOCK_BYTES = 64_000_000  # of encoded pictures that a worker holds at a time
COLUMNS = ("image", "img", "picture", "photo", "bytes", "jpg", "png")
"""Columns of a table that are taken for its images, in this order."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image, described well enough for another process to fetch it.

    Attributes:
        name: by which its row goes.
        key: of its place and state (size, time of change or tag): another content has another key.
        url: file, table or archive that holds it.
        size: bytes of the encoded image; 0 where only the table knows.
        start: first byte within an archive, or version of a Lance table.
        group, row, column: place in a table; the group is one of a Parquet file.
    """

    name: str
    key: str
    url: str
    size: int = 0
    start: int = 0
    group: int = -1
    row: int = -1
    column: str = ""


Block = tuple[Item, ...]


def is_url(name: str) -> bool:
    """Whether a source or target is somewhere that only fsspec reaches."""
    return "://" in name and not name.startswith("file://")


@contextmanager
def calling(url: str, what: str, todo: str, error: type[ZeroflawError]) -> Iterator[None]:
    """Turn whatever a store's client raises into one sentence about the place.

    Args:
        url: the place.
        what: goes wrong, with ``{}`` for the place.
        todo: what its user can do.
        error: class of the error.

    Raises:
        ZeroflawError: of the class ``error``: something that is no error of ours was raised inside.
    """
    try:
        yield
    except (ZeroflawError, ModuleNotFoundError):
        raise
    except Exception as raised:  # every store's client has errors of its own
        said = printable(str(raised).strip().partition("\n")[0] or type(raised).__name__)
        place = what.format(printable(url))
        raise error(f"{place} ({type(raised).__name__}: {said}); {todo}") from raised


def reaching(url: str) -> AbstractContextManager[None]:
    """Say that a place cannot be read, where something in the context fails.

    Raises:
        InputError: see `calling`.
    """
    return calling(url, "{} cannot be read", "check address, network and credentials", InputError)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or path, and the path in it.

    Raises:
        MissingExtraError: fsspec, or the client of such a store, is not installed.
        InputError: there is no such kind of store, or it cannot be reached.
    """
    with needing("reading from a store"):
        import fsspec  # an extra
    with reaching(url):
        try:
            system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise InputError(f"{printable(url)} needs a package of its own: {printable(error)}") from error
    return system, str(path)


def find_items(sources: Iterable[str]) -> Iterator[Item]:
    """Yield what is behind folders, files, patterns and URLs, in a fixed order, without holding it all.

    A name ending in ``.parquet`` or ``.lance`` is a table, in ``.tar`` an archive (WebDataset shards are); a
    folder is looked through for pictures, Parquet tables and archives.

    Raises:
        InputError: a source cannot be reached or holds nothing that can be judged.
    """
    for source in sources:
        empty = True
        for item in _found(source):
            empty = False
            yield item
        if empty:
            raise InputError(
                f"{printable(source)} holds no images; wanted pictures, tables (.parquet, .lance) or "
                "archives (.tar)"
            )


def _found(source: str) -> Iterator[Item]:
    if source.rstrip("/").endswith(LANCE):
        yield from _lance_rows(source.rstrip("/"))
        return
    system, path = filesystem(source)
    with reaching(source):
        for facts in _files(system, path, source):
            name = facts["name"]
            url = system.unstrip_protocol(name) if is_url(source) else name
            suffix = posixpath.splitext(name)[1].lower()
            if suffix == ".parquet":
                yield from _rows(system, url, facts)
            elif suffix == ".tar":
                yield from _members(system, url, facts)
            elif suffix in EXTENSIONS:
                yield Item(url, key_of(url, facts), url, int(facts["size"] or 0))


def _files(system: Any, path: str, source: str) -> Iterator[dict[str, Any]]:
    """Yield facts about files at a path: one, those that fit a pattern, or all below a folder."""
    if any(letter in path for letter in "*?["):
        found = system.glob(path, detail=True)
        names = sorted(found)
        for name in names:
            if found[name]["type"] == "directory":
                yield from _below(system, name)
            else:
                yield found[name]
        return
    facts = system.info(path)
    if facts["type"] == "directory":
        yield from _below(system, path)
    elif posixpath.splitext(path)[1].lower() not in {".parquet", ".tar", *EXTENSIONS}:
        raise InputError(f"{printable(source)} is no picture, no .parquet table and no .tar archive")
    else:
        yield facts


def _below(system: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield files below a folder, a folder at a time; hidden ones are none."""
    if "file" in system.protocol:
        yield from _below_here(os.fsencode(path))
        return
    for _, folders, files in system.walk(path, detail=True):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]
        yield from (files[name] for name in sorted(files) if name and not fnmatch.fnmatch(name, ".*"))


def _below_here(path: bytes) -> Iterator[dict[str, Any]]:
    """Do so on this machine, holding little of a folder of a million; a link to a folder is not followed."""
    folders = []
    for name in _names_in(path):
        place = os.path.join(path, name)  # noqa: PTH118
        facts = {"name": os.fsdecode(place), "size": 0}
        try:
            found = os.stat(place)  # noqa: PTH116
        except OSError:  # a link to nothing: its row will say so
            yield facts
            continue
        if stat.S_ISDIR(found.st_mode):
            folders += [place] * (not os.path.islink(place))  # noqa: PTH114
        elif stat.S_ISREG(found.st_mode):  # a pipe never ends
            yield facts | {"size": found.st_size, "mtime": found.st_mtime}
    for place in folders:
        yield from _below_here(place)


def _names_in(path: bytes) -> Iterator[bytes]:
    """Yield what a folder holds, sorted; as objects, names would take four times as much memory."""
    with os.scandir(path) as entries:
        longest = max((len(entry.name) for entry in entries), default=1)
    with os.scandir(path) as entries:  # what came since, and would not fit, is found by the next run
        names = (entry.name for entry in entries if len(entry.name) <= longest)
        found = np.fromiter((name for name in names if not name.startswith(b".")), f"S{longest}")
    found.sort()
    yield from map(bytes, found)


def key_of(url: str, facts: dict[str, Any], *place: int) -> str:
    """Return a key of an image: where it lies, and what tells one state of it from another."""
    state = next(
        (facts[name] for name in ("ETag", "etag", "md5Hash", "mtime", "created") if facts.get(name)), ""
    )
    return hashlib.sha256(
        repr((url, facts.get("size"), str(state), place)).encode("utf-8", "surrogatepass")
    ).hexdigest()[:32]


def _rows(system: Any, url: str, facts: dict[str, Any]) -> Iterator[Item]:
    with system.open(facts["name"], "rb") as stream:
        table = open_table(url, stream)
        column = image_column(url, table.schema_arrow)
        for group in range(table.metadata.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            size = table.metadata.row_group(group).total_byte_size // max(rows, 1)
            for row in range(rows):
                name = f"{url}#{group}.{row}"
                yield Item(name, key_of(url, facts, group, row), url, size, 0, group, row, column)


def _lance_rows(url: str) -> Iterator[Item]:
    with reaching(url):
        table = _open_lance(url)
        column = image_column(url, table.schema)
        version = table.version  # its rows never change; a table made anew begins with 1 again
        facts = {"size": version, "mtime": max(table.versions(), key=lambda one: one["version"])["timestamp"]}
        for row in range(table.count_rows()):
            name = f"{url}#{row}"
            yield Item(name, key_of(url, facts, row), url, start=version, row=row, column=column)


def _open_lance(url: str, version: int | None = None) -> Any:
    """Open a Lance table in a version of it, or the newest.

    Raises:
        InputError: there is none.
    """
    with needing("reading a Lance table", "scale"):
        import lance  # an extra
    try:
        return lance.dataset(url, version=version)
    except ValueError as error:  # which says in which line of Lance
        said = printable(str(error).partition(", /")[0])
        raise InputError(f"{printable(url)} is no Lance table ({said}); check the address") from error


_lance_at = lru_cache(maxsize=1)(_open_lance)


def open_table(url: str, stream: BinaryIO) -> Any:
    """Open a Parquet file.

    Raises:
        InputError: it is damaged or half written.
    """
    with needing("reading Parquet", "scale"):
        import pyarrow as pa  # an extra
        import pyarrow.parquet as pq
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise InputError(f"{printable(url)} is no whole Parquet file ({printable(error)})") from error


def image_column(url: str, schema: Any) -> str:
    """Return the name of the column that holds images.

    Raises:
        InputError: there is none.
    """
    for name in [name for name in COLUMNS if name in schema.names]:
        kind = str(schema.field(name).type)
        if kind in ("binary", "large_binary") or (kind.startswith("struct") and "bytes: binary" in kind):
            return name
    raise InputError(
        f"{printable(url)} has no column of encoded images; wanted one of {', '.join(COLUMNS)}, got "
        f"{printable(', '.join(schema.names))}"
    )


def _members(system: Any, url: str, facts: dict[str, Any]) -> Iterator[Item]:
    with system.open(facts["name"], "rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    if member.isfile() and posixpath.splitext(member.name)[1].lower() in EXTENSIONS:
                        name, place = f"{url}#{member.name}", (member.offset_data, member.size)
                        yield Item(name, key_of(url, facts, *place), url, member.size, member.offset_data)
        except tarfile.TarError as error:
            raise InputError(f"{printable(url)} is no whole .tar archive ({printable(error)})") from error


def blocks(items: Iterable[Item], most: int) -> Iterator[Block]:
    """Cut items into blocks of one table's group, of at most ``most`` images and `BLOCK_BYTES`."""
    block: list[Item] = []
    held = 0
    for item in items:
        other = block and (block[0].url, block[0].group) != (item.url, item.group) and item.group >= 0
        if block and (other or len(block) == most or held + item.size > BLOCK_BYTES):
            yield tuple(block)
            block, held = [], 0
        block.append(item)
        held += item.size
    if block:
        yield tuple(block)


def without(every: Iterable[Block], done: Container[str]) -> Iterator[Block]:
    """Leave out items whose keys are done.

    Blocks are cut before this. So they are the same in each run, and what a worker writes that has outlived a
    killed run takes no other place than what the next run writes.
    """
    for block in every:
        left = tuple(item for item in block if item.key not in done)
        if left:
            yield left


def fetch(item: Item, most: int) -> bytes:
    """Return the bytes of an encoded image.

    Args:
        item: which.
        most: bytes that it may have.

    Raises:
        ImageError: it is gone, too large, or cannot be reached.
    """
    if item.size > most and not item.column:
        raise ImageError(item.name, f"{item.size} bytes are more than the limit of {most}")
    try:
        if item.column:
            data = _cell(item).as_py()
            data = data.get("bytes") if isinstance(data, dict) else data
            if data is None:
                raise ImageError(item.name, "the table has no image in this row")
            return bytes(data)
        system, path = filesystem(item.url)
        end = item.start + item.size if item.start else None
        found: bytes = system.cat_file(path, start=item.start or None, end=end)
    except ImageError:
        raise
    except InputError as error:
        raise ImageError(item.name, str(error)) from error
    except Exception as error:  # see `reaching`
        said = printable(str(error).strip() or type(error).__name__)
        raise ImageError(item.name, f"it cannot be fetched ({said})") from error
    return found


def _cell(item: Item) -> Any:
    if item.group >= 0:
        return _column(item.url, item.group, item.column)[item.row]
    return _lance_at(item.url, item.start).take([item.row], columns=[item.column]).column(0)[0]


@lru_cache(maxsize=1)
def _column(url: str, group: int, column: str) -> Any:
    system, path = filesystem(url)
    with system.open(path, "rb") as stream:
        return open_table(url, stream).read_row_group(group, columns=[column]).column(0)


def block_name(block: Block) -> str:
    """Return what a block's part is called: the same for the same images."""
    return hashlib.sha256("".join(item.key for item in block).encode()).hexdigest()[:24]


def local(source: str) -> str:
    """Return a source as an absolute path, unless it is a URL."""
    return source if "://" in source else os.path.abspath(source)  # noqa: PTH100  fsspec wants text
