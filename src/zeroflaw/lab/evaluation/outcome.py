"""What is kept of a detector while images pass, and the row of metrics that comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeroflaw.lab.metrics import (
    Metric,
    PixelMetrics,
    bootstrap_interval,
    image_aupr,
    image_auroc,
    image_f1max,
)

if TYPE_CHECKING:
    from zeroflaw.detectors.base import BackboneDetector
    from zeroflaw.lab.datasets import Category

SCHEMA = 2
METRICS = (
    "image_auroc",
    "image_aupr",
    "image_aupr_trapezoid",
    "image_f1max",
    "pixel_auroc",
    "pixel_aupr",
    "pixel_f1max",
    "pixel_pro",
)


@dataclass(frozen=True)
class Entry:
    """A fitted detector in an evaluation, under the name and seed it is reported with."""

    name: str
    seed: int
    detector: BackboneDetector


@dataclass(frozen=True, slots=True)
class Scored:
    """One image that was judged: its file name, label and log-odds."""

    image: str
    label: int
    logit: float


@dataclass
class LeftOut:
    """What could not be used, and why."""

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    def add(self, other: LeftOut) -> None:
        """Take over what another pass left out."""
        self.images += other.images
        self.masks += other.masks


@dataclass
class Tally:
    """What is kept of one entry while images pass; ``failed`` says why it was given up.

    Of what failed nothing is kept: figures of the images before the failure would be those of a part.
    """

    scored: list[Scored] = field(default_factory=list)
    pixels: PixelMetrics | None = None
    failed: str | None = None

    def add(self, other: Tally) -> None:
        """Take over what another pass counted."""
        if failed := self.failed or other.failed:
            self.fail(failed)
            return
        self.scored += other.scored
        if self.pixels is not None and other.pixels is not None:
            self.pixels.merge(other.pixels)

    def fail(self, reason: str) -> None:
        """Give the entry up."""
        self.failed, self.scored, self.pixels = reason, [], None


@dataclass
class Outcome:
    """What one entry reached on one category.

    Attributes:
        row: metrics over the whole category, or ``error`` in their place; see `row_of`.
        domains: the same for each domain, where the category has domains.
        scored: the judged images, in the order of the category.
    """

    row: dict[str, Any]
    domains: list[dict[str, Any]]
    scored: list[Scored]


def row_of(
    category: Category,
    entry: Entry,
    tally: Tally,
    left_out: LeftOut,
    *,
    domain: str | None,
    corruption: str,
    intervals: int,
) -> dict[str, Any]:
    """Return the metrics of one entry as JSON values.

    Undefined metrics are null, with the reason in ``notes``; a failed entry has an ``error`` and no metrics.
    ``unreadable`` counts images that could not be read and ``without_mask`` flawed images that pixel metrics
    had to leave out; both are named in ``notes``. ``missing`` counts images that a table of the data set
    names, or that are published, and that are not there. ``image_auroc_interval`` is the 95 % bootstrap
    interval of as many draws as ``intervals`` says.
    """
    facts = {
        "dataset": category.dataset,
        "category": category.name,
        "domain": domain,
        "corruption": corruption,
        "detector": entry.name,
        "backbone": entry.detector.backbone,
        "object": getattr(entry.detector, "object", None),
        "seed": entry.seed,
        "images": len(tally.scored),
        "anomalous": sum(image.label for image in tally.scored),
        "unreadable": len(left_out.images),
        "without_mask": len(left_out.masks),
        "missing": category.missing,
        "error": tally.failed,
    }
    if tally.failed is not None:
        return {
            **facts,
            **dict.fromkeys((*METRICS, "image_auroc_interval", "f1max_threshold_logit")),
            "notes": [],
        }
    found = _metrics(category, tally)
    return {
        **facts,
        **{name: found[name].value for name in METRICS},
        "image_auroc_interval": _interval(tally, entry.seed, intervals),
        "f1max_threshold_logit": found["image_f1max"].threshold,
        "notes": _notes(category, domain, entry, found, left_out),
    }


def _metrics(category: Category, tally: Tally) -> dict[str, Metric]:
    labels = [image.label for image in tally.scored]
    logits = [image.logit for image in tally.scored]
    found = {
        "image_auroc": image_auroc(labels, logits),
        "image_aupr": image_aupr(labels, logits),
        "image_aupr_trapezoid": image_aupr(labels, logits, "trapezoid"),
        "image_f1max": image_f1max(labels, logits),
    }
    if tally.pixels is None:
        none = Metric(None, f"{category.name} has no masks")
        return found | {name: none for name in METRICS if name.startswith("pixel")}
    result = tally.pixels.result()
    return found | {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}


def _interval(tally: Tally, seed: int, draws: int) -> list[float] | None:
    if not draws:
        return None
    labels = [image.label for image in tally.scored]
    found = bootstrap_interval(
        labels, [image.logit for image in tally.scored], image_auroc, n=draws, seed=seed
    )
    return None if found.low is None or found.high is None else [found.low, found.high]


def _notes(
    category: Category, domain: str | None, entry: Entry, found: Mapping[str, Metric], left_out: LeftOut
) -> list[str]:
    place = category.name if domain is None else f"{category.name}/{domain}"
    reasons = dict.fromkeys(metric.reason for metric in found.values() if metric.reason)
    notes = []
    for reason in reasons:
        names = ", ".join(name for name, metric in found.items() if metric.reason == reason)
        notes.append(f"undefined are {names} of {place}: {reason}")
    notes += [f"left out, not readable: {error}" for error in left_out.images]
    notes += [f"left out of pixel metrics: {error}" for error in left_out.masks]
    notes += list(category.problems)
    if category.name in (entry.detector.seen_ or {}).get("auxiliary", {}).get("categories", {}):
        notes.append(
            f"{entry.name} learned from a category that is called {category.name} too: where it is the same "
            "product, this is no zero-shot result"
        )
    return notes
