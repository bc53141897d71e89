"""``zeroflaw reproduce``: a published table, with what is measured here beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zeroflaw.cli.benchmark import run_grid
from zeroflaw.cli.common import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zeroflaw.lab.benchmark.reproduce import Comparison, Setting


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
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where results go.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and stop.")
@click.option("--retry-failed", is_flag=True, help="Measure again what failed before.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
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
    from zeroflaw.lab.benchmark.reproduce import Reproduction, Setting

    setting = Setting(roots, backbone, autoencoder, auxiliary, known_object, seeds or (0,))
    wanted = Reproduction(table, setting)
    code = run_grid(wanted.grid(), roots, output, only_plan, retry_failed, quiet)
    if only_plan or output is None:
        return code
    content = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    found = wanted.compare(content)
    _write(output, table, found, setting, quiet)
    for line in _lines(found):
        click.echo(line)
    return code if all(c.reason is None for c in found) else 3


def _write(output: Path, table: str, found: Sequence[Comparison], setting: Setting, quiet: bool) -> None:
    from zeroflaw.files import write_json, write_text
    from zeroflaw.lab.benchmark.comparison_page import comparison_page
    from zeroflaw.lab.benchmark.reproduce import describe, markdown

    write_json(output / "comparison.json", describe(found, setting))
    write_text(output / "comparison.md", markdown(table, found, setting))
    write_text(output / "comparison.html", comparison_page(table, found, setting))
    say(f"wrote comparison.json, comparison.md and comparison.html to {output}", quiet)


def _lines(found: Sequence[Comparison]) -> list[str]:
    """Return the table for a terminal; differences are coloured where it can show colours."""
    from zeroflaw.lab.benchmark.comparison_page import side_of
    from zeroflaw.lab.benchmark.reproduce import HEAD, cells_of

    colours = {"better": "green", "worse": "red", None: None}
    table = [list(HEAD), *(cells_of(comparison) for comparison in found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for number, cells in enumerate(table):
        padded = [f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)]
        if number and sys.stdout.isatty():
            padded[5] = click.style(padded[5], fg=colours[side_of(found[number - 1])])
        lines.append("  ".join(padded).rstrip())
    return lines
