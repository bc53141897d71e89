"""Running a plan: every unit once, whatever happens to the process in between.

Each image is decoded once per unit, and embedded once per backbone, for all cells of the unit.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zeroflaw.detectors import is_folder, load, make
from zeroflaw.errors import DetectorError
from zeroflaw.lab.benchmark.plan import Cell, Plan, Unit, cell_key, find_root, fit_facts
from zeroflaw.lab.benchmark.prints import digest
from zeroflaw.lab.benchmark.store import Result, Store, result_of
from zeroflaw.lab.datasets import Category, open_auxiliary
from zeroflaw.lab.evaluation import Entry, Outcome, evaluate_category
from zeroflaw.lab.evaluation.outcome import LeftOut, Tally, row_of
from zeroflaw.lab.evaluation.reference import draw_reference
from zeroflaw.lab.evaluation.sharing import read_corruption, reason_of
from zeroflaw.runtime.stream import Progress

Say = Callable[[str], None]


@dataclass
class Runner:
    """Runs a plan and keeps its results in a store.

    Attributes:
        plan: what to do.
        store: where results go.
        roots: folders in which auxiliary data sets are looked for.
        say: told about every unit.
        progress: told about fits.
        retry_failed: measure again what failed before.
    """

    plan: Plan
    store: Store
    roots: Sequence[Path]
    say: Say
    progress: Progress | None = None
    retry_failed: bool = False
    _fitted: dict[str, Entry | str] = field(default_factory=dict)

    def run(self) -> None:
        """Do what has not been done yet."""
        seconds, images_done = 0.0, 0
        todo = [(unit, cells) for unit in self.plan.units if (cells := self._open(unit))]
        images = sum(len(unit.category.test) for unit, _ in todo)
        if done := self.plan.cells - sum(len(cells) for _, cells in todo):
            self.say(f"{done} of {self.plan.cells} results are there already")
        for number, (unit, cells) in enumerate(todo, 1):
            entries = [self._entry(cell, unit) for cell in cells]  # fits are once only: they are not timed
            before = time.perf_counter()
            failed = self._measure(unit, cells, entries)
            took = time.perf_counter() - before
            seconds, images_done = seconds + took, images_done + len(unit.category.test)
            left = seconds / images_done * (images - images_done)
            self.say(
                f"[{number}/{len(todo)}] {unit.category.dataset} {unit.category.name} {unit.corruption}: "
                f"{len(unit.category.test)} images x {len(cells)} detectors in {took:.1f} s"
                f"{f', {failed} failed' if failed else ''}; about {_duration(left)} left"
            )

    def _open(self, unit: Unit) -> list[Cell]:
        """Return the cells of a unit that have no result yet."""
        there = self.store.load(unit)
        return [cell for cell in unit.cells if self._is_open(there.get(cell_key(unit, cell, self.plan.grid)))]

    def _is_open(self, result: Result | None) -> bool:
        return result is None or (self.retry_failed and result["row"]["error"] is not None)

    def _measure(self, unit: Unit, cells: Sequence[Cell], entries: Sequence[Entry | str]) -> int:
        """Measure the open cells of a unit, keep the results, and return how many failed."""
        ready: dict[str, Entry] = {}
        outcomes: dict[str, Outcome] = {}
        for cell, entry in zip(cells, entries, strict=True):
            key = cell_key(unit, cell, self.plan.grid)
            if isinstance(entry, str):
                outcomes[key] = self._failure(unit, cell, entry)
            else:
                ready[key] = entry
        if ready:
            found = evaluate_category(
                unit.category,
                list(ready.values()),
                corruption=read_corruption(unit.corruption),
                batch_size=self.plan.grid.batch_size,
                intervals=self.plan.grid.bootstrap,
                keep_going=True,
            )
            outcomes |= dict(zip(ready, found, strict=True))
        fresh = {key: result_of(outcome) for key, outcome in outcomes.items()}
        self.store.save(unit, self.store.load(unit) | fresh)
        return sum(outcome.row["error"] is not None for outcome in outcomes.values())

    def _failure(self, unit: Unit, cell: Cell, error: str) -> Outcome:
        named: Any = _Named(cell)
        entry, tally = Entry(cell.spec.label, cell.seed, named), Tally(failed=error)
        row = row_of(
            unit.category, entry, tally, LeftOut(), domain=None, corruption=unit.corruption, intervals=0
        )
        return Outcome(row, [], [])

    def _entry(self, cell: Cell, unit: Unit) -> Entry | str:
        """Return the fitted detector of a cell, or why there is none; both are remembered."""
        key = digest(fit_facts(unit, cell))
        if key not in self._fitted:
            try:
                detector: Any = self._fit(cell, unit.category, key)
                self._fitted[key] = Entry(cell.spec.label, detector.seed, detector)
            except Exception as error:  # whatever it is, it is that cell's; the others go on
                self._fitted[key] = reason_of(error)
        found = self._fitted[key]
        return found if isinstance(found, str) else replace(found, name=cell.spec.label)

    def _fit(self, cell: Cell, category: Category, key: str) -> Any:
        """Fit a detector, or take the one that was fitted before the process ended."""
        spec = cell.spec
        if is_folder(spec.name):
            return load(spec.name)
        folder = self.store.detector(spec.name, key)
        if folder.is_dir():
            try:
                return load(folder)
            except DetectorError as error:
                self.say(f"zeroflaw: {error}; it is fitted again")
                shutil.rmtree(folder)
        detector: Any = make(spec.name, **_parameters(cell, category))
        given = self._given(cell, category)
        if detector.resumable:
            given["checkpoint"] = folder.with_name(f"{folder.name}.checkpoint")
        before = time.perf_counter()
        detector.fit(progress=self.progress, **given)
        detector.save(folder)
        self.say(f"fitted {spec.label}, seed {cell.seed}, in {time.perf_counter() - before:.1f} s")
        if detector.resumable:
            given["checkpoint"].unlink(missing_ok=True)
        return detector

    def _given(self, cell: Cell, category: Category) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if cell.spec.shots:
            given["reference"] = draw_reference(category, cell.spec.shots, cell.seed)
        if cell.spec.auxiliary is not None:
            given["auxiliary"] = open_auxiliary(Path(find_root(cell.spec.auxiliary, self.roots)))
        return given


@dataclass(frozen=True)
class _Named:
    """Stands in the row of a detector that could not be made."""

    cell: Cell
    seen_: None = None

    @property
    def backbone(self) -> str:
        return self.cell.backbone


def _parameters(cell: Cell, category: Category) -> dict[str, Any]:
    found = {**cell.spec.parameters, "backbone": cell.backbone, "seed": cell.seed}
    if cell.spec.known_object:
        found["object"] = category.object_name
    return found


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
