"""What goes over the wire, for the description of the service and for checking what comes in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from zeroflaw.serve.problems import MEDIA
from zeroflaw.serve.records import LONGEST_NOTE, Label, Row, Source

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Problem(BaseModel):
    """A refusal, as RFC 9457 says."""

    type: str
    title: str
    status: int
    detail: str


class RowView(BaseModel):
    """What the history says about a picture; ``record`` is the line that ``zeroflaw detect`` would write."""

    id: int
    time: str
    detector: str
    fingerprint: str
    source: Source
    key: str
    name: str
    digest: str
    width: int | None
    height: int | None
    logit: float | None
    score: float | None
    threshold: float | None
    anomalous: bool | None
    p_value: float | None
    regions: list[dict[str, Any]] | None
    record: dict[str, Any]
    milliseconds: float
    error: str | None
    label: Label | None
    note: str
    corrected_at: str | None
    thumbnail: str | None
    picture: str | None
    map: str | None


class RefusedPicture(BaseModel):
    """A picture of a request that was not judged, and why."""

    name: str
    error: Problem


class DetectView(BaseModel):
    """Verdicts on the pictures of a request, in their order."""

    results: list[RowView | RefusedPicture]
    detector: str


class HistoryView(BaseModel):
    """A page of the history."""

    rows: list[RowView]
    next: str | None
    total: int


class DetectorView(BaseModel):
    """A detector of the service; see `zeroflaw.serve.detectors.Entry`."""

    name: str
    method: str
    summary: str
    threshold: float | None
    promise: str | None
    map_threshold: float | None
    good_logits: list[float]
    fingerprint: str
    photos: int


class Counts(BaseModel):
    """How many photos were labelled."""

    good: int
    flawed: int


class Figures(BaseModel):
    """A threshold, and the shares of false alarms and of flaws found among labelled photos."""

    threshold: float
    promise: str
    false_alarms: float | None
    recall: float | None


class Changes(BaseModel):
    """Photos whose verdict would change: how many, and the first twenty."""

    count: int
    ids: list[int]


class RecalibrationView(BaseModel):
    """What labelled photos would make of a threshold; see `zeroflaw.serve.recalibration.Proposal`."""

    labelled: Counts
    possible: bool
    why_not: str | None
    now: Figures | None
    proposed: Figures | None
    changes: Changes


class Queue(BaseModel):
    """Pictures in the line, and its places."""

    waiting: int
    places: int


class Disk(BaseModel):
    """Bytes of the pictures that are kept, and how many there may be."""

    bytes: int
    limit: int | None


class Warned(BaseModel):
    """Something to look at."""

    detector: str
    text: str


class StatusView(BaseModel):
    """How the service is."""

    version: str
    queue: Queue
    detectors: list[str]
    disk: Disk
    warnings: list[Warned]
    offline: bool


class Body(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Feedback(Body):
    """What a person says about a picture."""

    id: Id
    label: Literal["good", "flawed"] | None
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""


class Session(Body):
    """A token, for a cookie."""

    token: Annotated[str, Field(max_length=4096)]


class Recalibrate(Body):
    """The detector whose proposal is accepted."""

    detector: Annotated[str, Field(max_length=60)]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA: {}}, "description": said}
    for status, said in {
        400: "The request cannot be read.",
        401: "A token is wanted.",
        403: "Another web page may not change anything.",
        404: "There is no such thing.",
        408: "The body came too slowly.",
        409: "It does not go with what is there.",
        413: "The body is too large.",
        415: "This is no picture.",
        421: "The service does not go by this name.",
        422: "A value is wrong.",
        429: "There is no place; Retry-After says when there may be.",
        503: "The history cannot be used, or the service is about to end.",
        504: "It took too long.",
    }.items()
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route: those of every route, and some of its own."""
    return {status: _REFUSALS[status] for status in (400, 401, 403, 408, 413, 421, 422, *statuses)}


def row_view(row: Row) -> dict[str, Any]:
    """Return a row as clients are shown it: with the paths of its pictures, where these are kept."""
    found = row.to_dict()
    picture = f"/v1/pictures/{row.digest}" if found.pop("has_picture") else None
    drawn = found.pop("has_map")
    return found | {
        "picture": picture,
        "thumbnail": f"{picture}/thumbnail" if picture else None,
        "map": f"/v1/history/{row.id}/map.png" if drawn and picture else None,
    }
