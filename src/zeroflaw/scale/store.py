"""Where rows go: parts of a table below a folder or URL, each written whole, and what they say is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zeroflaw.errors import OutputError, UsageError, printable
from zeroflaw.files import only_writer
from zeroflaw.scale.items import Block, block_name, calling, filesystem, is_url, open_table, reaching
from zeroflaw.scale.judging import SCHEMA, table_schema

RUN = "_run.json"  # tools that read a folder of Parquet files pass over names that begin so
Table = Literal["parquet", "jsonl"]


def _writing(url: str) -> AbstractContextManager[None]:
    """Say that results cannot go to a place, where something in the context fails.

    Raises:
        OutputError: see `zeroflaw.scale.items.calling`.
    """
    todo = "check address, permission and space, then run the same command again"
    return calling(url, "results cannot go to {}", todo, OutputError)


class Keys:
    """Keys of images, of which there may be millions: sixteen bytes each.

    Args:
        joined: the keys as bytes, one after the other.
    """

    def __init__(self, joined: bytes | bytearray = b"") -> None:
        self._sorted = np.sort(np.frombuffer(joined, "S16"))

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: object) -> bool:
        wanted = np.frombuffer(bytes.fromhex(str(key)), "S16")[
            0
        ]  # without zeros at its end, as those in the array
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self) and bool(self._sorted[place] == wanted)


class Store:
    """Parts of a table, one a block, and a note of which run they belong to.

    Args:
        url: folder, or URL of one.
        table: how parts are written.
    """

    def __init__(self, url: str, table: Table = "parquet") -> None:
        self.url = url.rstrip("/")
        self.table = table
        self._system, self._path = filesystem(self.url)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs away from a table on this machine; stores elsewhere know no locks.

        Raises:
            UsageError: another run is writing there.
            OutputError: nothing can be written there.
        """
        if is_url(self.url):
            yield
            return
        place = Path(self._path).resolve()
        with _writing(self.url):
            place.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(place):
            yield

    def open_run(self, about: dict[str, Any], *, overwrite: bool = False) -> Keys:
        """Begin a run, or go on with one, and return the keys of all images that have a row.

        Args:
            about: what must be the same to go on: detector, maps.
            overwrite: remove an earlier run first.

        Raises:
            UsageError: another detector's results, or something else, lies there.
            InputError: the place, or a part in it, cannot be read.
        """
        about = {"schema": SCHEMA, "table": self.table, **about}
        with reaching(self.url):
            names = self._names()
        if RUN in names and not overwrite:
            self._check(about)
        elif RUN in names:
            with _writing(self.url):
                for name in names:
                    if name.startswith("part-"):
                        self._system.rm_file(f"{self._path}/{name}")
                self._system.rm_file(f"{self._path}/{RUN}")
            names = []
        elif strange := [name for name in names if not name.startswith(".")]:
            raise UsageError(
                f"{printable(self.url)} holds {printable(strange[0])}, which no run wrote; give another place"
            )
        if RUN not in names:
            self._put(RUN, json.dumps(about, indent=2).encode())
        done = bytearray()
        for name in names:
            if name.startswith("part-"):
                done += self._keys(name)
        return Keys(done)

    def write(self, block: Block, rows: Sequence[dict[str, Any]]) -> None:
        """Write a block's part; written again, it is the same part.

        Raises:
            OutputError: it cannot be written.
        """
        if self.table == "jsonl":
            lines = [
                json.dumps({k: v for k, v in row.items() if k != "map"}, allow_nan=False) for row in rows
            ]
            data = "".join(f"{line}\n" for line in lines).encode()
        else:
            data = _parquet(rows)
        self._put(f"part-{block_name(block)}.{self.table}", data)

    def _names(self) -> list[str]:
        if not self._system.exists(self._path):
            return []
        self._system.invalidate_cache(self._path)
        found = self._system.ls(self._path, detail=False)
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != self._path)

    def _check(self, about: dict[str, Any]) -> None:
        with reaching(f"{self.url}/{RUN}"):
            said = json.loads(self._system.cat_file(f"{self._path}/{RUN}"))
        said = said if isinstance(said, dict) else {}
        for name, wanted in about.items():
            if said.get(name) != wanted:
                raise UsageError(
                    f"{printable(self.url)} holds results of another run: its {name} is "
                    f"{printable(said.get(name), 40)}, not {printable(wanted, 40)}; give another place or "
                    "--overwrite"
                )

    def _keys(self, name: str) -> bytes:
        place = f"{self._path}/{name}"
        with reaching(f"{self.url}/{name}"), self._system.open(place, "rb") as stream:
            if self.table == "jsonl":
                found = [json.loads(line)["key"] for line in stream]
            else:
                table = open_table(f"{self.url}/{name}", stream).read(["key"])
                found = table.column(0).to_pylist()
            return b"".join(map(bytes.fromhex, found))

    def _put(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all: stores do so by themselves, disks by renaming."""
        with _writing(self.url):
            if is_url(self.url):
                self._system.pipe_file(f"{self._path}/{name}", data)
                return
            self._system.makedirs(self._path, exist_ok=True)
            self._system.pipe_file(f"{self._path}/.{name}", data)
            self._system.mv(f"{self._path}/.{name}", f"{self._path}/{name}")


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa  # an extra; `table_schema` says so
    import pyarrow.parquet as pq

    flat = [{**row, "scores": list((row.get("scores") or {}).items())} for row in rows]
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(flat, schema=table_schema()), stream, compression="zstd")
    return bytes(stream.getvalue())
