"""``zeroflaw benchmark``: run a grid of data sets, corruptions, detectors, backbones and seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.output import PATH, quiet_option, repeated, say
from zeroflaw.cli.progress import fit_bar
from zeroflaw.cli.workers import spreading, workers_option
from zeroflaw.errors import InputError, UsageError
from zeroflaw.lab.benchmark.grid import open_grid
from zeroflaw.lab.benchmark.page import benchmark_page
from zeroflaw.lab.benchmark.plan import Plan, make_plan
from zeroflaw.lab.benchmark.plots import MISSING, are_possible
from zeroflaw.lab.benchmark.results import Results, write_results, write_whole
from zeroflaw.lab.benchmark.run import Runner, Store

INCOMPLETE = InputError.exit_code
roots_option = functools.partial(
    repeated, "--root", "roots", type=PATH, metavar="DIR", help="A data set, or a folder of data sets."
)
_RUN_OPTIONS = (
    click.option("-o", "--output", type=PATH, metavar="DIR", help="Where results go."),
    click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and stop."),
    click.option("--retry-failed", is_flag=True, help="Measure again what failed before."),
    workers_option,
    quiet_option,
)


def run_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of `run_plan`."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("grid", metavar="GRID")
@roots_option()
@run_options
def benchmark(grid: str, roots: tuple[Path, ...], **flags: Any) -> int:
    """Run GRID, a TOML file or the name of a ready one, and write metrics.json, CSV, Markdown and HTML.

    What is there already is not computed again: after an interruption, the same command goes on. Exit code 3:
    results are missing or failed, and the tables say which.
    """
    opened, beside = open_grid(grid)
    places = () if beside is None else (beside,)
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"--root wants a folder of data sets, but '{root}' is none; check the path")
    found = run_plan(make_plan(opened, roots, places), (*roots, *places), **flags)
    return 0 if found is None or found.is_complete else INCOMPLETE


def run_plan(
    plan: Plan,
    places: Sequence[Path],
    *,
    output: Path | None,
    only_plan: bool,
    retry_failed: bool,
    workers: int | None,
    quiet: bool,
) -> Results | None:
    """Run a plan and write its reports; None where only the plan was to be told.

    Raises:
        UsageError: no output folder was given.
    """
    _tell(plan, quiet)
    if only_plan:
        return None
    if output is None:
        raise UsageError("a folder for the results is wanted; add -o DIR")
    store = Store(output)
    store.prepare()
    with fit_bar(quiet) as progress, spreading(workers) as spread:
        runner = Runner(plan, store, places, progress=progress, retry_failed=retry_failed, spread=spread)
        runner.say = lambda line: say(line, quiet)
        found = Results(runner.run(), plan.grid.title, plan.grid.model_dump(), plan.missing)
    write_results(found, output)
    write_whole(output / "index.html", benchmark_page(found, plan.units))
    if not are_possible():
        say(f"zeroflaw: {MISSING}", quiet)
    say(f"wrote metrics.json, metrics.csv, table.md and index.html to {output}", quiet)
    return found


def _tell(plan: Plan, quiet: bool) -> None:
    """Say what will be done."""
    grid = plan.grid
    categories = dict.fromkeys((unit.category.dataset, unit.category.name) for unit in plan.units)
    names = {dataset: [name for of, name in categories if of == dataset] for dataset, _ in categories}
    lines = [
        f"{grid.title}: {plan.cells} results from {plan.images} looks at images",
        *(f"  data set {dataset}: {', '.join(mine)}" for dataset, mine in names.items()),
        f"  corruptions: {', '.join(grid.corruptions)}",
        *(f"  detector {spec.label}, seeds {', '.join(map(str, spec.seeds))}" for spec in grid.detectors),
        f"  backbones: {', '.join(grid.backbones)}",
        *(f"  not a data set, passed over: {other.root}: {other.reason}" for other in plan.passed_over),
        *(f"  missing: {missing.root}: {missing.reason}" for missing in plan.missing),
    ]
    for line in lines:
        say(line, quiet)
