"""A new threshold from what people said about photos; proposed here, taken when somebody accepts it.

Good photos are those of the calibration that the detector has, whose log-odds are of the same detector, and
those that people called good. Where enough were called flawed, both kinds set the threshold (Youden's rule:
the best sum of recall and specificity); elsewhere the good ones alone do, as in ``zeroflaw calibrate``.
People correct what was wrong more often than what was right, so that photos called good are more anomalous
than most: the proposal is rather too high than too low, and says what it does to each labelled photo.

Figures are taken by leaving out: each labelled photo is judged by the threshold that the others give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zeroflaw.errors import ImageError, UsageError
from zeroflaw.images import read_image
from zeroflaw.runtime.calibration import Calibration, calibration_of, finder, from_good
from zeroflaw.runtime.drift import describe_photos
from zeroflaw.runtime.prediction import peak
from zeroflaw.serve.detectors import Entry
from zeroflaw.serve.records import Row

FEWEST_FLAWED = 3  # flawed photos from which they take part in the threshold
MOST = 500  # labelled photos that are looked at; the newest
SHOWN = 20  # numbers of photos whose verdict would change

Picture = Callable[[str], bytes | None]
Photos = Sequence[tuple[int, float]]  # numbers of rows and their log-odds
Rule = Literal["auto", "youden"]


@dataclass(frozen=True)
class Proposal:
    """What a new calibration would be, or why there is none.

    Attributes:
        good, flawed: how many photos of each kind were labelled and are kept.
        calibration: the proposed one, or None.
        why_not: a sentence where there is none.
        now, proposed: threshold, promise, and the shares of false alarms and of flaws found; None where there
            is nothing to say.
        changes: numbers of the labelled photos whose verdict would change.
    """

    good: int
    flawed: int
    calibration: Calibration | None = None
    why_not: str | None = None
    now: dict[str, Any] | None = None
    proposed: dict[str, Any] | None = None
    changes: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the calibration as JSON values."""
        return {
            "labelled": {"good": self.good, "flawed": self.flawed},
            "possible": self.calibration is not None,
            "why_not": self.why_not,
            "now": self.now,
            "proposed": self.proposed,
            "changes": {"count": len(self.changes), "ids": list(self.changes[:SHOWN])},
        }


def propose(entry: Entry, rows: Sequence[Row], picture: Picture) -> Proposal:
    """Return what the labelled photos of a detector would make of its threshold.

    Args:
        entry: the detector.
        rows: labelled ones whose pictures are kept; see `zeroflaw.serve.history.History.labelled`.
        picture: returns the file of a digest, or None where it has gone.
    """
    judged = _judged(entry, rows[-MOST:], picture)
    good = [(row.id, logit) for row, logit in judged if row.label == "good"]
    flawed = [(row.id, logit) for row, logit in judged if row.label == "flawed"]
    counts = len(good), len(flawed)
    if not rows:
        return Proposal(
            *counts,
            why_not="No photo was labelled that is kept; say of some whether they are good or flawed.",
        )
    if not judged:
        return Proposal(
            *counts,
            why_not="The photos that were labelled say nothing: the detector was made from them, or they "
            "cannot be read any more; label others.",
        )
    before = entry.calibration
    # What was labelled may have taken part in the calibration before: it counts once, as it is labelled now.
    again = {logit for _, logit in (*good, *flawed)}
    known = [] if before is None else [logit for logit in before.good if logit not in again]
    share = 0.05 if before is None else before.false_alarms or 0.05
    kinds = [*known, *(logit for _, logit in good)], [logit for _, logit in flawed]
    rule: Rule = "youden" if len(flawed) >= FEWEST_FLAWED else "auto"
    try:
        made = calibration_of(kinds, (), rule=rule, false_alarms=share)
    except UsageError as error:
        text = str(error)
        return Proposal(*counts, why_not=f"{text[:1].upper()}{text[1:]}.")
    old = None if before is None else before.threshold
    changes = [
        id for id, logit in (*good, *flawed) if old is None or (logit >= old) != (logit >= made.threshold)
    ]
    made = made.model_copy(
        update={
            "false_alarms": share,
            "left_out": before is not None and before.left_out,
            "map_threshold": None if before is None else before.map_threshold,
            "photos": None if before is None else before.photos,
            "shifts": () if before is None else before.shifts,
        }
    )
    now = None if before is None else _figures(before, [old] * len(good), [old] * len(flawed), good, flawed)
    proposed = _left_out(made, known, good, flawed)
    return Proposal(*counts, made, None, now, proposed, tuple(sorted(changes)))


def completed(entry: Entry, made: Calibration, rows: Sequence[Row], picture: Picture) -> Calibration:
    """Return an accepted calibration with what the first one of a detector needs beside its threshold.

    A threshold of the map, and what good photos look like, come from the photos that people called good; a
    detector that was calibrated before keeps its own.
    """
    if entry.calibration is not None:
        return made
    photos = [data for row in rows[-MOST:] if row.label == "good" and (data := picture(row.digest))]
    peaks = [peak(one) for one in entry.fitted.predict(photos, maps=True)]
    hot = calibration_of([made.good, ()], peaks).map_threshold
    return made.model_copy(update={"map_threshold": hot, "photos": describe_photos(photos)})


def _judged(entry: Entry, rows: Sequence[Row], picture: Picture) -> list[tuple[Row, float]]:
    """Return rows with their log-odds by the detector as it is now; photos it was made from are left out."""
    reference = entry.fitted.seen_.reference
    seen = set() if reference is None else set(reference.sha256_of_pixels)
    found: list[tuple[Row, float]] = []
    again: dict[str, tuple[Row, bytes]] = {}
    for row in rows:
        same = row.fingerprint == entry.fingerprint and row.logit is not None
        data = picture(row.digest) if seen or not same else b""
        if data is None or (seen and _was_seen(data, seen)):
            continue
        if same and row.logit is not None:
            found.append((row, row.logit))
        else:
            again[f"image {len(again)}"] = (row, data)
    pictures = [data for _, data in again.values()]
    judged = entry.fitted.predict(pictures, on_error=lambda error: None) if pictures else ()
    found += [(again[prediction.source][0], prediction.logit) for prediction in judged]
    return sorted(found, key=lambda pair: pair[0].id)


def _was_seen(data: bytes, seen: set[str]) -> bool:
    try:
        return hashlib.sha256(read_image(data).tobytes()).hexdigest() in seen
    except ImageError:
        return True


def _left_out(made: Calibration, known: Sequence[float], good: Photos, flawed: Photos) -> dict[str, Any]:
    """Return figures of a calibration, each photo judged by the threshold that the others give."""
    share = made.false_alarms or 0.05

    def line(place: int | None, other: int | None) -> float:
        """Return the threshold without one photo, good or flawed."""
        g = [*known, *(logit for number, (_, logit) in enumerate(good) if number != place)]
        f = [logit for number, (_, logit) in enumerate(flawed) if number != other]
        if made.rule == "youden":
            return finder("youden")(np.array(g), np.array(f))
        return from_good(g, share)[1]

    try:
        for_good = [line(n, None) for n in range(len(good))]
        for_flawed = [line(None, n) for n in range(len(flawed))]
    except UsageError:  # too few without one of them: the figures are those of the threshold itself
        for_good, for_flawed = [made.threshold] * len(good), [made.threshold] * len(flawed)
    return _figures(made, for_good, for_flawed, good, flawed)


def _figures(
    of: Calibration,
    for_good: Sequence[float | None],
    for_flawed: Sequence[float | None],
    good: Photos,
    flawed: Photos,
) -> dict[str, Any]:
    def share(thresholds: Sequence[float | None], photos: Photos) -> float | None:
        above = [
            logit >= line for line, (_, logit) in zip(thresholds, photos, strict=True) if line is not None
        ]
        return sum(above) / len(above) if above else None

    return {
        "threshold": of.threshold,
        "promise": of.sentence(),
        "false_alarms": share(for_good, good),
        "recall": share(for_flawed, flawed),
    }
