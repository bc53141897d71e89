"""One pass over the images of a category, shared by all detectors.

Images are decoded once whatever the number of detectors and seeds, and embedded once per backbone. Detectors
that do not share features are judged through `predict`.
"""

from __future__ import annotations

import functools
import logging
import math
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroflaw.detectors import Detector, Prediction
from zeroflaw.errors import DetectorError, ImageError, InputError, ZeroflawError, printable
from zeroflaw.images import read_image
from zeroflaw.lab.corruptions import corrupt, parse_corruption
from zeroflaw.lab.datasets import read_mask
from zeroflaw.lab.metrics import (
    Metric,
    PixelMetrics,
    bootstrap_interval,
    image_aupr,
    image_auroc,
    image_f1max,
)
from zeroflaw.records import Category, Record
from zeroflaw.runtime.features import ImageFeatures
from zeroflaw.runtime.stream import batches

from .rows import METRICS, Result, Row, Scored, mean_of, writable

Corruption = tuple[str, int]  # name and severity
CLEAN = "none"  # what rows say in the place of a corruption
Size = tuple[int, int]
Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NamedDetector:
    """A fitted detector under the name and seed it is reported with.

    Attributes:
        detector: None where it could not be made.
        error: why.
        backbone: that of a detector which could not be made.
    """

    name: str
    seed: int
    detector: Detector | None
    error: str | None = None
    backbone: str | None = None


# What detectors offer so that they can share features of an image; nothing else here knows it.


def _feature_key(detector: Any) -> Hashable:
    """Return what is equal for detectors that can share features; None for one that shares none."""
    return getattr(detector, "feature_key", None)


def _embed(detectors: Sequence[Any], images: list[Pixels], maps: bool) -> ImageFeatures:
    request = functools.reduce(operator.or_, [detector.request(maps) for detector in detectors])
    features: ImageFeatures = detectors[0].embed(images, request)
    return features


def _judge(detector: Any, features: ImageFeatures, sizes: list[Size], maps: bool) -> list[Prediction]:
    found: list[Prediction] = detector.judge(features, sizes, maps=maps)
    return found


def _kept(detector: Any, features: ImageFeatures, maps: bool) -> ImageFeatures:
    """Return the part of shared features that a detector needs, for one that waits until all are there."""
    return features.only(detector.request(maps))


@dataclass
class Accumulator:
    """What is counted of one detector while images pass; ``failed`` says why it was given up.

    Of what failed nothing is kept: figures of the images before the failure would be those of a part.
    """

    pixels: PixelMetrics | None
    scored: list[Scored] = field(default_factory=list)
    failed: str | None = None
    waiting: list[ImageFeatures] = field(default_factory=list)  # of a detector that judges all images at once

    def merge(self, other: Accumulator) -> None:
        """Take over what another pass counted."""
        if failed := self.failed or other.failed:
            self.fail(failed)
            return
        self.scored += other.scored
        if self.pixels is not None and other.pixels is not None:
            self.pixels.merge(other.pixels)

    def fail(self, reason: str) -> None:
        """Give the detector up."""
        self.failed, self.scored, self.pixels, self.waiting = reason, [], None, []


@dataclass
class _Pass:
    """One pass over images of a category."""

    category: Category
    detectors: Sequence[NamedDetector]
    corruption: Corruption | None
    batch_size: int
    on_image: Callable[[], object] | None
    keep_going: bool
    images_left_out: list[str] = field(default_factory=list)
    masks_left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maps = self.category.has_masks
        self.accumulators = [
            Accumulator(PixelMetrics() if self.maps and not named.error else None, failed=named.error)
            for named in self.detectors
        ]
        self._waits = [bool(named.detector and named.detector.needs.whole_batch) for named in self.detectors]
        self._seen: list[tuple[Record, Size]] = []  # what was read, for detectors that wait
        groups: dict[Hashable, list[int]] = {}
        for number, named in enumerate(self.detectors):
            with self._catch(number):
                groups.setdefault(_feature_key(named.detector) or number, []).append(number)
        self._groups = list(groups.values())

    def run(self, records: Iterable[Record]) -> None:
        """Judge all records."""
        everybody = range(len(self.detectors))
        if self._open(everybody):
            for batch in batches(self._images(records), self.batch_size):
                self._judge_batch(batch)
        for number in self._open(everybody):
            if self._waits[number] and self._seen:
                with self._catch(number):
                    self._judge_all(number)

    def _open(self, numbers: Iterable[int]) -> list[int]:
        return [number for number in numbers if self.accumulators[number].failed is None]

    def _images(self, records: Iterable[Record]) -> Iterator[tuple[Record, Pixels]]:
        for record in records:
            try:
                yield record, self._pixels(record)
            except ImageError as error:
                self.images_left_out.append(f"{writable(record.key)}: {error.reason}")
            if self.on_image is not None:
                self.on_image()

    def _pixels(self, record: Record) -> Pixels:
        pixels = read_image(record.image)
        return pixels if self.corruption is None else corrupt(pixels, *self.corruption, key=record.key)

    def _judge_batch(self, batch: list[tuple[Record, Pixels]]) -> None:
        images = [image for _, image in batch]
        seen = [(record, (int(image.shape[0]), int(image.shape[1]))) for record, image in batch]
        if any(self._waits):
            self._seen += seen
        masks = [_mask(*one, self.masks_left_out) if self.maps else None for one in seen]
        for group in self._groups:
            members = self._open(group)
            try:
                self._judge_group(members, images, seen, masks)
            except Exception:  # because of one of them: each looks for itself
                if not self.keep_going:
                    raise
                for number in members:
                    with self._catch(number):
                        self._judge_group([number], images, seen, masks)

    def _judge_group(
        self,
        members: list[int],
        images: list[Pixels],
        seen: list[tuple[Record, Size]],
        masks: Sequence[Mask | None],
    ) -> None:
        """Embed images once, and let every detector of a group judge the features, or keep them for later.

        What one of them cannot judge is its own failure; what is raised here concerns the whole group, and
        nothing was counted before it.
        """
        detectors: list[Any] = [self.detectors[number].detector for number in members]
        shares = bool(detectors) and _feature_key(detectors[0]) is not None
        features = _embed(detectors, images, self.maps) if shares else None
        for number, detector in zip(members, detectors, strict=True):
            with self._catch(number):
                if not self._waits[number]:
                    found = (
                        detector.predict(images, maps=self.maps, batch_size=len(images))
                        if features is None
                        else _judge(detector, features, [size for _, size in seen], self.maps)
                    )
                    self._count(number, seen, masks, list(found))
                elif features is not None:
                    self.accumulators[number].waiting.append(_kept(detector, features, self.maps))

    def _judge_all(self, number: int) -> None:
        """Judge all images at once; images and masks are read a second time rather than kept."""
        detector: Any = self.detectors[number].detector
        if parts := self.accumulators[number].waiting:
            features = ImageFeatures.join(parts)
            found = _judge(detector, features, [size for _, size in self._seen], self.maps)
        else:
            images = (self._pixels(record) for record, _ in self._seen)
            found = list(detector.predict(images, maps=self.maps, batch_size=self.batch_size))
        # What cannot be read was named when the image passed.
        masks = [_mask(*one, []) if self.maps else None for one in self._seen]
        self._count(number, self._seen, masks, found)

    @contextmanager
    def _catch(self, number: int) -> Iterator[None]:
        """Note why a detector fails, where others go on without it."""
        try:
            yield
        except Exception as error:
            if not self.keep_going:
                raise
            self.accumulators[number].fail(reason_of(error))

    def _count(
        self,
        number: int,
        seen: Sequence[tuple[Record, Size]],
        masks: Sequence[Mask | None],
        found: list[Prediction],
    ) -> None:
        accumulator = self.accumulators[number]
        for (record, _), mask, prediction in zip(seen, masks, found, strict=True):
            if not math.isfinite(prediction.logit):
                raise DetectorError(f"the score of {record.key} is not a finite number")
            accumulator.scored.append((writable(record.key), record.label, prediction.logit))
            if accumulator.pixels is not None and mask is not None:
                accumulator.pixels.update(prediction.resized_map(), mask)

    def merge(self, other: _Pass) -> None:
        """Take over what another pass over the same category found."""
        for mine, theirs in zip(self.accumulators, other.accumulators, strict=True):
            mine.merge(theirs)
        self.images_left_out += other.images_left_out
        self.masks_left_out += other.masks_left_out

    def row(self, number: int, domain: str | None, draws: int) -> Row:
        """Return the metrics of a detector."""
        named, accumulator, category = self.detectors[number], self.accumulators[number], self.category
        labels = [label for _, label, _ in accumulator.scored]
        facts: dict[str, Any] = {
            "dataset": category.dataset,
            "category": category.name,
            "domain": domain,
            "corruption": CLEAN if self.corruption is None else "{}:{}".format(*self.corruption),
            "detector": named.name,
            "backbone": getattr(named.detector, "backbone", named.backbone),
            "object": getattr(named.detector, "object", None),
            "seed": named.seed,
            "images": len(labels),
            "anomalous": sum(labels),
            "unreadable": len(self.images_left_out),
            "without_mask": len(self.masks_left_out),
            "missing": category.missing,
            "error": accumulator.failed,
        }
        if accumulator.failed is None:
            logits = [logit for *_, logit in accumulator.scored]
            found = _metrics(labels, logits, accumulator.pixels)
            facts |= {name: metric.value for name, metric in found.items()}
            facts["f1max_threshold_logit"] = found["image_f1max"].threshold
            facts["notes"] = tuple(self._notes(named, found))
            if draws and facts["image_auroc"] is not None:
                interval = bootstrap_interval(labels, logits, image_auroc, n=draws, seed=named.seed)
                facts["image_auroc_interval"] = (interval.low, interval.high)
        return Row(**facts)

    def _notes(self, named: NamedDetector, found: dict[str, Metric]) -> Iterator[str]:
        for reason in dict.fromkeys(metric.reason for metric in found.values() if metric.reason):
            names = ", ".join(name for name, metric in found.items() if metric.reason == reason)
            yield f"undefined are {names}: {reason}"
        yield from (f"left out, not readable: {said}" for said in self.images_left_out)
        yield from (f"left out of pixel metrics: {said}" for said in self.masks_left_out)
        yield from self.category.problems
        learned_from = getattr(getattr(named.detector, "seen_", None), "auxiliary", None)
        if learned_from is not None and self.category.name in learned_from.categories:
            yield (
                f"{named.name} learned from a category that is called {self.category.name} too: where it is "
                "the same product, this is no zero-shot result"
            )


def _metrics(labels: list[int], logits: list[float], pixels: PixelMetrics | None) -> dict[str, Metric]:
    none = Metric(None, "there are no masks")
    return {
        "image_auroc": image_auroc(labels, logits),
        "image_aupr": image_aupr(labels, logits),
        "image_aupr_trapezoid": image_aupr(labels, logits, "trapezoid"),
        "image_f1max": image_f1max(labels, logits),
        **{name: none for name in METRICS if name.startswith("pixel")},
        **({} if pixels is None else pixels.result()._asdict()),
    }


def evaluate_category(
    category: Category,
    detectors: Sequence[NamedDetector],
    *,
    corruption: Corruption | None = None,
    batch_size: int = 8,
    intervals: int = 0,
    on_image: Callable[[], object] | None = None,
    keep_going: bool = False,
) -> list[Result]:
    """Return what each detector reached.

    Image metrics rank by log-odds. Pixel metrics compare maps, interpolated to the size of the image, with
    the masks at that size. A category with domains is judged domain by domain; its own row is over all of
    their images. Detectors that need a whole batch get the images of a domain, or of the category, as one.

    Args:
        category: what to judge.
        detectors: fitted ones, or why there is none.
        corruption: name and severity of what is done to the images first; see `zeroflaw.lab.corruptions`.
        batch_size: images at a time.
        intervals: draws for the bootstrap interval of the image AUROC; 0 for none.
        on_image: called after each image.
        keep_going: note the error of a detector that fails, and go on with the others.

    Raises:
        ZeroflawError: a detector failed, unless ``keep_going``.
    """
    everybody = range(len(detectors))
    domains = sorted({record.domain for record in category.test}, key=str) or [None]
    rows: list[list[Row]] = [[] for _ in everybody]
    whole: _Pass | None = None
    for domain in domains:
        part = _Pass(category, detectors, corruption, batch_size, on_image, keep_going)
        part.run(record for record in category.test if record.domain == domain)
        if domain is not None:
            for number in everybody:
                rows[number].append(part.row(number, domain, intervals))
        if whole is None:  # the first pass goes on counting: pixel metrics take much memory
            whole = part
        else:
            whole.merge(part)
    assert whole is not None
    results = []
    for number in everybody:
        row, mine = whole.row(number, None, intervals), tuple(rows[number])
        if mine:
            row = row.model_copy(update={"mean_of_domains": mean_of(mine)})
        results.append(Result(row=row, domains=mine, scored=tuple(whole.accumulators[number].scored)))
    return results


def read_corruption(text: str) -> Corruption | None:
    """Read what rows say of a corruption: ``NAME:SEVERITY``, or None for ``none``.

    Raises:
        UsageError: see `zeroflaw.lab.corruptions.parse_corruption`.
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


def _mask(record: Record, size: Size, left_out: list[str]) -> Mask | None:
    """Return the mask of an image, all False for a good one, or None where there is no usable one."""
    if record.label == 0:
        return np.zeros(size, dtype=bool)
    reason = "it has no mask"
    if record.mask is not None:
        try:
            return read_mask(record.mask, size)
        except InputError as error:
            # Results are compared between machines, so that notes must not hold where the data lie.
            reason = str(error).replace(printable(record.mask), Path(record.mask).name)
    left_out.append(f"{writable(record.key)}: {reason}")
    return None
