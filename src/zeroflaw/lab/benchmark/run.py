"""Running a plan: every unit once, whatever happens to the process in between.

Each image is decoded once per unit, and embedded once per backbone, for all cells of the unit.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zeroflaw.detectors import Detector, is_folder, load, make, open_fitted
from zeroflaw.errors import DetectorError, InputError, UsageError
from zeroflaw.files import read_bytes, reason, write_bytes
from zeroflaw.lab.benchmark.grid import can_be_calibrated, cell_parameters
from zeroflaw.lab.benchmark.plan import (
    Cell,
    Photos,
    Plan,
    Unit,
    cell_key,
    digest,
    find_root,
    fit_facts,
    of_records,
)
from zeroflaw.lab.datasets import Category, open_auxiliary
from zeroflaw.lab.evaluation.judging import (
    NamedDetector,
    Spread,
    evaluate_category,
    read_corruption,
    reason_of,
)
from zeroflaw.lab.evaluation.rows import Result, writable
from zeroflaw.runtime.stream import Progress

_MOST_BYTES = 1 << 31
_RESULTS = TypeAdapter(dict[str, Result])


@dataclass(frozen=True)
class Store:
    """What was found so far, by unit and cell; with a folder, one file per unit, each whole or not at all."""

    folder: Path | None = None
    _found: dict[str, dict[str, Result]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the folder, before anything that takes time.

        Raises:
            UsageError: it cannot be made or written, or it holds something else than a benchmark.
        """
        if self.folder is None:
            return
        cells = self.folder / "cells"
        try:
            if self.folder.is_dir() and not cells.is_dir() and any(self.folder.iterdir()):
                raise UsageError(f"{self.folder} holds something else than a benchmark; choose another")
            cells.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cells).close()
        except OSError as error:
            raise UsageError(
                f"results cannot be written to {self.folder}: {reason(error)}; choose another"
            ) from error

    def load(self, unit: Unit) -> dict[str, Result]:
        """Return the results of a unit by the key of their cells; empty where there are none yet.

        Raises:
            InputError: the file is damaged.
        """
        path = self._path(unit)
        if unit.name not in self._found and path is not None and path.exists():
            try:
                content = read_bytes(path, _MOST_BYTES, "the file of results")
                self._found[unit.name] = _RESULTS.validate_json(content)
            except ValidationError as error:
                raise InputError(
                    f"{path} should hold results but does not ({error.errors()[0]['msg']}); delete it to "
                    "measure it again"
                ) from error
        return self._found.setdefault(unit.name, {})

    def add(self, unit: Unit, results: Mapping[str, Result]) -> None:
        """Keep results of a unit beside those that are there."""
        found = self.load(unit)
        found.update(results)
        if (path := self._path(unit)) is not None:
            write_bytes(path, _RESULTS.dump_json(found) + b"\n")

    def _path(self, unit: Unit) -> Path | None:
        return None if self.folder is None else self.folder / "cells" / f"{unit.name}.json"


@dataclass
class Runner:
    """Runs a plan and keeps its results in a store.

    Attributes:
        plan: what to do.
        store: where results go; without a folder nothing is kept, and what fails is raised.
        places: folders in which auxiliary data sets are looked for.
        say: told about every unit.
        progress: told about fits.
        on_image: called after each image.
        retry_failed: measure again what failed before.
        opened: saved detectors that are open already, by name.
        spread: has images looked at in other processes.
    """

    plan: Plan
    store: Store
    places: Sequence[Path] = ()
    say: Callable[[str], None] = lambda line: None
    progress: Progress | None = None
    on_image: Callable[[], object] | None = None
    retry_failed: bool = False
    opened: Mapping[str, Detector] = field(default_factory=dict)
    spread: Spread | None = None
    _fitted: dict[str, NamedDetector] = field(default_factory=dict)
    _of_category: dict[str, NamedDetector] = field(default_factory=dict)  # memories of photos are large

    def run(self) -> list[Result]:
        """Do what has not been done yet, and return all results in the order of the plan."""
        seconds, images_done = 0.0, 0
        todo = [(unit, cells) for unit in self.plan.units if (cells := self._open(unit))]
        images = sum(len(unit.category.test) for unit, _ in todo)
        if done := self.plan.cells - sum(len(cells) for _, cells in todo):
            self.say(f"{done} of {self.plan.cells} results are there already")
        category = None
        for number, (unit, cells) in enumerate(todo, 1):
            if unit.category is not category:
                self._of_category.clear()
            category = unit.category
            detectors = [self._detector(cell, unit) for cell in cells]  # fits are once only: not timed
            before = time.perf_counter()
            failed = self._measure(unit, cells, detectors)
            took = time.perf_counter() - before
            seconds, images_done = seconds + took, images_done + len(unit.category.test)
            left = seconds / images_done * (images - images_done)
            self.say(
                f"[{number}/{len(todo)}] {unit.category.dataset} {unit.category.name} {unit.corruption}: "
                f"{len(unit.category.test)} images x {len(cells)} detectors in {took:.1f} s"
                f"{f', {failed} failed' if failed else ''}; about {_duration(left)} left"
            )
        return list(self._results())

    def _open(self, unit: Unit) -> list[Cell]:
        """Return the cells of a unit that have no result yet."""
        there = self.store.load(unit)
        found = [(cell, there.get(cell_key(unit, cell, self.plan.grid))) for cell in unit.cells]
        return [cell for cell, old in found if old is None or (self.retry_failed and old.row.error)]

    def _results(self) -> Iterator[Result]:
        for unit in self.plan.units:
            there = self.store.load(unit)
            for cell in unit.cells:
                found = there[cell_key(unit, cell, self.plan.grid)]
                # The label is no part of what decides a result, so it may have changed since.
                label = {"detector": writable(cell.spec.label)}
                row, *domains = (row.model_copy(update=label) for row in (found.row, *found.domains))
                yield found.model_copy(update={"row": row, "domains": tuple(domains)})

    def _measure(self, unit: Unit, cells: Sequence[Cell], detectors: Sequence[NamedDetector]) -> int:
        """Measure the open cells of a unit, keep the results, and return how many failed."""
        found = evaluate_category(
            unit.category,
            detectors,
            corruption=read_corruption(unit.corruption),
            batch_size=self.plan.grid.batch_size,
            intervals=self.plan.grid.bootstrap,
            on_image=self.on_image,
            keep_going=self.store.folder is not None,
            spread=self.spread,
        )
        keys = [cell_key(unit, cell, self.plan.grid) for cell in cells]
        self.store.add(unit, dict(zip(keys, found, strict=True)))
        return sum(result.row.error is not None for result in found)

    def _detector(self, cell: Cell, unit: Unit) -> NamedDetector:
        """Return the fitted detector of a cell, or why there is none; both are remembered."""
        photos, spec = unit.photos(cell), cell.spec
        fit = digest(fit_facts(unit, cell))
        known = self._of_category if spec.shots else self._fitted
        found = self._once(known, fit, cell, lambda: self._fit(cell, unit.category, photos, fit))
        if spec.calibrate and (fitted := found.detector) is not None:
            key = digest([fit, spec.calibrate, of_records(photos.calibration)])
            found = self._once(self._of_category, key, cell, lambda: _calibrated(fitted, photos))
        left_out = frozenset(record.image for record in photos.left_out)
        return replace(found, name=spec.label, left_out=left_out)

    def _once(
        self, known: dict[str, NamedDetector], key: str, cell: Cell, make: Callable[[], Detector]
    ) -> NamedDetector:
        if key not in known:
            try:
                detector = make()
                seed = getattr(detector, "seed", cell.seed)
                known[key] = NamedDetector(cell.spec.label, seed, detector)
            except Exception as error:  # whatever it is, it is that cell's; the others go on
                if self.store.folder is None:
                    raise
                failed = NamedDetector(cell.spec.label, cell.seed, None, reason_of(error), cell.backbone)
                known[key] = failed
        return known[key]

    def _fit(self, cell: Cell, category: Category, photos: Photos, key: str) -> Detector:
        """Fit a detector, or take the one that was fitted before the process ended."""
        spec = cell.spec
        if is_folder(spec.name):
            return self.opened[spec.name] if spec.name in self.opened else load(spec.name)
        parameters, given = cell_parameters(spec, cell.backbone, cell.seed), self._given(cell, photos)
        if spec.known_object:
            parameters["object"] = category.object_name
        if self.store.folder is None:
            return open_fitted(spec.name, parameters, progress=self.progress, **given)
        plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in spec.name)
        folder = self.store.folder / "detectors" / f"{plain}-{key[:16]}"
        detector = make(spec.name, **parameters)
        # Of a class of one's own it may not be known how it is loaded; what learned from photos of a category
        # is large, and soon fitted again.
        kept = hasattr(detector, "from_saved") and not spec.shots
        if kept and folder.is_dir():
            try:
                return load(folder)
            except DetectorError as error:
                self.say(f"zeroflaw: {error}; it is fitted again")
                shutil.rmtree(folder)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        before = time.perf_counter()
        if detector.resumable:
            given["checkpoint"] = checkpoint
        detector.fit(progress=self.progress, **given)
        if kept:
            detector.save(folder)
        self.say(f"fitted {spec.label}, seed {cell.seed}, in {time.perf_counter() - before:.1f} s")
        checkpoint.unlink(missing_ok=True)
        return detector

    def _given(self, cell: Cell, photos: Photos) -> dict[str, Any]:
        spec = cell.spec
        given: dict[str, Any] = {}
        if spec.shots:
            if photos.lacking:
                raise UsageError(photos.lacking)
            given["reference"] = sorted(record.image for record in photos.reference)
        elif spec.reference:
            given["reference"] = spec.reference
        if spec.auxiliary is not None:
            given["auxiliary"] = open_auxiliary(Path(find_root(spec.auxiliary, self.places)))
        return given


def _calibrated(detector: Detector, photos: Photos) -> Detector:
    """Return a copy of a detector whose threshold is set by good photos.

    Raises:
        UsageError: there are too few photos, or the detector finds its threshold by itself.
    """
    if photos.lacking:
        raise UsageError(photos.lacking)
    if not can_be_calibrated(detector):
        raise UsageError(f"{detector.name} finds its threshold by itself; leave out calibrate")
    own: Any = copy.copy(detector)
    calibrated: Detector = own.calibrate(sorted(record.image for record in photos.calibration))
    return calibrated


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
