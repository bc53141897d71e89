"""Rows of metrics, what is kept of a result, and what several rows say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BeforeValidator

from zeroflaw.errors import printable
from zeroflaw.lab.metrics import image_auroc
from zeroflaw.parameters import Record

SCHEMA = 4
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
VERDICTS = ("false_alarms", "recall", "map_false_alarms", "iou", "hot_area_ratio")
FIGURES = (*METRICS, *VERDICTS)
_OF_MAPS = ("pixel", "map", "iou", "hot")  # how figures begin for which masks are needed


def writable(text: str) -> str:
    """Return text with escapes for what is not UTF-8 or steers a terminal: it can be written everywhere."""
    return printable(text, most=1 << 20)


Text = Annotated[str, BeforeValidator(lambda value: writable(value) if isinstance(value, str) else value)]
Scored = tuple[Text, int, float]  # an image that was judged: its place in the data set, label, log-odds


class Row(Record):
    """The metrics of one detector on one category, or on one domain of it, under one corruption.

    Attributes:
        domain: None where the row is over the whole category.
        corruption: ``NAME:SEVERITY``, or ``none``.
        backbone: None for a detector that has none.
        object: the name of the product that the detector was told.
        images: that were judged; 0 where ``error`` says why the detector failed.
        anomalous: how many of them are flawed.
        unreadable: images that could not be read.
        without_mask: flawed images that pixel metrics had to leave out.
        missing: images that a table of the data set names, or that are published, and that are not there.
        error: why there are no figures, or None.
        image_auroc_interval: 95 % bootstrap interval.
        f1max_threshold_logit: where F1 of images is highest, as log-odds.
        false_alarms: share of the good images that are called anomalous; None where there are no verdicts.
        recall: share of the flawed images that are called anomalous.
        map_false_alarms: share of the good images in which any place passes the threshold of the map.
        iou: of the places that pass it and the mask, intersection over union, the mean over flawed images.
        hot_area_ratio: median share of a flawed image that passes it, by the median share that is flawed.
        threshold_logit: of the verdicts, as log-odds; None where images had different ones.
        threshold_rule: how it was found (`zeroflaw.runtime.calibration`); "own" where that is not known.
        mean_of_domains: the unweighted mean of each metric over the domains, where there are some; the
            metrics of the row are over all images of all domains.
        notes: what is undefined and why, and what was left out.
    """

    dataset: Text
    category: Text
    domain: Text | None
    corruption: str
    detector: Text
    backbone: Text | None
    object: Text | None
    seed: int
    images: int
    anomalous: int
    unreadable: int
    without_mask: int
    missing: int
    error: Text | None
    image_auroc: float | None = None
    image_aupr: float | None = None
    image_aupr_trapezoid: float | None = None
    image_f1max: float | None = None
    pixel_auroc: float | None = None
    pixel_aupr: float | None = None
    pixel_f1max: float | None = None
    pixel_pro: float | None = None
    image_auroc_interval: tuple[float, float] | None = None
    f1max_threshold_logit: float | None = None
    false_alarms: float | None = None
    recall: float | None = None
    map_false_alarms: float | None = None
    iou: float | None = None
    hot_area_ratio: float | None = None
    threshold_logit: float | None = None
    threshold_rule: Text | None = None
    mean_of_domains: dict[str, float | None] | None = None
    notes: tuple[Text, ...] = ()

    def metric(self, name: str) -> float | None:
        """Return one of `FIGURES`, None where it is undefined."""
        value: float | None = getattr(self, name)
        return value

    def is_partial(self, metric: str = "image_auroc") -> bool:
        """Whether a metric was computed on a part of the images, or not at all."""
        left_out = self.unreadable or self.missing or self.error
        return bool(left_out or (metric.startswith(_OF_MAPS) and self.without_mask))

    @property
    def is_lost(self) -> bool:
        """Whether none of the images could be read."""
        return not self.images and self.error is None

    @property
    def place(self) -> str:
        """The category, and the domain if the row is of one; a category of domains is pooled."""
        if self.domain is not None:
            return f"{self.category}/{self.domain}"
        return self.category if self.mean_of_domains is None else f"{self.category} (pooled)"


class Result(Record):
    """What one detector reached on one category under one corruption.

    Attributes:
        row: over the whole category.
        domains: a row for each domain.
        scored: the judged images in the order of the category.
    """

    row: Row
    domains: tuple[Row, ...]
    scored: tuple[Scored, ...]


class Mean(NamedTuple):
    """A mean over categories and then seeds, and its standard deviation between the seeds."""

    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Summary:
    """The results of one detector, backbone and corruption together.

    Attributes:
        categories: how many.
        incomplete: images or whole categories are missing from the means of image metrics, be it because
            these are undefined there.
        incomplete_pixels: the same of pixel metrics, for which masks may be missing, too.
        means: the mean over categories of each figure, mean over the seeds and their standard deviation
            (divisor n - 1; None with one seed).
        image_auroc_pooled: over all images of all categories as one set, mean over the seeds.
        image_auroc_mean_of_domains: mean over all domains of all categories and seeds.
    """

    detector: str
    backbone: str | None
    corruption: str
    seeds: tuple[int, ...]
    categories: int
    incomplete: bool
    incomplete_pixels: bool
    means: dict[str, Mean]
    image_auroc_pooled: float | None
    image_auroc_mean_of_domains: float | None

    def is_incomplete(self, metric: str) -> bool:
        """Whether a mean lacks images, masks or categories."""
        return self.incomplete_pixels if metric.startswith(_OF_MAPS) else self.incomplete

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, a key for each metric."""
        return {
            **{key: value for key, value in asdict(self).items() if key != "means"},
            **{name: mean._asdict() for name, mean in self.means.items()},
        }


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there; None where none is."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def mean_of(rows: Iterable[Row]) -> dict[str, float | None]:
    """Return the unweighted mean of every metric over the rows that have it; None where none has."""
    rows = list(rows)
    return {name: mean(row.metric(name) for row in rows) for name in FIGURES}


def summary_of(results: Sequence[Result], *, incomplete: bool = False) -> list[Summary]:
    """Summarise results by detector, backbone and corruption.

    Args:
        results: in any order.
        incomplete: categories that were wanted are not among them.
    """
    groups: dict[tuple[str, str | None, str], list[Result]] = {}
    for result in results:
        key = result.row.detector, result.row.backbone, result.row.corruption
        groups.setdefault(key, []).append(result)
    return [_summary(key, mine, incomplete) for key, mine in groups.items()]


def _summary(key: tuple[str, str | None, str], results: list[Result], incomplete: bool) -> Summary:
    rows = [result.row for result in results]
    seeds = tuple(sorted({row.seed for row in rows}))
    by_seed = [mean_of(row for row in rows if row.seed == seed) for seed in seeds]
    pooled = []
    for seed in seeds:
        scored = [image for result in results if result.row.seed == seed for image in result.scored]
        pooled.append(image_auroc([label for _, label, _ in scored], [logit for *_, logit in scored]).value)
    return Summary(
        *key,
        seeds=seeds,
        categories=len({(row.dataset, row.category) for row in rows}),
        incomplete=incomplete or _is_lacking(rows, "image_auroc"),
        incomplete_pixels=incomplete or _is_lacking(rows, "pixel_auroc"),
        means={name: _spread([means[name] for means in by_seed]) for name in FIGURES},
        image_auroc_pooled=mean(pooled),
        image_auroc_mean_of_domains=mean(row.image_auroc for result in results for row in result.domains),
    )


def _spread(values: Sequence[float | None]) -> Mean:
    there = [value for value in values if value is not None]
    return Mean(mean(there), float(np.std(there, ddof=1)) if len(there) > 1 else None)


def _is_lacking(rows: Sequence[Row], metric: str) -> bool:
    """Whether a mean over rows leaves anything out; where no row has the metric, there is no mean."""
    there = [row.metric(metric) is not None for row in rows]
    return any(row.is_partial(metric) for row in rows) or any(there) > all(there)
