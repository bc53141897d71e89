"""Rows of metrics put together: means over categories, spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .outcome import METRICS


def mean_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the unweighted mean of every metric over the rows that have it; None where none has."""
    means: dict[str, float | None] = {}
    for name in METRICS:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def summary_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise rows by detector, backbone and corruption: mean over categories, and its mean and standard
    deviation over the seeds.

    Rows of whole categories are wanted, not those of domains. The standard deviation is that of the category
    mean between seeds (divisor n - 1), None with a single seed. ``incomplete`` says that images or
    whole categories are missing from the means of image metrics, be it because these are undefined there,
    ``incomplete_pixels`` the same of pixel metrics, for which masks may be missing, too.
    """
    summary = []
    for key in dict.fromkeys(_key(row) for row in rows):
        mine = [row for row in rows if _key(row) == key]
        seeds = sorted({row["seed"] for row in mine})
        means = [mean_of([row for row in mine if row["seed"] == seed]) for seed in seeds]
        entry: dict[str, Any] = {
            "detector": key[0],
            "backbone": key[1],
            "corruption": key[2],
            "seeds": seeds,
            "categories": len({(row["dataset"], row["category"]) for row in mine}),
            "incomplete": _is_lacking(mine, "image_auroc"),
            "incomplete_pixels": _is_lacking(mine, "pixel_auroc"),
        }
        for metric in METRICS:
            values = [value for mean in means if (value := mean[metric]) is not None]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            entry[metric] = {"mean": float(np.mean(values)) if values else None, "std": spread}
        summary.append(entry)
    return summary


def _is_lacking(rows: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Whether a mean over rows leaves anything out; where no row has the metric, there is no mean."""
    there = [row[metric] is not None for row in rows]
    return any(is_partial(row, metric) for row in rows) or any(there) > all(there)


def is_partial(row: Mapping[str, Any], metric: str = "image_auroc") -> bool:
    """Whether a figure of a row was computed on a part of the images, or not at all."""
    left_out = row["unreadable"] or row["missing"] or row["error"]
    return bool(left_out or (metric.startswith("pixel") and row["without_mask"]))


def is_incomplete(line: Mapping[str, Any], metric: str) -> bool:
    """Whether a figure of a summary lacks images, masks or categories."""
    return bool(line["incomplete_pixels" if metric.startswith("pixel") else "incomplete"])


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["detector"], row["backbone"], row["corruption"]
