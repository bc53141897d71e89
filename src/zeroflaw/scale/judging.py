"""Judge a block: items in, rows out. It runs in any process that has the bytes of a detector's folder."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw._version import __version__
from zeroflaw.decoding import DEFAULT_LIMITS, Limits
from zeroflaw.detectors import Detector, load
from zeroflaw.errors import ImageError, needing
from zeroflaw.images import reading, shown
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.processors import limit_threads
from zeroflaw.scale.items import Block, fetch

SCHEMA = 1
GIVEN = "given with the command"


@dataclass(frozen=True)
class Task:
    """What is the same for all blocks of a run, small enough to be sent with each.

    Attributes:
        detector: files of the saved detector's folder, by name.
        fingerprint: of these files.
        engine: that runs the network, or None for the detector's own.
        threads: of a worker's network; 0 for all cores.
        batch_size: images that go through the network at a time.
        maps: whether rows hold maps, too.
        threshold: log-odds from which on images are anomalous, in place of the detector's; or None.
        white: see `zeroflaw.reading`.
        limits: see `zeroflaw.reading`.
    """

    detector: Mapping[str, bytes]
    fingerprint: str
    engine: str | None = None
    threads: int = 1
    batch_size: int = 8
    maps: bool = False
    threshold: float | None = None
    white: float | None = None
    limits: Limits = DEFAULT_LIMITS

    def same(self) -> dict[str, Any]:
        """Return what must not change between two runs that make one table."""
        return {
            "detector": self.fingerprint,
            "maps": self.maps,
            "threshold": self.threshold,
            "white": self.white,
        }


def pack(folder: Path) -> dict[str, bytes]:
    """Return the files of a saved detector's folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def fingerprint(files: Mapping[str, bytes]) -> str:
    """Return what tells one saved detector from another: its card, which holds dates, does not count."""
    digest = hashlib.sha256()
    for name in sorted(files):
        if not name.endswith(".md"):
            digest.update(f"{name}:{len(files[name])}:".encode())
            digest.update(files[name])
    return digest.hexdigest()


_open: dict[tuple[str, str | None], Detector] = {}  # of this process: the one of the run at work


def _opened(task: Task) -> Detector:
    mark = (task.fingerprint, task.engine)
    if mark not in _open:
        _open.clear()
        limit_threads(task.threads or None)
        with tempfile.TemporaryDirectory(prefix="zeroflaw-") as folder:
            for name, data in task.detector.items():
                (Path(folder) / name).write_bytes(data)
            overrides: dict[str, Any] = {} if task.engine is None else {"engine": task.engine}
            _open[mark] = load(folder, **overrides)
    return _open[mark]


def judge(block: Block, task: Task) -> list[dict[str, Any]]:
    """Judge the images of a block; one that cannot be judged has a row with an ``error``.

    Returns:
        A row an item, in their order: the record of ``zeroflaw detect`` with ``key`` and ``detector``.

    Raises:
        ZeroflawError: the detector cannot be opened.
    """
    detector = _opened(task)
    rows: dict[int, dict[str, Any]] = {}
    pictures: list[bytes] = []
    places: list[int] = []
    for place, item in enumerate(block):
        try:
            pictures.append(fetch(item, task.limits.bytes))
            places.append(place)
        except ImageError as error:
            rows[place] = {"error": error.reason}

    def refuse(error: ImageError) -> None:
        rows[places[int(error.source.rpartition(" ")[2])]] = {"error": error.reason}

    with reading(limits=task.limits, white=task.white):
        for said in detector.predict(pictures, maps=task.maps, batch_size=task.batch_size, on_error=refuse):
            rows[places[int(said.source.rpartition(" ")[2])]] = _row(said, task)
    common = {"schema": SCHEMA, "zeroflaw": __version__, "detector": task.fingerprint}
    return [
        {**common, **rows[place], "source": shown(item.name), "key": item.key}
        for place, item in enumerate(block)
    ]


def failed(block: Block, task: Task, why: str) -> list[dict[str, Any]]:
    """Return rows of a block that no worker came to the end of."""
    common = {"schema": SCHEMA, "zeroflaw": __version__, "detector": task.fingerprint, "error": why}
    return [{**common, "source": shown(item.name), "key": item.key} for item in block]


def _row(said: Prediction, task: Task) -> dict[str, Any]:
    if task.threshold is not None:
        said = said.with_threshold(
            task.threshold, GIVEN, p_value=said.p_value, map_threshold=said.map_threshold
        )
    row = said.to_dict()
    if said.map is not None:
        stream = io.BytesIO()
        np.save(stream, said.map, allow_pickle=False)
        row["map"] = stream.getvalue()
    return row


def table_schema() -> Any:
    """Return the columns of the Parquet parts: the command's records, and key, detector and map."""
    with needing("a table of results", "scale"):
        import pyarrow as pa  # an extra
    region = pa.struct(
        [
            ("box", pa.list_(pa.int64())),
            ("area", pa.int64()),
            ("share", pa.float64()),
            ("peak", pa.float64()),
            ("peak_at", pa.list_(pa.int64())),
        ]
    )
    return pa.schema(
        [
            ("source", pa.string()),
            ("key", pa.string()),
            ("score", pa.float64()),
            ("logit", pa.float64()),
            ("label", pa.bool_()),
            ("threshold", pa.float64()),
            ("threshold_logit", pa.float64()),
            ("threshold_from", pa.string()),
            ("p_value", pa.float64()),
            ("scores", pa.map_(pa.string(), pa.float64())),
            ("size", pa.list_(pa.int64())),
            ("map_threshold", pa.float64()),
            ("regions", pa.list_(region)),
            ("notes", pa.list_(pa.string())),
            ("error", pa.string()),
            ("map", pa.binary()),
            ("detector", pa.string()),
            ("zeroflaw", pa.string()),
            ("schema", pa.int64()),
        ]
    )
