"""A published table run again: its grid, and published numbers beside measured ones.

Every row is there. Where data, weights or anything else is missing, the row says what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zeroflaw.detectors import PRESETS, make
from zeroflaw.detectors.inputs import require
from zeroflaw.errors import UsageError, closest
from zeroflaw.lab.benchmark.grid import DataSpec, DetectorSpec, Grid
from zeroflaw.lab.benchmark.plan import data_sets_in
from zeroflaw.lab.benchmark.tables import table
from zeroflaw.lab.evaluation import is_partial
from zeroflaw.lab.published import PublishedNumber, dataset_titles, method_titles, numbers, published

if TYPE_CHECKING:
    from zeroflaw.lab.datasets import Dataset

SEVERITY = 3  # where a table does not print one: that of Cao et al., whose protocol the poster follows
MEAN = "mean"  # over the four corruptions
_LAYOUTS = {"visa": "visa", "aebad": "aebad", "btad": "btad", "ksdd": "kolektorsdd"}


@dataclass(frozen=True)
class Setting:
    """What a user has for a table.

    Attributes:
        roots: data sets, or folders of data sets.
        backbone: for detectors that look through a CLIP.
        autoencoder: weights for detectors that want a masked autoencoder, or None.
        auxiliary: data set for detectors that learn from other products, or None.
        known_object: tell detectors the names of products.
        seeds: of everything random.
    """

    roots: Sequence[Path]
    backbone: str = "mini"
    autoencoder: str | None = None
    auxiliary: Path | None = None
    known_object: bool = False
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Comparison:
    """One published number beside what was measured.

    Attributes:
        number: as published.
        measured: in percent, or None.
        spread: standard deviation between seeds in percent, or None.
        coverage: on what it was measured, in words.
        reason: why there is no measured number, in words.
    """

    number: PublishedNumber
    measured: float | None = None
    spread: float | None = None
    coverage: str | None = None
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """Return measured minus published, in percent points."""
        return None if self.measured is None else self.measured - self.number.value


def table_names() -> tuple[str, ...]:
    """Return the tables that have at least one number of a detector that is here."""
    return tuple(dict.fromkeys(n.table for n in numbers() if n.detector in PRESETS))


def numbers_of(name: str) -> tuple[PublishedNumber, ...]:
    """Return the numbers of a table.

    Raises:
        UsageError: there is no such table.
    """
    if name not in table_names() and published(table=name):
        methods = dict.fromkeys(method_titles()[n.method] for n in published(table=name))
        raise UsageError(
            f"the table '{name}' is of methods that are not here ({', '.join(methods)}), so that nothing of "
            f"it can be measured; choose another ({', '.join(table_names())})"
        )
    if name not in table_names():
        raise UsageError(
            f"a published table was wanted ({', '.join(table_names())}), got '{name}'"
            f"{closest(name, table_names())}"
        )
    return published(table=name)


class Reproduction:
    """A published table, the grid that measures what can be measured, and why the rest cannot."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting = name, setting
        self.numbers = numbers_of(name)
        self._found = _data_sets(self.numbers, setting.roots)
        self._specs = {_run_of(n): self._spec(n) for n in self.numbers}

    def grid(self) -> Grid:
        """Return the grid.

        Raises:
            UsageError: nothing of the table can be measured; the message says why.
        """
        specs = tuple(spec for spec in self._specs.values() if isinstance(spec, DetectorSpec))
        roots = [DataSpec(root=str(path)) for path, _ in self._found.values()]
        if not specs or not roots:
            reasons = dict.fromkeys(self._why_not(number) or "" for number in self.numbers)
            raise UsageError(
                f"nothing of the table '{self.name}' can be measured: {'; '.join(r for r in reasons if r)}"
            )
        corruptions = dict.fromkeys(c for n in self.numbers for c in _corruptions(n, self.numbers))
        return Grid(
            title=f"{self.name}: published and measured",
            datasets=tuple(roots),
            detectors=specs,
            backbones=(self.setting.backbone,),
            corruptions=tuple(corruptions),
        )

    def compare(self, content: Mapping[str, Any]) -> list[Comparison]:
        """Put what a run of the grid found beside every number of the table."""
        return [self._compare(number, content) for number in self.numbers]

    def _spec(self, number: PublishedNumber) -> DetectorSpec | str:
        """Return how the detector of a number is run, or why it cannot be."""
        detector, shots = number.detector, number.shots
        if detector not in PRESETS:
            return f"zeroflaw has no detector '{detector}'"
        kind, setting = make(detector), self.setting
        parameters: dict[str, Any] = {}
        if kind.needs.decoder_weights:
            if setting.autoencoder is None:
                return "needs weights of a masked autoencoder with decoder: --autoencoder local-dir:FOLDER"
            parameters["backbone"] = setting.autoencoder
        auxiliary = str(setting.auxiliary) if kind.needs.auxiliary_set and setting.auxiliary else None
        try:
            require(detector, kind.needs, reference=shots > 0, auxiliary=auxiliary is not None)
        except UsageError as error:
            return str(error)
        return DetectorSpec(
            name=detector,
            label=_run_of(number),
            parameters=parameters,
            known_object=setting.known_object and "object" in kind.get_params(),
            seeds=setting.seeds,
            shots=shots,
            auxiliary=auxiliary,
        )

    def _why_not(self, number: PublishedNumber) -> str | None:
        reasons = []
        if number.dataset not in self._found:
            title = dataset_titles()[number.dataset]
            reasons.append(f"no data: {title} is in none of the folders given by --root")
        spec = self._specs[_run_of(number)]
        if isinstance(spec, str):
            reasons.append(spec)
        return "; ".join(reasons) or None

    def _compare(self, number: PublishedNumber, content: Mapping[str, Any]) -> Comparison:
        if reason := self._why_not(number):
            return Comparison(number, reason=reason)
        rows = [row for row in content["rows"] if self._is_about(row, number)]
        failed = dict.fromkeys(row["error"] for row in rows if row["error"])
        values = _by_seed(rows, number.metric)
        if not values:
            lacking = f"the data set has no category {number.category}" if number.category else "no masks"
            return Comparison(number, reason="; ".join(failed) or (lacking if not rows else "undefined here"))
        spread = 100 * float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Comparison(number, 100 * float(np.mean(values)), spread, self._coverage(number, rows))

    def _is_about(self, row: Mapping[str, Any], number: PublishedNumber) -> bool:
        wanted = set(_corruptions(number, self.numbers))
        same = row["detector"] == _run_of(number) and row["corruption"] in wanted
        same &= row["dataset"] == self._found[number.dataset][1]
        products = _products(number.dataset) or {row["category"]}  # others may lie in the folder, too
        same &= row["category"] in (products if number.category is None else {number.category})
        # A data set with domains is averaged over them, as the protocol of AeBAD does.
        with_domains = number.dataset == "aebad"
        return same and (row["domain"] is not None) == with_domains

    def _coverage(self, number: PublishedNumber, rows: Sequence[Mapping[str, Any]]) -> str:
        measured = {row["category"] for row in rows if row[number.metric] is not None}
        whole = _products(number.dataset)
        places: dict[tuple[str, str | None], int] = {}
        for row in rows:
            if row[number.metric] is not None:
                place = (row["category"], row["domain"])
                places[place] = max(places.get(place, 0), row["images"])
        images = sum(places.values())
        partial = any(is_partial(row, number.metric) for row in rows)
        text = f"{images} images" + (", some left out" if partial else "")
        if number.category is None and whole:
            text = f"{len(measured & whole)} of {len(whole)} categories, {text}"
        return text


def _run_of(number: PublishedNumber) -> str:
    """Return what the measured rows beside a number are called: the detector, and its shots."""
    return number.detector + _shots(number)


def _shots(number: PublishedNumber) -> str:
    return f", {number.shots} shot{'s' * (number.shots > 1)}" if number.shots else ""


def _products(dataset: str) -> set[str]:
    """Return the categories of a data set, where numbers of each of them are known."""
    return {n.category for n in numbers() if n.dataset == dataset and n.category is not None}


def _data_sets(wanted: Sequence[PublishedNumber], roots: Sequence[Path]) -> dict[str, tuple[Path, str]]:
    """Return folder and name of the data sets of a table that are there; of two that look alike the first."""
    found: dict[str, tuple[Path, str]] = {}
    for folder, dataset in data_sets_in(roots):
        for name in dict.fromkeys(number.dataset for number in wanted):
            if name not in found and _looks_like(dataset, name):
                found[name] = (folder, dataset.name)
    return found


def _looks_like(dataset: Dataset, name: str) -> bool:
    """Whether this is the data set that is published under a name, by its layout, or name and products.

    The layout of MVTec AD is that of many, and the name begins those of others (MVTec LOCO).
    """
    if dataset.layout == _LAYOUTS.get(name):
        return True
    plain, short = ("".join(c for c in text.lower() if c.isalnum()) for text in (dataset.name, name))
    products = _products(name)
    return plain.startswith(short) and (not products or any(c.name in products for c in dataset))


def _corruptions(number: PublishedNumber, among: Sequence[PublishedNumber]) -> tuple[str, ...]:
    """Return the corruptions that a number is measured under, as a grid calls them."""
    if number.corruption is None:
        return ("none",)
    if number.corruption == MEAN:
        single = (n for n in among if n.corruption not in (None, MEAN) and n.dataset == number.dataset)
        return tuple(dict.fromkeys(f"{n.corruption}:{n.severity or SEVERITY}" for n in single))
    return (f"{number.corruption}:{number.severity or SEVERITY}",)


def _by_seed(rows: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """Return the mean over the rows of each seed; a seed with a failed row still counts by the others."""
    means = []
    for seed in sorted({row["seed"] for row in rows}):
        values = [row[metric] for row in rows if row["seed"] == seed and row[metric] is not None]
        means += [float(np.mean(values))] if values else []
    return means


def describe(found: Sequence[Comparison], setting: Setting) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    rows = [{**asdict(c), "difference": c.difference, "number": asdict(c.number)} for c in found]
    return {"backbone": setting.backbone, "known_object": setting.known_object, "rows": rows}


def cells_of(comparison: Comparison) -> list[str]:
    """Return a row of the table: method, data, metric, published, measured, difference, remark."""
    number = comparison.number
    about = [dataset_titles()[number.dataset]]
    about += [number.category] if number.category else []
    about += [f"{number.corruption}" if number.corruption else "clean"]
    measured, difference = "–", "–"
    if comparison.measured is not None and comparison.difference is not None:
        spread = "" if comparison.spread is None else f" ± {comparison.spread:.1f}"
        measured, difference = f"{comparison.measured:.1f}{spread}", f"{comparison.difference:+.1f}"
    recalled = " (recalled)" if number.status == "recalled" else ""
    return [
        f"{method_titles()[number.method]}{f' {number.variant}' if number.variant else ''}{_shots(number)}",
        ", ".join(about),
        number.metric.replace("_", " "),
        f"{'about ' * number.approximate}{number.value:.1f}{recalled}",
        measured,
        difference,
        comparison.coverage or comparison.reason or "",
    ]


HEAD = ("method", "data", "metric", "published", "measured", "difference", "measured on, or why not")


def remark(name: str, setting: Setting) -> str:
    """Return what must be known before the two columns are compared."""
    known = "with" if setting.known_object else "without"
    note = next((n.note for n in numbers_of(name) if n.note), "")
    source = ", ".join(dict.fromkeys(n.source for n in numbers_of(name))).rstrip(".")
    return (
        f"Published: {source}. Measured: backbone {setting.backbone}, {known} the names of products; figures "
        f"in percent. Unless you gave it, the published numbers are of another backbone. {note}".strip()
    )


def markdown(name: str, found: Sequence[Comparison], setting: Setting) -> str:
    """Return the comparison as a Markdown table."""
    rows = [cells_of(comparison) for comparison in found]
    return f"# {name}: published and measured\n\n{remark(name, setting)}\n\n{table(HEAD, rows)}\n"
