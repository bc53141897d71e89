"""A published table run again: its grid, and published numbers beside measured ones.

Every row is there. Where data, weights or anything else is missing, the row says what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw.detectors import PRESETS, make
from zeroflaw.detectors.inputs import require
from zeroflaw.errors import UsageError, closest
from zeroflaw.lab.benchmark.grid import DetectorSpec, Grid
from zeroflaw.lab.benchmark.plan import Plan, data_sets_in, units_of
from zeroflaw.lab.benchmark.results import Results, Table, plain
from zeroflaw.lab.evaluation.rows import Row, mean
from zeroflaw.lab.published import PublishedNumber, dataset_titles, method_titles, numbers, published
from zeroflaw.records import Dataset

SEVERITY = 3  # where a table does not print one: that of Cao et al., whose protocol the poster follows
MEAN = "mean"  # over the four corruptions
NEAR = 1.0  # percent points; figures that differ by less are taken for equal
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
        measured: in percent, or None; of a data set with domains the mean over them, as the protocol of
            AeBAD has it.
        spread: standard deviation between seeds in percent, or None.
        pooled: in percent, over the images of all domains as one set; None where there are no domains.
        coverage: on what it was measured, in words.
        reason: why there is no measured number, in words.
    """

    number: PublishedNumber
    measured: float | None = None
    spread: float | None = None
    pooled: float | None = None
    coverage: str | None = None
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percent points."""
        return None if self.measured is None else self.measured - self.number.value

    @property
    def side(self) -> str | None:
        """``better`` or ``worse``; None where figures are about equal or nothing was measured."""
        if self.difference is None or abs(self.difference) < NEAR:
            return None
        return "better" if self.difference > 0 else "worse"

    @property
    def method(self) -> str:
        """How the method is printed, with its variant and shots."""
        variant = f" {self.number.variant}" if self.number.variant else ""
        return f"{method_titles()[self.number.method]}{variant}{_shots(self.number)}"

    @property
    def data(self) -> str:
        """How the data are printed."""
        n = self.number
        return ", ".join(filter(None, (dataset_titles()[n.dataset], n.category, n.corruption or "clean")))


def table_names() -> tuple[str, ...]:
    """Return the tables that have at least one number of a detector that is here."""
    return tuple(dict.fromkeys(n.table for n in numbers() if n.detector in PRESETS))


def numbers_of(name: str) -> tuple[PublishedNumber, ...]:
    """Return the numbers of a table.

    Raises:
        UsageError: there is no such table, or it has none of a detector that is here.
    """
    found, known = published(table=name), table_names()
    if name in known:
        return found
    choices = ", ".join(known)
    if not found:
        raise UsageError(f"a published table was wanted ({choices}), got '{name}'{closest(name, known)}")
    methods = ", ".join(dict.fromkeys(method_titles()[n.method] for n in found))
    raise UsageError(
        f"the table '{name}' is of methods that are not here ({methods}), so that nothing of it can be "
        f"measured; choose another ({choices})"
    )


class Reproduction:
    """A published table, the plan that measures what can be measured, and why the rest cannot."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting = name, setting
        self.numbers = numbers_of(name)
        self._found = _data_sets(self.numbers, setting.roots)
        self._specs = {_run_of(n): self._spec(n) for n in self.numbers}

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            UsageError: nothing of the table can be measured; the message says why.
        """
        specs = tuple(spec for spec in self._specs.values() if isinstance(spec, DetectorSpec))
        if not specs or not self._found:
            reasons = dict.fromkeys(self._why_not(number) or "" for number in self.numbers)
            raise UsageError(
                f"nothing of the table '{self.name}' can be measured: {'; '.join(r for r in reasons if r)}"
            )
        corruptions = dict.fromkeys(c for n in self.numbers for c in _corruptions(n, self.numbers))
        title, backbones = f"{self.name}: published and measured", (self.setting.backbone,)
        grid = Grid.of(specs, title=title, backbones=backbones, corruptions=tuple(corruptions))
        found = [(str(folder), dataset) for folder, dataset in self._found.values()]
        return Plan(grid, units_of(grid, found, self.setting.roots))

    def compare(self, found: Results) -> list[Comparison]:
        """Put what a run of the plan found beside every number of the table."""
        return [self._compare(number, found.rows) for number in self.numbers]

    def _spec(self, number: PublishedNumber) -> DetectorSpec | str:
        """Return how the detector of a number is run, or why it cannot be."""
        detector, shots = number.detector, number.shots
        if detector not in PRESETS:
            return f"zeroflaw has no detector '{detector}'"
        needs, setting = PRESETS[detector].needs, self.setting
        parameters: dict[str, Any] = {}
        if needs.decoder_weights:
            if setting.autoencoder is None:
                return "needs weights of a masked autoencoder with decoder: --autoencoder local-dir:FOLDER"
            parameters["backbone"] = setting.autoencoder
        auxiliary = str(setting.auxiliary) if needs.auxiliary_set and setting.auxiliary else None
        try:
            require(detector, needs, reference=shots > 0, auxiliary=auxiliary is not None)
        except UsageError as error:
            return str(error)
        return DetectorSpec(
            name=detector,
            label=_run_of(number),
            parameters=parameters,
            known_object=setting.known_object and "object" in make(detector).get_params(),
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

    def _compare(self, number: PublishedNumber, rows: Sequence[Row]) -> Comparison:
        if reason := self._why_not(number):
            return Comparison(number, reason=reason)
        about = [row for row in rows if self._is_about(row, number)]
        whole = [row for row in about if row.domain is None]
        mine = [row for row in about if row.domain is not None] or whole
        values = _by_seed(mine, number.metric)
        if not values:
            lacking = f"the data set has no category {number.category}" if number.category else "no masks"
            failed = "; ".join(dict.fromkeys(row.error for row in mine if row.error))
            return Comparison(number, reason=failed or ("undefined here" if mine else lacking))
        return Comparison(
            number,
            mean(values),
            spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            pooled=None if mine is whole else mean(_by_seed(whole, number.metric)),
            coverage=_coverage(number, mine),
        )

    def _is_about(self, row: Row, number: PublishedNumber) -> bool:
        wanted = {number.category} if number.category else _products(number.dataset) or {row.category}
        return (
            row.detector == _run_of(number)
            and row.corruption in _corruptions(number, self.numbers)
            and row.dataset == self._found[number.dataset][1].name
            and row.category in wanted  # others may lie in the folder, too
        )


def _coverage(number: PublishedNumber, rows: Sequence[Row]) -> str:
    there = [row for row in rows if row.metric(number.metric) is not None]
    images: dict[str, int] = {}
    for row in there:
        images[row.place] = max(images.get(row.place, 0), row.images)
    partial = any(row.is_partial(number.metric) for row in rows)
    text = f"{sum(images.values())} images" + (", some left out" if partial else "")
    if any(row.domain is not None for row in there):
        text = f"mean of {len(images)} domains, {text}"
    if number.category is None and (whole := _products(number.dataset)):
        text = f"{len({row.category for row in there} & whole)} of {len(whole)} categories, {text}"
    return text


def _run_of(number: PublishedNumber) -> str:
    """Return what the measured rows beside a number are called: the detector, and its shots."""
    return number.detector + _shots(number)


def _shots(number: PublishedNumber) -> str:
    return f", {number.shots} shot{'s' * (number.shots > 1)}" if number.shots else ""


def _products(dataset: str) -> set[str]:
    """Return the categories of a data set, where numbers of each of them are known."""
    return {n.category for n in numbers() if n.dataset == dataset and n.category is not None}


def _data_sets(wanted: Iterable[PublishedNumber], roots: Sequence[Path]) -> dict[str, tuple[Path, Dataset]]:
    """Return the data sets of a table that are there with their folders; of two that look alike the first."""
    found: dict[str, tuple[Path, Dataset]] = {}
    for folder, dataset in data_sets_in(roots):
        for name in dict.fromkeys(number.dataset for number in wanted):
            if name not in found and _looks_like(dataset, name):
                found[name] = (folder, dataset)
    return found


def _looks_like(dataset: Dataset, name: str) -> bool:
    """Whether this is the data set that is published under a name, by its layout, or name and products.

    The layout of MVTec AD is that of many, and the name begins those of others (MVTec LOCO).
    """
    if dataset.layout == _LAYOUTS.get(name):
        return True
    plainly, short = ("".join(c for c in text.lower() if c.isalnum()) for text in (dataset.name, name))
    products = _products(name)
    return plainly.startswith(short) and (not products or any(c.name in products for c in dataset))


def _corruptions(number: PublishedNumber, among: Sequence[PublishedNumber]) -> tuple[str, ...]:
    """Return the corruptions that a number is measured under, as a grid calls them."""
    if number.corruption is None:
        return ("none",)
    if number.corruption == MEAN:
        single = (n for n in among if n.corruption not in (None, MEAN) and n.dataset == number.dataset)
        return tuple(dict.fromkeys(f"{n.corruption}:{n.severity or SEVERITY}" for n in single))
    return (f"{number.corruption}:{number.severity or SEVERITY}",)


def _by_seed(rows: Sequence[Row], metric: str) -> list[float]:
    """Return the mean in percent over the rows of each seed; one with a failed row counts by the others."""
    by_seed = [mean(row.metric(metric) for row in rows if row.seed == s) for s in {row.seed for row in rows}]
    return [100 * value for value in by_seed if value is not None]


def describe(found: Sequence[Comparison], setting: Setting) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    rows = [{**asdict(c), "number": c.number.model_dump(), "difference": c.difference} for c in found]
    return {"backbone": setting.backbone, "known_object": setting.known_object, "rows": rows}


def table_of(found: Sequence[Comparison]) -> Table:
    """Return the comparison as a table: a line for each number."""
    rows = [list(_cells(comparison)) for comparison in found]
    head = ("method", "data", "metric", "published", "measured", "pooled", "difference", "measured on")
    at = head.index("difference")
    marks = {(row, at): comparison.side for row, comparison in enumerate(found) if comparison.side}
    return Table("", head, rows, words=3, remark=True, marks=marks)


def _cells(comparison: Comparison) -> Iterator[str]:
    number = comparison.number
    recalled = " (recalled)" if number.status == "recalled" else ""
    spread = "" if comparison.spread is None else f" ± {comparison.spread:.1f}"
    yield from (comparison.method, comparison.data, number.metric.replace("_", " "))
    yield f"{'about ' * number.approximate}{number.value:.1f}{recalled}"
    figures = (comparison.measured, ".1f", spread), (comparison.pooled, ".1f", "")
    for value, form, more in (*figures, (comparison.difference, "+.1f", "")):
        yield "–" if value is None else f"{value:{form}}{more}"
    yield comparison.coverage or comparison.reason or ""


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
    table = table_of(found).markdown()
    return f"# {plain(name)}: published and measured\n\n{plain(remark(name, setting))}\n\n{table}\n"
