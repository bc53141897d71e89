"""``zeroflaw benchmark``: run a grid of data sets, corruptions, detectors, backbones and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zeroflaw.cli.common import fit_bar, say
from zeroflaw.errors import InputError, UsageError

if TYPE_CHECKING:
    from zeroflaw.lab.benchmark.grid import Grid
    from zeroflaw.lab.benchmark.plan import Plan

INCOMPLETE = InputError.exit_code


def grid_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of verbs that run a grid."""
    for option in reversed(
        (
            click.option(
                "--root",
                "roots",
                multiple=True,
                type=click.Path(path_type=Path),
                metavar="DIR",
                help="A data set, or a folder of data sets; may be repeated.",
            ),
            click.option(
                "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where results go."
            ),
            click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and stop."),
            click.option("--retry-failed", is_flag=True, help="Measure again what failed before."),
            click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("grid", metavar="GRID")
@grid_options
def benchmark(
    grid: str, roots: tuple[Path, ...], output: Path | None, only_plan: bool, retry_failed: bool, quiet: bool
) -> int:
    """Run GRID, a TOML file or the name of a ready one, and write metrics.json, CSV, Markdown and HTML.

    What is there already is not computed again: after an interruption, the same command goes on. Exit code 3:
    results are missing or failed, and the tables say which.
    """
    from zeroflaw.lab.benchmark.grid import read_grid
    from zeroflaw.lab.benchmark.ready import ready_grid

    path = Path(grid)
    if path.is_file():
        return run_grid(read_grid(path), roots, output, only_plan, retry_failed, quiet, beside=(path.parent,))
    return run_grid(ready_grid(grid), roots, output, only_plan, retry_failed, quiet)


def run_grid(
    grid: Grid,
    roots: Sequence[Path],
    output: Path | None,
    only_plan: bool,
    retry_failed: bool,
    quiet: bool,
    beside: Sequence[Path] = (),
) -> int:
    """Run a grid, write the reports, and return the exit code.

    Raises:
        UsageError: no output folder was given.
    """
    from zeroflaw.lab.benchmark.plan import make_plan
    from zeroflaw.lab.benchmark.report import write_report
    from zeroflaw.lab.benchmark.runner import Runner
    from zeroflaw.lab.benchmark.store import Store

    for root in roots:
        if not root.is_dir():
            raise UsageError(f"--root wants a folder of data sets, but '{root}' is none; check the path")
    plan = make_plan(grid, roots, beside)
    _tell(plan, quiet)
    if only_plan:
        return 0
    if output is None:
        raise UsageError("a folder for the results is wanted; add -o DIR")
    store = Store(output)
    store.prepare()
    with fit_bar(quiet) as progress:
        Runner(plan, store, (*roots, *beside), lambda line: say(line, quiet), progress, retry_failed).run()
    content = write_report(plan, store)
    say(f"wrote metrics.json, metrics.csv, table.md and index.html to {output}", quiet)
    lacking = plan.missing or any(row["error"] for row in content["rows"])
    return INCOMPLETE if lacking else 0


def _tell(plan: Plan, quiet: bool) -> None:
    """Say what will be done."""
    grid = plan.grid
    say(f"{grid.title}: {plan.cells} results from {plan.images} looks at images", quiet)
    categories = dict.fromkeys((unit.category.dataset, unit.category.name) for unit in plan.units)
    for dataset in dict.fromkeys(name for name, _ in categories):
        names = ", ".join(category for name, category in categories if name == dataset)
        say(f"  data set {dataset}: {names}", quiet)
    say(f"  corruptions: {', '.join(grid.corruptions)}", quiet)
    for spec in grid.detectors:
        say(f"  detector {spec.label}, seeds {', '.join(map(str, spec.seeds))}", quiet)
    say(f"  backbones: {', '.join(grid.backbones)}", quiet)
    for other in plan.passed_over:
        say(f"  not a data set, passed over: {other.root}: {other.reason}", quiet)
    for missing in plan.missing:
        say(f"  missing: {missing.root}: {missing.reason}", quiet)
