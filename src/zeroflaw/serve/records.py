"""What the history holds about a picture, and how it is asked for."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from zeroflaw._version import __version__
from zeroflaw.errors import UsageError, printable
from zeroflaw.parameters import parameters, shown
from zeroflaw.runtime.prediction import Prediction

Source = Literal["http", "page", "watch"]
Label = Literal["good", "flawed"]
Order = Literal["newest", "oldest", "highest"]
Verdicts = Literal["anomalous", "normal", "none", "corrected"]

LONGEST_NAME = 200  # characters of a name that are kept
LONGEST_NOTE = 2000
LARGEST_MAP = 128  # cells a side that a kept map has at most
LOWEST = -1e308  # rank of what could not be judged: below all log-odds
SCHEMA = 1  # of a row of ``zeroflaw detect``


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was said about a picture.

    Attributes:
        detector: name of the detector in the service.
        fingerprint: of the detector's folder; see `zeroflaw.serve.detectors.fingerprint`.
        source: how the picture came in.
        key: what makes it one picture of that source; it is in the history once.
        name: as the sender called it, made printable and cut.
        digest: SHA-256 of the file's bytes, 64 hexadecimal digits.
        width, height: in pixels, upright; None where it could not be read.
        logit: log-odds of the score, or None.
        score: in [0, 1], or None.
        threshold: log-odds from which a picture was anomalous, or None.
        anomalous: the verdict; None without threshold.
        p_value: see `Prediction`.
        regions: as in the rows of ``zeroflaw detect``; None where the map has no threshold.
        record: the rest of such a row.
        milliseconds: from the arrival of the picture to its verdict.
        error: why it could not be judged, in a sentence, or None.
    """

    detector: str
    fingerprint: str
    source: Source
    key: str
    name: str
    digest: str
    width: int | None = None
    height: int | None = None
    logit: float | None = None
    score: float | None = None
    threshold: float | None = None
    anomalous: bool | None = None
    p_value: float | None = None
    regions: Sequence[Mapping[str, Any]] | None = None
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    milliseconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict(Judged):
    """What the history is given.

    Attributes:
        map: the map as PNG of 16-bit grey, or None; see `map_png`.
        picture_bytes: size of the picture's file in the store; None where it is not kept.
    """

    map: bytes | None = field(default=None, repr=False)
    picture_bytes: int | None = None

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        *,
        detector: str,
        fingerprint: str,
        source: Source,
        key: str,
        name: str,
        digest: str,
        milliseconds: float = 0.0,
        picture_bytes: int | None = None,
    ) -> Self:
        """Return what is kept of a prediction; arguments as the attributes."""
        shown_name = clean(name)
        record = {"schema": SCHEMA, "zeroflaw": __version__} | prediction.to_dict() | {"source": shown_name}
        regions: Any = record.pop("regions")
        return cls(
            detector=detector,
            fingerprint=fingerprint,
            source=source,
            key=key,
            name=shown_name,
            digest=digest,
            height=prediction.size[0],
            width=prediction.size[1],
            logit=prediction.logit,
            score=prediction.score,
            threshold=prediction.threshold_logit,
            anomalous=prediction.label,
            p_value=prediction.p_value,
            regions=regions,
            record=record,
            milliseconds=milliseconds,
            map=None if prediction.map is None else map_png(prediction.map),
            picture_bytes=picture_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Row(Judged):
    """What the history says about a picture.

    Attributes:
        id: counts up from 1.
        time: UTC, ISO 8601 with microseconds and ``Z``; such texts are sorted as times are.
        label: a person's correction, or None.
        note: that person's words.
        corrected_at: when, as ``time``, or None.
        has_picture: whether its file is in the store.
        has_map: whether its map is kept.
    """

    id: int
    time: str
    label: Label | None = None
    note: str = ""
    corrected_at: str | None = None
    has_picture: bool = False
    has_map: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; ``record`` is the row that ``zeroflaw detect`` would write."""
        whole = asdict(self)
        if self.record:
            whole["record"] = {**self.record, "regions": self.regions}
        return whole


@parameters
class Filter:
    """Which rows are wanted, and in which order.

    Attributes:
        detector: name of a detector.
        verdict: "none" is without verdict; "corrected" has a correction, whatever the verdict.
        since, until: ISO 8601, a date or a time; UTC where no zone is said. ``until`` is not included.
        text: part of the name or note, large or small letters alike.
        order: "highest" has the highest log-odds first.
        limit: rows of a page.
        cursor: what the page before gave as ``next``.
    """

    detector: str | None = None
    verdict: Verdicts | None = None
    since: str | None = None
    until: str | None = None
    text: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    order: Order = "newest"
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Read times and cursor, so that they can be trusted.

        Raises:
            UsageError: one of them is none.
        """
        self.since = None if self.since is None else utc(self.since, "since")
        self.until = None if self.until is None else utc(self.until, "until")
        self.detector = None if self.detector is None else clean(self.detector)
        self.text = None if self.text is None else clean(self.text)
        self.place = None if self.cursor is None else _place(self.cursor, self.order)


@dataclass(frozen=True)
class Page:
    """Some rows of the history.

    Attributes:
        rows: in the order that was asked for.
        next: cursor of the page that follows, or None.
        total: rows in all pages.
    """

    rows: list[Row]
    next: str | None
    total: int


def cursor_after(row: Row, order: Order) -> str:
    """Return where the page after a row begins."""
    return f"{rank(row.logit)!r}_{row.id}" if order == "highest" else str(row.id)


def rank(logit: float | None) -> float:
    """Return what rows are sorted by: the log-odds, or less than any."""
    return LOWEST if logit is None else logit


def _place(cursor: str, order: Order) -> tuple[float, int]:
    """Return rank and id of the row that a page comes after."""
    found = re.fullmatch(r"(?:(-?[0-9.]{1,25}(?:e[+-]?\d{1,3})?)_)?([0-9]{1,18})", cursor, re.ASCII)
    if found is None or (found[1] is None) == (order == "highest"):
        raise UsageError(
            f"cursor must be what the page before gave as 'next', with the same order, got {shown(cursor)}"
        )
    try:
        return float(found[1] or 0), int(found[2])
    except ValueError:
        raise UsageError(f"cursor must hold numbers, got {shown(cursor)}") from None


def utc(text: str, what: str) -> str:
    """Return a time as it is kept: UTC, microseconds, ``Z``.

    Raises:
        UsageError: it is no ISO 8601 date or time.
    """
    try:
        time = datetime.fromisoformat(text)
        return stamp(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise UsageError(
            f"{what} wants a date or time as 2026-05-31 or 2026-05-31T12:00:00Z, got {shown(text)}"
        ) from None


def stamp(time: datetime) -> str:
    """Return a time with a zone as it is kept; such texts are sorted as times are."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)


def clean(name: str, most: int = LONGEST_NAME) -> str:
    """Return a name of a stranger as it is kept and shown: printable, and cut in its middle."""
    return printable(name, most)


def map_png(values: npt.NDArray[np.float32]) -> bytes:
    """Return a map (rows, columns) in [0, 1] as PNG of 16-bit grey, whose white is 1.

    Maps of the size of their picture are made smaller, each cell the highest of those that it stands for.
    """
    step = math.ceil(max(values.shape) / LARGEST_MAP)
    if step > 1:
        rows, columns = (math.ceil(side / step) * step for side in values.shape)
        padded = np.zeros((rows, columns), np.float32)
        padded[: values.shape[0], : values.shape[1]] = values
        values = padded.reshape(rows // step, step, columns // step, step).max((1, 3))
    stream = io.BytesIO()
    Image.fromarray(np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def read_map(png: bytes) -> npt.NDArray[np.float32]:
    """Return what `map_png` was given, float32 (rows, columns)."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image, np.uint16).astype(np.float32) / np.float32(65535)
