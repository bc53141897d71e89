"""From a grid to the work it asks for: units, each a category under one corruption, and their cells.

What decides a result is in its key, so that nothing is measured twice and everything that changed is.
"""

from __future__ import annotations

import glob
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from zeroflaw._version import __version__
from zeroflaw.detectors import is_folder
from zeroflaw.errors import InputError, UsageError, printable
from zeroflaw.files import local_folder
from zeroflaw.lab.benchmark.grid import DataSpec, DetectorSpec, Grid
from zeroflaw.lab.datasets import Category, Dataset, open_dataset
from zeroflaw.lab.evaluation.rows import SCHEMA
from zeroflaw.records import Record


@dataclass(frozen=True)
class Cell:
    """One detector with one backbone and seed.

    Attributes:
        files: fingerprints of the weights, auxiliary images or saved detector that lie in folders.
    """

    spec: DetectorSpec
    backbone: str
    seed: int
    files: tuple[Any, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the fitted detector, but the category."""
        return {
            **asdict(replace(self.spec, seeds=(), label="", calibrate=0)),  # the fit is that without
            "reference": [str(path) for path in self.spec.reference],
            "files": self.files,
            # Of a saved detector its content counts, not the place.
            "name": None if is_folder(self.spec.name) else self.spec.name,
            "backbone": self.backbone,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Photos:
    """The good photos of a cell.

    Attributes:
        reference: that the detector is fitted on.
        calibration: that set its threshold; none of them is a reference image.
        left_out: those of the test that this detector or another one with its seed gets, so that all are
            measured on the same images.
        lacking: why there are none, or None.
    """

    reference: tuple[Record, ...] = ()
    calibration: tuple[Record, ...] = ()
    left_out: tuple[Record, ...] = ()
    lacking: str | None = None


@dataclass(frozen=True)
class Unit:
    """One pass over images: a category under one corruption, for all cells."""

    category: Category
    corruption: str
    cells: tuple[Cell, ...]

    @cached_property
    def images(self) -> str:
        """Fingerprint of the images that are judged."""
        known = of_records(self.category.test)
        return known if self.category.ignore is None else digest([known, self.category.ignore])

    def photos(self, cell: Cell) -> Photos:
        """Return the good photos of a cell, drawn by its seed: fewer are the first ones of more.

        They are training images, where there are enough for every detector with that seed; else good images
        of the test, of which at least one stays.
        """
        mine, (drawn, of_test) = cell.spec.shots + cell.spec.calibrate, self._drawn[cell.seed]
        left_out = drawn if of_test else ()
        if mine > len(drawn):
            good = sum(record.label == 0 for record in self.category.test)
            return Photos(
                left_out=left_out,
                lacking=f"{mine} good photos were wanted, but there are {len(self.category.train)} training "
                f"images of {self.category.name} and {good} good test images, one of which has to stay; take "
                "fewer, or leave the category out",
            )
        return Photos(drawn[: cell.spec.shots], drawn[cell.spec.shots : mine], left_out)

    @cached_property
    def _drawn(self) -> dict[int, tuple[tuple[Record, ...], bool]]:
        """Good photos by seed, in the order in which they are used, and whether they are of the test."""
        found: dict[int, tuple[tuple[Record, ...], bool]] = {}
        for seed in dict.fromkeys(cell.seed for cell in self.cells):
            wanted = {c.spec.shots + c.spec.calibrate for c in self.cells if c.seed == seed}
            pool, of_test = self.category.train, False
            if max(wanted) > len(pool):
                good = [record for record in self.category.test if record.label == 0]
                if any(len(pool) < count < len(good) for count in wanted):
                    pool, of_test = good, True
            most = len(pool) - of_test
            count = max((count for count in wanted if count <= most), default=0)
            chance = random.Random(f"{seed} {printable(self.category.name)}")
            order = chance.sample(range(len(pool)), len(pool)) if count else []
            found[seed] = tuple(pool[number] for number in order[:count]), of_test
        return found

    @property
    def name(self) -> str:
        """A file name for what the unit found; different units have different ones."""
        parts = (self.category.dataset, self.category.name, self.corruption)
        plain = "__".join("".join(c if c.isalnum() or c in "-_." else "-" for c in part) for part in parts)
        cut = plain.encode()[:150].decode(errors="ignore")
        return f"{cut}-{digest(parts)[:8]}"


class Missing(NamedTuple):
    """A data set, or a category of one, that the grid asks for and that is not there."""

    root: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The units of a grid in the order of work, and what is missing.

    Attributes:
        passed_over: folders beside the data sets that are none.
    """

    grid: Grid
    units: tuple[Unit, ...]
    missing: tuple[Missing, ...] = ()
    passed_over: tuple[Missing, ...] = ()

    @property
    def images(self) -> int:
        """How many images are looked at in all."""
        return sum(len(unit.category.test) for unit in self.units)

    @property
    def cells(self) -> int:
        """How many results there will be."""
        return sum(len(unit.cells) for unit in self.units)


def make_plan(grid: Grid, roots: Sequence[Path], beside: Sequence[Path] = ()) -> Plan:
    """List the work of a grid.

    Data sets that it names are looked for in ``roots``, then in ``beside``; where it names none, those in
    ``roots`` are taken. What is missing does not stop the rest: it is listed.

    Raises:
        UsageError: there is no data set at all, or two have one name and one category in common.
    """
    places = (*roots, *beside)
    missing: list[Missing] = []
    passed_over: list[Missing] = []
    found: list[tuple[str, Iterable[Category]]] = []
    for spec in grid.datasets:
        root = find_root(spec.root, places)
        found.append((root, _categories(spec, root, missing)))
    if not grid.datasets:
        found = [(str(folder), dataset) for folder, dataset in data_sets_in(roots, passed_over)]
    return Plan(grid, units_of(grid, found, places), tuple(missing), tuple(passed_over))


def units_of(
    grid: Grid, found: Iterable[tuple[str, Iterable[Category]]], places: Sequence[Path] = ()
) -> tuple[Unit, ...]:
    """Return the units of categories, each with where it lies; one that is there twice is measured once.

    Raises:
        UsageError: two data sets have one name and one category in common.
    """
    cells = tuple(_cells(grid, places))
    units: dict[tuple[str, str], list[Unit]] = {}
    seen: dict[tuple[str, str], str] = {}
    for root, categories in found:
        for category in categories:
            key = (category.dataset, category.name)
            if seen.setdefault(key, root) != root:
                both = f"'{printable(seen[key])}' and '{printable(root)}'"
                raise UsageError(
                    f"{both} are both called {category.dataset} and both have a category {category.name}, so "
                    "that their results could not be told apart; rename the folder of one, or leave one out"
                )
            units.setdefault(key, [Unit(category, corruption, cells) for corruption in grid.corruptions])
    return tuple(unit for mine in units.values() for unit in mine)


def _cells(grid: Grid, places: Sequence[Path]) -> Iterator[Cell]:
    for spec in grid.detectors:
        if is_folder(spec.name):  # a saved detector has its backbone and seed
            yield Cell(spec, "its own", 0, (_of_path(Path(spec.name)),))
            continue
        learned_from = None if spec.auxiliary is None else _of_path(Path(find_root(spec.auxiliary, places)))
        given = spec.parameters.get("backbone")
        for backbone in grid.backbones if given is None else (given,):
            files = (_of_backbone(backbone), learned_from)
            yield from (Cell(spec, backbone, seed, files) for seed in spec.seeds)


def _categories(spec: DataSpec, root: str, missing: list[Missing]) -> list[Category]:
    dataset = _opened(root, spec.layout, spec.ignore)
    if isinstance(dataset, str):
        missing.append(Missing(spec.root, dataset))
        return []
    there = {category.name: category for category in dataset}
    for name in spec.categories:
        if name not in there:
            reason = f"the data set has no category '{name}', only {', '.join(there)}"
            missing.append(Missing(f"{spec.root}/{name}", reason))
    return [there[name] for name in spec.categories or there if name in there]


def data_sets_in(
    roots: Sequence[Path], passed_over: list[Missing] | None = None
) -> Iterator[tuple[Path, Dataset]]:
    """Yield the folders that are data sets with their listing, each once: the roots, or else folders in them.

    Args:
        roots: where to look.
        passed_over: takes the folders in them that are no data sets, and why.

    Raises:
        UsageError: there is none, or a root is no folder.
    """
    found: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"--root wants a folder of data sets, but '{root}' is none; check the path")
        opened = {root: _opened(root)}
        if isinstance(opened[root], str):  # why it is none
            opened = {path: _opened(path) for path in sorted(root.iterdir()) if path.is_dir()}
        for folder, dataset in opened.items():
            if isinstance(dataset, str):
                if passed_over is not None and not folder.name.startswith("."):
                    passed_over.append(Missing(str(folder), dataset))
            elif folder.resolve() not in found:
                found.add(folder.resolve())
                yield folder, dataset
    if not found:
        raise UsageError(
            "a grid without data sets of its own measures those given by --root, and none of the folders "
            f"({', '.join(map(str, roots)) or 'none'}) is a data set or holds one; see 'zeroflaw datasets'"
        )


def _opened(root: str | Path, layout: str = "auto", ignore: int | None = None) -> Dataset | str:
    """Return the listing of a data set, or why it is none."""
    try:
        return open_dataset(root, layout=layout, ignore=ignore)
    except (InputError, UsageError) as error:
        return str(error)


def find_root(name: str, places: Sequence[Path]) -> str:
    """Return the folder called ``name`` in the first of ``places`` that has it, else the name itself.

    A name of one part may be that of a place itself; a path may not, since folders elsewhere end alike.
    """
    if Path(name).is_absolute():
        return name
    for place in places:
        if (place / name).exists():  # a folder, or a table of labels
            return str(place / name)
        if place.name == name and place.is_dir():  # the folder itself was given
            return str(place)
    return name


def fit_facts(unit: Unit, cell: Cell) -> dict[str, Any]:
    """Return all that decides a fitted detector; the category counts only where the detector sees it."""
    name, spec = unit.category.name, cell.spec
    return {
        "version": __version__,
        "cell": cell.identity,
        "object": unit.category.object_name if spec.known_object else None,
        "reference": [name, of_records(unit.photos(cell).reference)] if spec.shots else None,
    }


def cell_key(unit: Unit, cell: Cell, grid: Grid) -> str:
    """Return a digest of all that decides a result; equal keys mean that it need not be computed again."""
    photos = unit.photos(cell)
    facts = {
        "schema": SCHEMA,
        "images": unit.images,
        "dataset": unit.category.dataset,
        "category": unit.category.name,
        "corruption": unit.corruption,
        "fitted": fit_facts(unit, cell),
        "calibrate": [cell.spec.calibrate, of_records(photos.calibration)],
        "left_out": [record.key for record in photos.left_out],
        "bootstrap": grid.bootstrap,
        "batch_size": grid.batch_size,
    }
    return digest(facts)


# Cache keys from size and time of change of files: reading all files would take longer than measuring some


def digest(content: Any) -> str:
    """Return a SHA-256 over JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def of_records(records: Iterable[Record]) -> str:
    """Return the fingerprint of images and their masks."""
    return digest(
        [[r.key, r.label, _of_file(r.image), None if r.mask is None else _of_mask(r.mask)] for r in records]
    )


def _of_mask(mask: Path | tuple[Path, ...]) -> Any:
    return _of_path(mask) if isinstance(mask, Path) else [_of_path(path) for path in mask]


def _of_path(path: Path) -> Any:
    """Return the fingerprint of a file, of all files in a folder, or of nothing being there."""
    if not path.is_dir():
        return _of_file(path)
    below = glob.iglob("**", root_dir=path, recursive=True, include_hidden=True)  # noqa: PTH207 - follows links
    return digest(sorted([name, _of_file(path / name)] for name in below if not (path / name).is_dir()))


def _of_backbone(name: str) -> Any:
    """Return the fingerprint of weights in a local folder; other weights are what their name says."""
    folder = local_folder(name)
    return name if folder is None else _of_path(folder)


def _of_file(path: Path) -> list[int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]
