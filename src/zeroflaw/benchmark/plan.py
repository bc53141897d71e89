"""From a grid to the work it asks for: units, each a category under one corruption, and their cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zeroflaw._version import __version__
from zeroflaw.benchmark.grid import DataSpec, DetectorSpec, Grid
from zeroflaw.datasets import Category, open_dataset
from zeroflaw.detectors import is_folder
from zeroflaw.errors import InputError, UsageError
from zeroflaw.evaluation import SCHEMA
from zeroflaw.evaluation.sharing import corruption_key


@dataclass(frozen=True)
class Cell:
    """One detector with one backbone and seed."""

    spec: DetectorSpec
    backbone: str
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that decides the fitted detector, but the category."""
        return {
            **asdict(self.spec),
            "seeds": None,
            "label": None,
            "backbone": self.backbone,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Unit:
    """One pass over images: a category under one corruption, for all cells."""

    category: Category
    corruption: str
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """Return a file name for what the unit found."""
        parts = (self.category.dataset, self.category.name, self.corruption)
        return "__".join("".join(c if c.isalnum() or c in "-_." else "-" for c in part) for part in parts)


@dataclass(frozen=True)
class Missing:
    """A data set, or a category of one, that the grid asks for and that is not there."""

    root: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The units of a grid in the order of work, and what is missing."""

    grid: Grid
    units: tuple[Unit, ...]
    missing: tuple[Missing, ...]

    @property
    def images(self) -> int:
        """How many images are looked at in all."""
        return sum(len(unit.category.test) for unit in self.units)

    @property
    def cells(self) -> int:
        """How many results there will be."""
        return sum(len(unit.cells) for unit in self.units)


def make_plan(grid: Grid, roots: Sequence[Path]) -> Plan:
    """List the work of a grid. Data sets are looked for in ``roots``, one after the other.

    What is missing does not stop the rest: it is listed.
    """
    cells = tuple(_cells(grid))
    units: list[Unit] = []
    missing: list[Missing] = []
    for spec in grid.datasets or [DataSpec(root=str(root)) for root in data_sets_in(roots)]:
        categories, lacking = _categories(spec, roots)
        missing += lacking
        units += [Unit(c, corruption, cells) for c in categories for corruption in grid.corruptions]
    return Plan(grid, tuple(units), tuple(missing))


def _cells(grid: Grid) -> Iterator[Cell]:
    for spec in grid.detectors:
        if is_folder(spec.name):  # a saved detector has its backbone and seed
            yield Cell(spec, "its own", 0)
            continue
        given = spec.parameters.get("backbone")
        for backbone in grid.backbones if given is None else (given,):
            for seed in spec.seeds:
                yield Cell(spec, backbone, seed)


def _categories(spec: DataSpec, roots: Sequence[Path]) -> tuple[list[Category], list[Missing]]:
    try:
        dataset = open_dataset(find_root(spec.root, roots), layout=spec.layout)
    except (InputError, UsageError) as error:
        return [], [Missing(spec.root, str(error))]
    wanted = spec.categories or tuple(category.name for category in dataset)
    there = {category.name: category for category in dataset}
    known = ", ".join(there)
    lacking = [
        Missing(f"{spec.root}/{name}", f"the data set has no category '{name}', only {known}")
        for name in wanted
        if name not in there
    ]
    return [there[name] for name in wanted if name in there], lacking


def data_sets_in(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders that are data sets: the roots themselves, or else the folders in them.

    Raises:
        UsageError: there is none.
    """
    found = False
    for root in roots:
        for folder in (root,) if _is_data_set(root) else sorted(p for p in root.iterdir() if p.is_dir()):
            if _is_data_set(folder):
                found = True
                yield folder
    if not found:
        raise UsageError(
            "a grid without data sets of its own measures those given by --root, and none of the folders "
            f"({', '.join(map(str, roots)) or 'none'}) is a data set or holds one; see 'zeroflaw datasets'"
        )


def _is_data_set(folder: Path) -> bool:
    try:
        open_dataset(folder)
    except (InputError, UsageError):
        return False
    return True


def find_root(name: str, roots: Sequence[Path]) -> str:
    """Return the folder called ``name`` in the first of ``roots`` that has it, else the name itself."""
    for root in roots:
        if (root / name).is_dir():
            return str(root / name)
        if root.name == Path(name).name and root.is_dir():  # the folder itself was given
            return str(root)
    return name


def cell_key(unit: Unit, cell: Cell, grid: Grid) -> str:
    """Return a digest of all that decides a result; equal keys mean that it need not be computed again."""
    images = [[corruption_key(r), r.label, r.mask is not None] for r in unit.category.test]
    content = {
        "schema": SCHEMA,
        "version": __version__,
        "images": images,
        "dataset": unit.category.dataset,
        "corruption": unit.corruption,
        "cell": cell.identity,
        "bootstrap": grid.bootstrap,
        "batch_size": grid.batch_size,
    }
    return digest(content)


def digest(content: Any) -> str:
    """Return a SHA-256 over JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()
