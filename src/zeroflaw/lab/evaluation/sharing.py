"""One pass over the images of a category, shared by all detectors.

Images are decoded and embedded once per backbone, whatever the number of detectors and seeds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeroflaw.corruptions import corrupt, parse_corruption
from zeroflaw.detectors.base import Request
from zeroflaw.errors import DetectorError, ImageError, InputError, ZeroflawError
from zeroflaw.images import read_image, shown
from zeroflaw.lab.datasets import Category, Record, read_mask
from zeroflaw.lab.metrics import PixelMetrics
from zeroflaw.runtime.stream import batches
from zeroflaw.towers.model import ImageFeatures

from .outcome import Entry, LeftOut, Outcome, Scored, Tally, row_of

if TYPE_CHECKING:
    from zeroflaw.detectors import Prediction

Corruption = tuple[str, int]  # name and severity
CLEAN = "none"  # what rows say in the place of a corruption
OnImage = Callable[[], object]
Mask = npt.NDArray[np.bool_]
Size = tuple[int, int]


@dataclass
class _Waiting:
    """Images whose detector judges only when the whole batch is there."""

    records: list[Record]
    sizes: list[Size]
    features: ImageFeatures


@dataclass
class _Pass:
    """One pass over images of a category."""

    category: Category
    entries: Sequence[Entry]
    corruption: Corruption | None
    batch_size: int
    on_image: OnImage | None
    keep_going: bool
    left_out: LeftOut = field(default_factory=LeftOut)

    def __post_init__(self) -> None:
        maps = self.category.has_masks
        self.tallies = [Tally(pixels=PixelMetrics() if maps else None) for _ in self.entries]
        self._waiting: dict[int, list[_Waiting]] = {}
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, entry in enumerate(self.entries):
            groups.setdefault(entry.detector.share_key, []).append(number)
        self._groups = list(groups.values())

    def run(self, records: Iterable[Record]) -> None:
        """Judge all records."""
        for batch in batches(self._read(records), self.batch_size):
            self._judge(batch)
        for number in list(self._waiting):
            self._guarded(number, lambda number=number: self._judge_waiting(number))  # type: ignore[misc]

    def _read(self, records: Iterable[Record]) -> Iterator[tuple[Record, Any]]:
        for record in records:
            try:
                yield record, self._pixels(record)
            except ImageError as error:
                self.left_out.images.append(f"{shown(corruption_key(record))}: {error.reason}")
            if self.on_image is not None:
                self.on_image()

    def _pixels(self, record: Record) -> Any:
        pixels = read_image(record.image)
        if self.corruption is None:
            return pixels
        name, severity = self.corruption
        return corrupt(pixels, name, severity, key=corruption_key(record))

    def _judge(self, batch: list[tuple[Record, Any]]) -> None:
        records = [record for record, _ in batch]
        images = [image for _, image in batch]
        sizes = [(int(image.shape[0]), int(image.shape[1])) for image in images]
        masks: list[Mask | None] = [None] * len(batch)
        if self.category.has_masks:
            masks = [_mask(r, s, self.left_out) for r, s in zip(records, sizes, strict=True)]
        for members in self._groups:
            self._share_or_part(members, images, records, sizes, masks)

    def _share_or_part(self, members: list[int], *batch: Any) -> None:
        """Let detectors share; where that fails because of one of them, let each look for itself."""
        open_ones = [number for number in members if self.tallies[number].failed is None]
        try:
            self._share(open_ones, *batch)
        except Exception:
            if not self.keep_going:
                raise
            for number in open_ones:
                self._guarded(number, lambda number=number: self._share([number], *batch))  # type: ignore[misc]

    def _share(
        self,
        members: list[int],
        images: list[Any],
        records: list[Record],
        sizes: list[Size],
        masks: list[Mask | None],
    ) -> None:
        """Embed images once, and let every detector of a group judge the embeddings.

        What one of them cannot judge is its own failure; what is raised here concerns the whole group, and
        nothing was counted before it.
        """
        if not members:
            return
        maps, request = self.category.has_masks, Request()
        for number in members:
            request = request | self.entries[number].detector.request(maps)
        features = self.entries[members[0]].detector.embed(images, request)
        for number in members:
            detector = self.entries[number].detector

            def judge(number: int = number, detector: Any = detector) -> None:
                if detector.needs.whole_batch:
                    waiting = _Waiting(records, sizes, detector.keep(features))
                    self._waiting.setdefault(number, []).append(waiting)
                    return
                found = detector.predict_features(features, request, sizes, maps=maps)
                self._add(number, records, masks, found)

            self._guarded(number, judge)

    def _guarded(self, number: int, work: Callable[[], None]) -> None:
        """Do the work of a detector that has not failed; note why it fails, where others go on without it."""
        tally = self.tallies[number]
        if tally.failed is not None:
            return
        try:
            work()
        except Exception as error:
            if not self.keep_going:
                raise
            tally.fail(reason_of(error))
            self._waiting.pop(number, None)

    def add(self, other: _Pass) -> None:
        """Take over what another pass over the same category found."""
        for mine, theirs in zip(self.tallies, other.tallies, strict=True):
            mine.add(theirs)
        self.left_out.add(other.left_out)

    def rows(self, domain: str | None, intervals: int) -> list[dict[str, Any]]:
        """Return the metrics of every entry; see `row_of`."""
        label = CLEAN if self.corruption is None else f"{self.corruption[0]}:{self.corruption[1]}"
        facts: dict[str, Any] = {"domain": domain, "corruption": label, "intervals": intervals}
        return [
            row_of(self.category, entry, tally, self.left_out, **facts)
            for entry, tally in zip(self.entries, self.tallies, strict=True)
        ]

    def _judge_waiting(self, number: int) -> None:
        """Judge all images at once; masks are read a second time rather than kept."""
        parts = self._waiting.pop(number)
        records = [record for part in parts for record in part.records]
        sizes = [size for part in parts for size in part.sizes]
        maps, detector = self.category.has_masks, self.entries[number].detector
        features = ImageFeatures.join([part.features for part in parts])
        found = detector.predict_features(features, detector.request(maps), sizes, maps=maps)
        masks = [
            # What cannot be read was named when the image passed.
            _mask(record, size, LeftOut()) if maps else None
            for record, size in zip(records, sizes, strict=True)
        ]
        self._add(number, records, masks, found)

    def _add(
        self, number: int, records: list[Record], masks: list[Mask | None], found: list[Prediction]
    ) -> None:
        tally = self.tallies[number]
        for record, mask, prediction in zip(records, masks, found, strict=True):
            if not math.isfinite(prediction.logit):
                raise DetectorError(f"the score of {corruption_key(record)} is not a finite number")
            tally.scored.append(Scored(shown(corruption_key(record)), record.label, prediction.logit))
            if tally.pixels is not None and mask is not None:
                tally.pixels.update(prediction.resized_map(), mask)


def evaluate_category(
    category: Category,
    entries: Sequence[Entry],
    *,
    corruption: Corruption | None = None,
    batch_size: int = 8,
    intervals: int = 0,
    on_image: OnImage | None = None,
    keep_going: bool = False,
) -> list[Outcome]:
    """Return what each entry reached.

    Image metrics rank by log-odds. Pixel metrics compare maps, interpolated to the size of the image, with
    the masks at that size. A category with domains is judged domain by domain; its own row is over all of
    their images. Detectors that need a whole batch get the images of a domain, or of the category, as one.

    Args:
        category: what to judge.
        entries: fitted detectors.
        corruption: name and severity of what is done to the images first; see `zeroflaw.corruptions`.
        batch_size: images at a time.
        intervals: draws for the bootstrap interval of the image AUROC; 0 for none.
        on_image: called after each image.
        keep_going: note the error of a detector that fails, and go on with the others.

    Raises:
        ZeroflawError: a detector failed, unless ``keep_going``.
    """
    domains = sorted({record.domain for record in category.test}, key=str) or [None]
    parts: list[list[dict[str, Any]]] = []
    whole: _Pass | None = None
    for domain in domains:
        part = _Pass(category, entries, corruption, batch_size, on_image, keep_going)
        part.run(record for record in category.test if record.domain == domain)
        if domain is not None:
            parts.append(part.rows(domain, intervals))
        if whole is None:  # the first pass goes on counting: pixel metrics take much memory
            whole = part
        else:
            whole.add(part)
    assert whole is not None
    rows = whole.rows(None, intervals)
    return [
        Outcome(row, [part[number] for part in parts], whole.tallies[number].scored)
        for number, row in enumerate(rows)
    ]


def read_corruption(text: str) -> Corruption | None:
    """Read what rows say of a corruption: ``NAME:SEVERITY``, or None for ``none``.

    Raises:
        UsageError: see `zeroflaw.corruptions.parse_corruption`.
    """
    return None if text == CLEAN else parse_corruption(text)


def reason_of(error: Exception) -> str:
    """Say why something failed: the sentence of an error of ours, kind and text of any other.

    Where it came from is logged for ``--debug``.
    """
    if isinstance(error, ZeroflawError):
        return str(error)
    logging.getLogger(__name__).debug("a detector failed", exc_info=error)
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"


def corruption_key(record: Record) -> str:
    """Name an image by its place in the data set: the same on every machine, so that noise is too."""
    parts = (record.category, record.split, record.defect, record.domain, record.image.name)
    return "/".join(part for part in parts if part is not None)


def _mask(record: Record, size: Size, left_out: LeftOut) -> Mask | None:
    """Return the mask of an image, all False for a good one, or None where there is no usable one."""
    if record.label == 0:
        return np.zeros(size, dtype=bool)
    if record.mask is None:
        left_out.masks.append(f"{shown(corruption_key(record))} has no mask")
        return None
    try:
        return read_mask(Path(record.mask), size)
    except InputError as error:
        # Results are compared between machines, so that notes must not hold where the data lie.
        left_out.masks.append(str(error).replace(str(record.mask), Path(record.mask).name))
        return None
