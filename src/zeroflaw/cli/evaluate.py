"""``zeroflaw evaluate``: metrics on a labelled data set; a benchmark grid of one data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.folders import fresh_folder
from zeroflaw.cli.options import (
    DetectorOptions,
    batch_size_option,
    detector_options,
    open_detector,
    reading_options,
    take_options,
)
from zeroflaw.cli.output import PATH, overwrite_option, quiet_option, repeated, say
from zeroflaw.cli.progress import fit_bar, with_bar
from zeroflaw.cli.workers import spreading, workers_option
from zeroflaw.detectors import Detector, is_folder, make
from zeroflaw.errors import InputError, UsageError
from zeroflaw.lab.benchmark.grid import DetectorSpec, Grid, can_be_calibrated
from zeroflaw.lab.benchmark.plan import Plan, units_of
from zeroflaw.lab.benchmark.results import Results, json_of, listing, notes, write_whole
from zeroflaw.lab.benchmark.run import Runner, Store
from zeroflaw.lab.datasets import Dataset, open_dataset
from zeroflaw.runtime.calibration import FEWEST

RESULTS = "metrics.json"


@click.command()
@click.argument("root")  # text: a path would make the name elpv of the folder ./elpv
@click.option(
    "--layout", default="auto", metavar="NAME", help="How its files lie; see 'zeroflaw datasets' (auto)."
)
@repeated("--detector", "names", metavar="NAME|DIR", help="Detector (rwda).")
@detector_options
@click.option("--known-object", is_flag=True, help="Tell the detector each category's name.")
@click.option(
    "--shots",
    type=click.IntRange(1, 1000),
    metavar="K",
    help="Give detectors that need them K good images of each category, drawn by the seed.",
)
@click.option(
    "--calibrate",
    type=click.IntRange(FEWEST, 1000),
    metavar="K",
    help="Let K other good images of each category set the threshold of detectors that have none.",
)
@click.option(
    "--ignore-value",
    type=int,
    metavar="V",
    help="Value of pixels in masks of which nothing is known, 255 for example; they are not measured.",
)
@repeated("--category", "wanted", metavar="NAME", help="Only this category.")
@repeated("--seed", "seeds", type=int, metavar="N", help="Seed (0).")
@repeated(
    "--corruption",
    "corruptions",
    metavar="NAME:SEVERITY",
    help="Corrupt the images first, gaussian_noise:3 for example, or 'none'.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Draws for a 95 % interval of the image AUROC (none).",
)
@click.option("-o", "--output", type=PATH, metavar="DIR", help="Write metrics.json into a folder of its own.")
@workers_option
@batch_size_option
@overwrite_option
@quiet_option
@reading_options
def evaluate(
    root: str,
    layout: str,
    names: tuple[str, ...],
    known_object: bool,
    shots: int | None,
    calibrate: int | None,
    ignore_value: int | None,
    wanted: tuple[str, ...],
    seeds: tuple[int, ...],
    corruptions: tuple[str, ...],
    bootstrap: int,
    output: Path | None,
    workers: int | None,
    batch_size: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure detectors on ROOT: the folder of a data set or of one category of it, or a table of labels.

    Of your own photos, put good ones into ROOT/good and others into folders beside it. 'zeroflaw datasets'
    lists all layouts; 'elpv' is a data set that comes as a package.
    """
    names = names or ("rwda",)
    chosen = take_options(options, None)
    _check(names, chosen, known_object, shots)
    dataset = _chosen(open_dataset(root, layout, ignore=ignore_value), wanted)
    opened = {name: open_detector(name, chosen, quiet=quiet) for name in names if is_folder(name)}
    photos = shots or 0, calibrate or 0
    grid = Grid.of(
        _specs(names, chosen, seeds, photos, known_object, opened, quiet),
        corruptions=tuple(dict.fromkeys(corruptions)) or ("none",),
        bootstrap=bootstrap,
        batch_size=batch_size,
    )
    plan = Plan(grid, units_of(grid, [(root, dataset)]))
    _check_photos(plan, shots, calibrate)
    folder: AbstractContextManager[Path | None] = nullcontext()
    if output is not None:
        folder = fresh_folder(output, overwrite, lambda folder: {RESULTS})
    with folder as fresh:
        for problem in (*dataset.problems, *(p for category in dataset for p in category.problems)):
            say(f"zeroflaw: {problem}", quiet)
        bar = with_bar(total=plan.images, title="evaluate", quiet=quiet)
        with bar, fit_bar(quiet) as progress, spreading(workers) as spread:
            settings: dict[str, Any] = {"on_image": bar.update, "opened": opened, "spread": spread}
            runner = Runner(plan, Store(), progress=progress, **settings)
            found = Results(runner.run())
        said = (f"note: {note}" for note in notes(found))
        for line in (*listing(found).text(), *_intervals(found), *said):
            say(line, quiet)
        if any(row.is_partial("pixel_auroc") for row in found.rows):
            say("* computed on a part of the images or categories only; see the notes", quiet)
        if fresh is not None:
            write_whole(fresh / RESULTS, json_of(found.to_dict()))
    if output is not None:
        say(f"wrote {output / RESULTS}", quiet)
    if lost := dict.fromkeys(row.category for row in found.whole if row.is_lost):
        raise InputError(f"no image of {', '.join(lost)} could be read; check the files")


def _intervals(found: Results) -> Iterator[str]:
    """Yield a line for each row that has an interval, which the table has no column for."""
    for row in found.whole:
        if row.image_auroc_interval is not None:
            low, high = row.image_auroc_interval
            where = ", ".join((found.name(row), row.place, row.corruption, f"seed {row.seed}"))
            yield f"95 % interval of the image AUROC: {low:.3f} to {high:.3f} ({where})"


def _check(names: Sequence[str], chosen: DetectorOptions, known_object: bool, shots: int | None) -> None:
    """Refuse options that say two things about one."""
    if known_object and chosen.object is not None:
        raise UsageError(
            "--known-object takes the name from each category, and --object gives one; use only one of them"
        )
    if known_object and any(map(is_folder, names)):
        raise UsageError(
            "--known-object fits a detector for each category; name a kind of detector, not a saved one"
        )
    if shots is not None and chosen.reference:
        raise UsageError("--shots draws reference images and --reference names them; use only one of them")


def _check_photos(plan: Plan, shots: int | None, calibrate: int | None) -> None:
    """Refuse good photos that nobody wants, or that are not there, before the first fit, which takes time."""
    if shots is not None and not any(spec.shots for spec in plan.grid.detectors):
        raise UsageError("--shots is for detectors that need reference images, and none of these does")
    if calibrate is not None and not any(spec.calibrate for spec in plan.grid.detectors):
        raise UsageError("--calibrate is for detectors without a threshold, and each of these sets its own")
    for lacking in (unit.photos(cell).lacking for unit in plan.units for cell in unit.cells):
        if lacking is not None:
            raise UsageError(lacking)


def _chosen(dataset: Dataset, wanted: Sequence[str]) -> Dataset:
    known = [category.name for category in dataset]
    for name in wanted:
        if name not in known:
            raise UsageError(f"{dataset.name} has no category '{name}', only {', '.join(known)}")
    if not wanted:
        return dataset
    return replace(dataset, categories=tuple(c for c in dataset if c.name in wanted))


def _specs(
    names: Sequence[str],
    chosen: DetectorOptions,
    seeds: tuple[int, ...],
    photos: tuple[int, int],
    known_object: bool,
    opened: Mapping[str, Detector],
    quiet: bool,
) -> Iterator[DetectorSpec]:
    """Yield the detectors of the grid; each gets those of the options that it can use and no other needs.

    ``photos`` are the numbers of shots and of photos to calibrate with.
    """
    shots, calibrate = photos
    for name, label in zip(names, _labels(names), strict=True):
        if is_folder(name):
            ready = opened[name]
            needed = can_be_calibrated(ready) and getattr(ready, "calibration_", None) is None
            yield DetectorSpec(name=name, label=label, calibrate=calibrate if needed else 0)
            continue
        mine = chosen.only_for(name, names)
        parameters, kind = mine.parameters(name), make(name)
        backbone = {"backbone": kind.get_params()["backbone"]} if "backbone" in kind.get_params() else {}
        seed = parameters.pop("seed", None)
        reference = replace(mine, auxiliary=None).given(quiet=quiet).get("reference", ())
        yield DetectorSpec(
            name=name,
            label=label,
            parameters={**backbone, **parameters},
            known_object=known_object and "object" in kind.get_params() and "object" not in parameters,
            seeds=(seed,) if seed is not None else tuple(dict.fromkeys(seeds)) or (0,),
            shots=shots if kind.needs.reference_images else 0,
            # Detectors with this parameter set a threshold when they are fitted, or when they judge.
            calibrate=calibrate if can_be_calibrated(kind) and "false_alarms" not in kind.get_params() else 0,
            reference=tuple(reference),
            auxiliary=None if mine.auxiliary is None else str(mine.auxiliary),
        )


def _labels(names: Sequence[str]) -> list[str]:
    """Name every detector in the table: a folder goes by its last part, or whole where that is taken."""
    if len(set(names)) < len(names):
        raise UsageError(f"every detector can be measured once, got {', '.join(names)}; leave the copies out")
    short = [Path(name).resolve().name if "/" in name or "\\" in name else name for name in names]
    return [label if short.count(label) == 1 else name for name, label in zip(names, short, strict=True)]
