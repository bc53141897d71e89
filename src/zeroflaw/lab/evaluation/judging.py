"""One pass over the images of a category, shared by all detectors.

Images are decoded once whatever the number of detectors and seeds, and embedded once per backbone. Detectors
that do not share features are judged through `predict`.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zeroflaw.corruptions import corrupt, moved_mask, parse_corruption
from zeroflaw.detectors import Detector
from zeroflaw.errors import ImageError, InputError, ZeroflawError, printable
from zeroflaw.images import read_picture
from zeroflaw.lab.metrics import (
    Metric,
    PixelMetrics,
    bootstrap_interval,
    image_aupr,
    image_auroc,
    image_f1max,
)
from zeroflaw.masks import open_mask
from zeroflaw.records import Category, Record
from zeroflaw.runtime.features import ImageFeatures
from zeroflaw.runtime.stream import batches

from .counting import Accumulator, Part, Seen, white_of
from .counting import NamedDetector as NamedDetector
from .rows import METRICS, Result, Row, mean_of, writable
from .verdicts import verdict_figures

Corruption = tuple[str, int]  # name and severity
CLEAN = "none"  # what rows say in the place of a corruption
Pixels = npt.NDArray[np.uint8]


class Spread(Protocol):
    """Has images looked at elsewhere, in several processes."""

    def takes(self, detector: Detector) -> bool:
        """Whether a detector can be sent there."""
        ...

    def parts(self, records: Sequence[Record], one: Pass) -> Iterator[Part]:
        """Yield what a pass would find of its detectors that are taken, in the order of the images."""
        ...


@dataclass
class Pass:
    """One pass over images of a category.

    Attributes:
        maps: whether maps are compared with masks, where the category does not say it.
        white: with which level images are read, where detectors do not say it.
        spread: has images of some detectors looked at elsewhere.
    """

    category: Category
    detectors: Sequence[NamedDetector]
    corruption: Corruption | None
    batch_size: int
    on_image: Callable[[], object] | None = None
    keep_going: bool = False
    maps: bool | None = None
    white: float | None = None
    spread: Spread | None = None

    def __post_init__(self) -> None:
        self.maps = self.category.has_masks if self.maps is None else self.maps
        self.images_left_out: list[str] = []
        self.masks_left_out: list[str] = []
        self.doubts: dict[str, dict[str, None]] = {}  # sentences about images and masks, and of which
        self.accumulators = [
            Accumulator(named, PixelMetrics() if self.maps and not named.error else None, named.error)
            for named in self.detectors
        ]
        self._seen: list[Seen] = []  # for detectors that wait; masks are read a second time rather than kept
        groups: dict[Hashable, list[Accumulator]] = {}
        for number, mine in enumerate(self.accumulators):
            with self._catch(mine):
                groups.setdefault(getattr(mine.named.detector, "feature_key", number), []).append(mine)
        if self.white is None:
            self.white = white_of([mine.named.detector for mine in self.accumulators])
        self._unused = frozenset.intersection(*(named.left_out for named in self.detectors))
        self.away = [mine for mine in self.accumulators if self._goes(mine)]
        here = ([mine for mine in group if not self._goes(mine)] for group in groups.values())
        self._groups = [group for group in here if group]

    def _goes(self, mine: Accumulator) -> bool:
        detector = mine.named.detector
        return self.spread is not None and detector is not None and self.spread.takes(detector)

    def run(self, records: Iterable[Record]) -> None:
        """Judge all records."""
        if self.away and self.spread is not None:
            records = list(records)
            for part in self.spread.parts(records, self):
                self._take(part)
        if any(map(_open, self._groups)):
            for batch in batches(self._images(records), self.batch_size):
                self._judge_batch(batch)
        for mine in _open(self.accumulators):
            if mine.waits and self._seen:
                with self._catch(mine):
                    self._judge_all(mine)

    @contextmanager
    def _catch(self, mine: Accumulator) -> Iterator[None]:
        """Note why a detector fails, where others go on without it."""
        try:
            yield
        except Exception as error:
            if not self.keep_going:
                raise
            mine.fail(reason_of(error))

    def _images(self, records: Iterable[Record]) -> Iterator[tuple[Record, Pixels]]:
        for record in records:
            try:
                if record.image not in self._unused:
                    yield record, self._pixels(record)
            except ImageError as error:
                self.images_left_out.append(f"{writable(record.key)}: {error.reason}")
            if self.on_image is not None:
                self.on_image()

    def _pixels(self, record: Record) -> Pixels:
        picture = read_picture(record.image, white=self.white)
        self._doubt(record, "image", picture.notes)
        pixels = picture.pixels
        return pixels if self.corruption is None else corrupt(pixels, *self.corruption, key=record.key)

    def _doubt(self, record: Record, what: str, notes: Iterable[str]) -> None:
        for note in notes:
            self.doubts.setdefault(f"{what}: {note}", {})[writable(record.key)] = None

    def _seen_with(self, record: Record, size: tuple[int, int], left_out: list[str]) -> Seen:
        """Return an image with its mask: all False for a good one, None where there is no usable one."""
        if not self.maps or record.label == 0:
            return Seen(record, size, np.zeros(size, dtype=bool) if self.maps else None)
        reason = "it has no mask"
        if record.mask is not None:
            try:
                mask = open_mask(record.mask, size, image=record.image, ignore=self.category.ignore)
                self._doubt(record, "mask", mask.notes)
                return Seen(record, size, self._moved(mask.marked), self._moved(mask.ignored))
            except InputError as error:
                # Results are compared between machines, so that notes must not hold where the data lie.
                reason = str(error)
                for path in (*record.masks, *([record.mask] if isinstance(record.mask, Path) else [])):
                    reason = reason.replace(printable(path), path.name)
        left_out.append(f"{writable(record.key)}: {reason}")
        return Seen(record, size, None)

    def _moved(self, mask: Any) -> Any:
        """Return a mask as the corruption of its image moves it."""
        return mask if mask is None or self.corruption is None else moved_mask(mask, *self.corruption)

    def _judge_batch(self, batch: list[tuple[Record, Pixels]]) -> None:
        images, seen = [image for _, image in batch], []
        for record, image in batch:
            size = (int(image.shape[0]), int(image.shape[1]))
            seen.append(self._seen_with(record, size, self.masks_left_out))
        if any(mine.waits for mine in self.accumulators):
            self._seen += [one._replace(mask=None, ignored=None) for one in seen]
        for group in self._groups:
            members = _open(group)
            try:
                self._judge_group(members, images, seen)
            except Exception:  # because of one of them: each looks for itself
                if not self.keep_going:
                    raise
                for mine in members:
                    with self._catch(mine):
                        self._judge_group([mine], images, seen)

    def _judge_group(self, members: list[Accumulator], images: list[Pixels], seen: list[Seen]) -> None:
        """Embed images once, and let every detector of a group judge the features, or keep them for later.

        What one of them cannot judge is its own failure; what is raised here concerns the whole group, and
        nothing was counted before it.
        """
        detectors: list[Any] = [mine.named.detector for mine in members]
        # Who judges tiles reads them himself; the key keeps him apart from others.
        shares = bool(detectors) and hasattr(detectors[0], "feature_key") and not detectors[0].tile
        if shares:
            requests = [detector.request(self.maps) for detector in detectors]
            features = detectors[0].embed(images, functools.reduce(operator.or_, requests))
        for mine, detector in zip(members, detectors, strict=True):
            rows = mine.measured(seen)
            if not rows:
                continue
            with self._catch(mine):
                if mine.waits:
                    asked = features.only(detector.request(self.maps)) if shares else None
                    mine.waiting += [asked.rows(rows)] if asked is not None else []
                    continue
                if shares:
                    whole = detector.judge(features, [one.size for one in seen], maps=self.maps)
                    found = [whole[row] for row in rows]
                else:
                    pictures = [images[row] for row in rows]
                    found = detector.predict(pictures, maps=self.maps, batch_size=len(rows))
                mine.count([seen[row] for row in rows], found)

    def _judge_all(self, mine: Accumulator) -> None:
        """Judge all images at once; without features to keep they are read a second time, one by one."""
        detector: Any = mine.named.detector
        kept = [self._seen[row] for row in mine.measured(self._seen)]
        seen = [self._seen_with(one.record, one.size, []) for one in kept]
        if mine.waiting:
            features, mine.waiting = ImageFeatures.join(mine.waiting), []
            found = detector.judge(features, [one.size for one in seen], maps=self.maps)
        else:
            images = (self._pixels(one.record) for one in seen)
            found = detector.predict(images, maps=self.maps, batch_size=self.batch_size)
        mine.count(seen, found)

    def part(self, images: int) -> Part:
        """Return what was found of so many images."""
        bare = [replace(mine, named=replace(mine.named, detector=None)) for mine in self.accumulators]
        return Part(bare, self.images_left_out, self.masks_left_out, self.doubts, images)

    def _take(self, part: Part) -> None:
        """Take over what was found elsewhere; of the images only where none is looked at here, too."""
        for mine, theirs in zip(self.away, part.accumulators, strict=True):
            mine.merge(theirs)
        if any(map(_open, self._groups)):
            return
        self._take_notes(part)
        if self.on_image is not None:
            for _ in range(part.images):
                self.on_image()

    def merge(self, other: Pass) -> None:
        """Take over what another pass over the same category found."""
        for mine, theirs in zip(self.accumulators, other.accumulators, strict=True):
            mine.merge(theirs)
        self._take_notes(other)

    def _take_notes(self, other: Pass | Part) -> None:
        self.images_left_out += other.images_left_out
        self.masks_left_out += other.masks_left_out
        for note, keys in other.doubts.items():
            self.doubts.setdefault(note, {}).update(keys)

    def row(self, mine: Accumulator, domain: str | None, draws: int) -> Row:
        """Return the metrics of a detector; with ``draws`` of images, an interval, too."""
        named, labels = mine.named, [one.label for one in mine.judged]
        facts: dict[str, Any] = {
            "dataset": self.category.dataset,
            "category": self.category.name,
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
            "missing": self.category.missing,
            "error": mine.failed,
        }
        if mine.failed is None:
            logits = [one.logit for one in mine.judged]
            found = _metrics(labels, logits, mine.pixels)
            facts |= {name: metric.value for name, metric in found.items()}
            facts["f1max_threshold_logit"] = found["image_f1max"].threshold
            facts |= verdict_figures(mine.judged)
            if any(one.verdict is not None for one in mine.judged):
                facts["threshold_rule"] = getattr(named.detector, "threshold_rule", None) or "own"
            facts["notes"] = tuple(self._notes(named, found))
            if draws and facts["image_auroc"] is not None:
                interval = bootstrap_interval(labels, logits, image_auroc, n=draws, seed=named.seed)
                facts["image_auroc_interval"] = interval
        return Row(**facts)

    def _notes(self, named: NamedDetector, found: dict[str, Metric]) -> Iterator[str]:
        for reason in dict.fromkeys(metric.reason for metric in found.values() if metric.reason):
            names = ", ".join(name for name, metric in found.items() if metric.reason == reason)
            yield f"undefined are {names}: {reason}"
        yield from (f"left out, not readable: {said}" for said in self.images_left_out)
        yield from (f"left out of pixel metrics: {said}" for said in self.masks_left_out)
        for doubt, keys in self.doubts.items():
            yield f"{doubt} ({len(keys)}: {', '.join(list(keys)[:3])}{', ...' * (len(keys) > 3)})"
        if named.left_out:
            yield (
                f"set aside are {len(named.left_out)} good test images, for detectors that need good photos; "
                "none of the detectors is measured on them"
            )
        yield from self.category.problems
        learned_from = getattr(getattr(named.detector, "seen_", None), "auxiliary", None)
        if learned_from is not None and self.category.name in learned_from.categories:
            yield (
                f"{named.name} learned from a category that is called {self.category.name} too: where it is "
                "the same product, this is no zero-shot result"
            )


def _open(accumulators: Iterable[Accumulator]) -> list[Accumulator]:
    return [mine for mine in accumulators if mine.failed is None]


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
    spread: Spread | None = None,
) -> list[Result]:
    """Return what each detector reached.

    Image metrics rank by log-odds. Pixel metrics compare maps, interpolated to the size of the image, with
    the masks at that size. A category with domains is judged domain by domain; its own row is over all of
    their images. Detectors that need a whole batch get the images of a domain, or of the category, as one.

    Args:
        category: what to judge.
        detectors: fitted ones, or why there is none.
        corruption: name and severity of what is done to the images first; see `zeroflaw.corruptions`.
        batch_size: images at a time.
        intervals: draws for the bootstrap interval of the image AUROC; 0 for none.
        on_image: called after each image.
        keep_going: note the error of a detector that fails, and go on with the others.
        spread: has images of the detectors that it takes looked at in other processes.

    Raises:
        ZeroflawError: a detector failed, unless ``keep_going``.
    """
    whole = Pass(category, detectors, corruption, batch_size, on_image, keep_going, spread=spread)
    domains = sorted({record.domain for record in category.test}, key=str) or [None]
    parts: list[list[Row]] = [[] for _ in detectors]
    for number, domain in enumerate(domains):
        # The first pass goes on counting: pixel metrics take much memory.
        one = replace(whole) if number else whole
        one.run(record for record in category.test if record.domain == domain)
        if domain is not None:
            for rows, mine in zip(parts, one.accumulators, strict=True):
                rows.append(one.row(mine, domain, intervals))
        if number:
            whole.merge(one)
    results = []
    for rows, mine in zip(parts, whole.accumulators, strict=True):
        row = whole.row(mine, None, intervals)
        row = row.model_copy(update={"mean_of_domains": mean_of(rows)}) if rows else row
        scored = tuple(image[:3] for image in mine.judged)
        results.append(Result(row=row, domains=tuple(rows), scored=scored))
    return results


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
