"""``zeroflaw reproduce``: a published table, with what is measured here beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.benchmark import INCOMPLETE, roots_option, run_options, run_plan
from zeroflaw.cli.options import AUXILIARY
from zeroflaw.cli.output import PATH, repeated, say
from zeroflaw.lab.benchmark.page import comparison_page
from zeroflaw.lab.benchmark.reproduce import Reproduction, Setting, describe, markdown, table_of
from zeroflaw.lab.benchmark.results import json_of, write_whole

_COLOURS = {"better": "green", "worse": "red", None: None}


@click.command()
@click.argument("table")
@roots_option(required=True)
@click.option("--backbone", default="mini", show_default=True, metavar="NAME", help="Weights of a CLIP.")
@click.option("--autoencoder", metavar="NAME", help="Weights of a masked autoencoder, for MAEDAY.")
@click.option("--auxiliary", type=PATH, metavar="ROOT", help=AUXILIARY)
@click.option("--known-object", is_flag=True, help="Tell detectors the name of each product.")
@repeated("--seed", "seeds", type=click.IntRange(0), metavar="N", help="Seed (0).")
@run_options
def reproduce(
    table: str,
    roots: tuple[Path, ...],
    backbone: str,
    autoencoder: str | None,
    auxiliary: Path | None,
    known_object: bool,
    seeds: tuple[int, ...],
    **flags: Any,
) -> int:
    """Measure what can be measured of a published TABLE, 'poster' for example, and print both side by side.

    Rows whose data, weights or inputs are missing say so. Writes the reports of 'benchmark', comparison.json,
    comparison.md and comparison.html. Exit code 3: some rows could not be measured.
    """
    setting = Setting(roots, backbone, autoencoder, auxiliary, known_object, seeds or (0,))
    wanted = Reproduction(table, setting)
    results = run_plan(wanted.plan(), roots, **flags)
    if results is None:
        return 0
    output: Path = flags["output"]
    found = wanted.compare(results)
    write_whole(output / "comparison.json", json_of(describe(found, setting)))
    write_whole(output / "comparison.md", markdown(table, found, setting))
    write_whole(output / "comparison.html", comparison_page(table, found, setting))
    say(f"wrote comparison.json, comparison.md and comparison.html to {output}", flags["quiet"])
    head, *lines = table_of(found).text()
    click.echo(head)
    for comparison, line in zip(found, lines, strict=True):
        click.secho(line, fg=_COLOURS[comparison.side])  # plain where it is no terminal
    done = results.is_complete and all(comparison.reason is None for comparison in found)
    return 0 if done else INCOMPLETE
