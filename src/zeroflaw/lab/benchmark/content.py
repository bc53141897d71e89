"""What a benchmark found, as one JSON value: rows in the order of the grid, summaries, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from zeroflaw._version import __version__
from zeroflaw.lab.benchmark.plan import Plan, cell_key
from zeroflaw.lab.benchmark.store import Result, Store
from zeroflaw.lab.evaluation import SCHEMA, summary_of
from zeroflaw.lab.metrics import image_auroc

Curves = dict[tuple[str, str, str], list[Result]]


def results_of(plan: Plan, store: Store) -> Iterator[Result]:
    """Yield the results of a plan that are there, in its order."""
    for unit in plan.units:
        there = store.load(unit)
        for cell in unit.cells:
            found = there.get(cell_key(unit, cell, plan.grid))
            if found is not None:
                # The label is no part of what decides a result, so it may have changed since.
                label = {"detector": cell.spec.label}
                row, domains = found["row"] | label, [row | label for row in found["domains"]]
                yield {**found, "row": row, "domains": domains}


def content_of(plan: Plan, store: Store) -> dict[str, Any]:
    """Return all that a benchmark reports.

    Nothing in it depends on when or in how many goes it ran.
    """
    results = list(results_of(plan, store))
    whole = [result["row"] for result in results]
    return {
        "schema": SCHEMA,
        "zeroflaw": __version__,
        "title": plan.grid.title,
        "grid": asdict(plan.grid),
        "rows": [row for result in results for row in (*result["domains"], result["row"])],
        "summary": [_with_lacking(_with_pooled(line, results), plan) for line in summary_of(whole)],
        "missing": [asdict(missing) for missing in plan.missing],
        "open": plan.cells - len(results),
    }


def _with_pooled(line: dict[str, Any], results: list[Result]) -> dict[str, Any]:
    """Add the image AUROC over all images of all categories as one set, averaged over the seeds."""
    mine = [result for result in results if key_of(result["row"]) == key_of(line)]
    values = []
    for seed in line["seeds"]:
        scored = [image for r in mine if r["row"]["seed"] == seed for image in r["scored"]]
        value = image_auroc([label for _, label, _ in scored], [logit for *_, logit in scored]).value
        values += [] if value is None else [value]
    domains = [row for result in mine for row in result["domains"] if row["image_auroc"] is not None]
    mean_of_domains = float(np.mean([row["image_auroc"] for row in domains])) if domains else None
    pooled = float(np.mean(values)) if values else None
    return {**line, "image_auroc_pooled": pooled, "image_auroc_mean_of_domains": mean_of_domains}


def _with_lacking(line: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """A mean over what is there of the data sets that were asked for is one of a part."""
    lacking = {"incomplete": True, "incomplete_pixels": True} if plan.missing else {}
    return line | lacking


def key_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what rows have in common that are averaged: detector, backbone, corruption."""
    return row["detector"], row["backbone"], row["corruption"]
