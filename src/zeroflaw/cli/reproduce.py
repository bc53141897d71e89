"""``zeroflaw reproduce``: a published table, with what is measured here beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zeroflaw.cli.benchmark import INCOMPLETE, run_options, run_plan
from zeroflaw.cli.output import say
from zeroflaw.lab.benchmark.page import comparison_page
from zeroflaw.lab.benchmark.reproduce import Reproduction, Setting, describe, markdown, table_of
from zeroflaw.lab.benchmark.results import json_of, write_whole

_COLOURS = {"better": "green", "worse": "red", None: None}


@click.command()
@click.argument("table")
@click.option(
    "--root",
    "roots",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A data set, or a folder of data sets; may be repeated.",
)
@click.option("--backbone", default="mini", show_default=True, metavar="NAME", help="Weights of a CLIP.")
@click.option("--autoencoder", metavar="NAME", help="Weights of a masked autoencoder, for MAEDAY.")
@click.option(
    "--auxiliary",
    type=click.Path(path_type=Path),
    metavar="ROOT",
    help="Data set of other products, for detectors that learn from one.",
)
@click.option("--known-object", is_flag=True, help="Tell detectors the name of each product.")
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, metavar="N", help="Seed (0).")
@run_options
def reproduce(
    table: str,
    roots: tuple[Path, ...],
    backbone: str,
    autoencoder: str | None,
    auxiliary: Path | None,
    known_object: bool,
    seeds: tuple[int, ...],
    output: Path | None,
    only_plan: bool,
    retry_failed: bool,
    quiet: bool,
) -> int:
    """Measure what can be measured of a published TABLE, 'poster' for example, and print both side by side.

    Rows whose data, weights or inputs are missing say so. Writes the reports of 'benchmark', comparison.json,
    comparison.md and comparison.html. Exit code 3: some rows could not be measured.
    """
    setting = Setting(roots, backbone, autoencoder, auxiliary, known_object, seeds or (0,))
    wanted = Reproduction(table, setting)
    results = run_plan(wanted.plan(), roots, output, only_plan, retry_failed, quiet)
    if results is None or output is None:
        return 0
    found = wanted.compare(results)
    write_whole(output / "comparison.json", json_of(describe(found, setting)))
    write_whole(output / "comparison.md", markdown(table, found, setting))
    write_whole(output / "comparison.html", comparison_page(table, found, setting))
    say(f"wrote comparison.json, comparison.md and comparison.html to {output}", quiet)
    head, *lines = table_of(found).text()
    click.echo(head)
    for comparison, line in zip(found, lines, strict=True):
        coloured = click.style(line, fg=_COLOURS[comparison.side])
        click.echo(coloured if sys.stdout.isatty() else line)
    done = results.is_complete and all(comparison.reason is None for comparison in found)
    return 0 if done else INCOMPLETE
