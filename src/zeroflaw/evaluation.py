"""Detectors on labelled images: one pass over the images, shared by all detectors, and one row of metrics for
each.

Images are decoded and embedded once per backbone, whatever the number of detectors and seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeroflaw.clip.model import ImageFeatures
from zeroflaw.datasets import Category, Record, read_mask
from zeroflaw.detectors.base import BackboneDetector, Request
from zeroflaw.errors import ImageError, InputError
from zeroflaw.images import read_image
from zeroflaw.metrics import Metric, PixelMetrics, image_aupr, image_auroc, image_f1max

if TYPE_CHECKING:
    from zeroflaw.detectors import Prediction

SCHEMA = 1
METRICS = (
    "image_auroc",
    "image_aupr",
    "image_f1max",
    "pixel_auroc",
    "pixel_aupr",
    "pixel_f1max",
    "pixel_pro",
)
OnImage = Callable[[], object]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Entry:
    """A fitted detector in an evaluation, under the name and seed it is reported with."""

    name: str
    seed: int
    detector: BackboneDetector


@dataclass
class _Waiting:
    """Images whose detector judges only when the whole batch is there."""

    records: list[Record]
    sizes: list[tuple[int, int]]
    features: ImageFeatures


@dataclass
class _Tally:
    """What is kept of one entry while images pass."""

    labels: list[int] = field(default_factory=list)
    logits: list[float] = field(default_factory=list)
    pixels: PixelMetrics | None = None

    waiting: list[_Waiting] = field(default_factory=list)

    def add(self, label: int, mask: Mask | None, prediction: Prediction) -> None:
        self.labels.append(label)
        self.logits.append(prediction.logit)
        if self.pixels is not None and mask is not None:
            self.pixels.update(prediction.resized_map(), mask)


@dataclass
class _LeftOut:
    """What could not be used, and why."""

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def evaluate_category(
    category: Category, entries: Sequence[Entry], *, batch_size: int = 8, on_image: OnImage | None = None
) -> list[dict[str, Any]]:
    """Return one row of metrics per entry; see `METRICS` for what is in it.

    Image metrics rank by log-odds. Pixel metrics compare maps, interpolated to the size of the image, with
    the masks at that size. ``unreadable`` counts images that could not be read and ``without_mask`` flawed
    images that pixel metrics had to leave out; both are named in ``notes``.
    """
    tallies = [_Tally(pixels=PixelMetrics() if category.has_masks else None) for _ in entries]
    left_out = _LeftOut()
    readable = _read(category.test, left_out, on_image)
    while batch := list(islice(readable, batch_size)):
        _score(batch, entries, tallies, left_out, maps=category.has_masks)
    for entry, tally in zip(entries, tallies, strict=True):
        _judge_waiting(entry, tally)
    return [_row(category, entry, tally, left_out) for entry, tally in zip(entries, tallies, strict=True)]


def _read(
    records: Iterable[Record], left_out: _LeftOut, on_image: OnImage | None
) -> Iterator[tuple[Record, Any]]:
    for record in records:
        try:
            yield record, read_image(record.image)
        except ImageError as error:
            left_out.images.append(str(error))
        if on_image is not None:
            on_image()


def _mask(record: Record, size: tuple[int, int], left_out: _LeftOut) -> Mask | None:
    """Return the mask of an image, all False for a good one, or None where there is no usable one."""
    if record.label == 0:
        return np.zeros(size, dtype=bool)
    if record.mask is None:
        left_out.masks.append(f"{record.image} has no mask")
        return None
    try:
        return read_mask(record.mask, size)
    except InputError as error:
        left_out.masks.append(str(error))
        return None


def _score(
    batch: list[tuple[Record, Any]],
    entries: Sequence[Entry],
    tallies: Sequence[_Tally],
    left_out: _LeftOut,
    *,
    maps: bool,
) -> None:
    images = [image for _, image in batch]
    sizes = [(int(image.shape[0]), int(image.shape[1])) for image in images]
    records = [record for record, _ in batch]
    masks: list[Mask | None] = [None] * len(batch)
    if maps:
        masks = [_mask(record, size, left_out) for record, size in zip(records, sizes, strict=True)]
    for members in _by_backbone(entries).values():
        request = Request()
        for number in members:
            request = request | entries[number].detector.request(maps)
        features = entries[members[0]].detector.embed(images, request)
        for number in members:
            detector = entries[number].detector
            if detector.needs.whole_batch:
                tallies[number].waiting.append(_Waiting(records, sizes, detector.keep(features)))
                continue
            found = detector.predict_features(features, request, sizes, maps=maps)
            for record, mask, prediction in zip(records, masks, found, strict=True):
                tallies[number].add(record.label, mask, prediction)


def _judge_waiting(entry: Entry, tally: _Tally) -> None:
    """Judge a whole category at once; masks are read a second time rather than kept."""
    if not tally.waiting:
        return
    features = ImageFeatures.join([part.features for part in tally.waiting])
    records = [record for part in tally.waiting for record in part.records]
    sizes = [size for part in tally.waiting for size in part.sizes]
    tally.waiting = []
    maps = tally.pixels is not None
    found = entry.detector.predict_features(features, entry.detector.request(maps), sizes, maps=maps)
    for record, size, prediction in zip(records, sizes, found, strict=True):
        # What cannot be read was named in the first pass.
        tally.add(record.label, _mask(record, size, _LeftOut()) if maps else None, prediction)


def _by_backbone(entries: Sequence[Entry]) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, entry in enumerate(entries):
        groups.setdefault(entry.detector.share_key, []).append(number)
    return groups


def _row(category: Category, entry: Entry, tally: _Tally, left_out: _LeftOut) -> dict[str, Any]:
    found = _metrics(tally, category)
    notes = [f"{name}: {metric.reason}" for name, metric in found.items() if metric.reason]
    notes += [f"left out, not readable: {error}" for error in left_out.images]
    notes += [f"left out of pixel metrics: {error}" for error in left_out.masks]
    notes += list(category.problems)
    if category.name in (entry.detector.seen_ or {}).get("auxiliary", {}).get("categories", {}):
        notes.append(
            f"{entry.name} learned from a category that is called {category.name} too: where it is the same "
            "product, this is no zero-shot result"
        )
    return {
        "dataset": category.dataset,
        "category": category.name,
        "detector": entry.name,
        "backbone": entry.detector.backbone,
        "object": getattr(entry.detector, "object", None),
        "seed": entry.seed,
        "images": len(tally.labels),
        "anomalous": sum(tally.labels),
        "unreadable": len(left_out.images),
        "without_mask": len(left_out.masks),
        **{name: metric.value for name, metric in found.items()},
        "f1max_threshold_logit": found["image_f1max"].threshold,
        "notes": notes,
    }


def _metrics(tally: _Tally, category: Category) -> dict[str, Metric]:
    found = {
        "image_auroc": image_auroc(tally.labels, tally.logits),
        "image_aupr": image_aupr(tally.labels, tally.logits),
        "image_f1max": image_f1max(tally.labels, tally.logits),
    }
    if tally.pixels is None:
        none = Metric(None, f"{category.name} has no masks")
        return found | {name: none for name in METRICS if name.startswith("pixel")}
    result = tally.pixels.result()
    return found | {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}


def mean_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the unweighted mean of every metric over the rows that have it; None where none has."""
    means: dict[str, float | None] = {}
    for name in METRICS:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def summary_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise rows by detector: mean over categories, and over the seeds its mean and standard deviation.

    The standard deviation is that of the category mean between seeds (divisor n - 1), None with a single
    seed.
    """
    summary = []
    for name in dict.fromkeys(row["detector"] for row in rows):
        mine = [row for row in rows if row["detector"] == name]
        seeds = sorted({row["seed"] for row in mine})
        means = [mean_of([row for row in mine if row["seed"] == seed]) for seed in seeds]
        entry: dict[str, Any] = {
            "detector": name,
            "seeds": seeds,
            "categories": len({row["category"] for row in mine}),
            "incomplete": any(row["unreadable"] or row["without_mask"] for row in mine),
        }
        for metric in METRICS:
            values = [value for mean in means if (value := mean[metric]) is not None]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            entry[metric] = {"mean": float(np.mean(values)) if values else None, "std": spread}
        summary.append(entry)
    return summary
