"""``zeroflaw history``: what a service or a watched folder has kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from zeroflaw.cli.output import PATH, quiet_option, say
from zeroflaw.errors import InputError, UsageError, needing, printable
from zeroflaw.files import atomic


@click.group()
def history() -> None:
    """Look into the history of 'serve' and 'watch'."""


@history.command()
@click.argument("where", default="zeroflaw-history", metavar="[DIR|URL]")
@click.option(
    "--format", "kind", type=click.Choice(["csv", "parquet"]), help="By default by the file's name."
)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write to a file rather than to stdout.")
@click.option("--detector", metavar="NAME", help="Of this detector alone.")
@click.option("--verdict", type=click.Choice(["anomalous", "normal", "none", "corrected"]))
@click.option("--since", metavar="TIME", help="From this time on: 2026-05-31 or 2026-05-31T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--text", metavar="TEXT", help="Part of the name or of a note.")
@quiet_option
def export(
    where: str, kind: Literal["csv", "parquet"] | None, output: Path | None, quiet: bool, **wanted: Any
) -> None:
    """Write the history in a folder, or in the database at a URL, as a table, the oldest rows first."""
    with needing("the history", "serve"):
        from zeroflaw.serve.database import FILE
        from zeroflaw.serve.history import History
        from zeroflaw.serve.records import Filter
        from zeroflaw.serve.tables import csv_lines, write_parquet
    if kind is None:
        ending = ".csv" if output is None else output.suffix.lower()
        if ending not in (".csv", ".parquet"):
            raise UsageError(
                f"'{printable(output)}' must end in .csv or .parquet; name it so, or give --format"
            )
        kind = "parquet" if ending == ".parquet" else "csv"
    if kind == "parquet" and output is None:
        raise UsageError("Parquet is no text; give a file: -o history.parquet")
    if "://" not in where and not (Path(where) / FILE).is_file():
        raise InputError(f"there is no history in '{where}'; give the folder that 'zeroflaw serve' wrote to")
    rows = Filter(order="oldest", **wanted)
    kept = History.open(where)
    try:
        if output is None:
            for lines in csv_lines(kept, rows):
                sys.stdout.buffer.write(lines.encode())
            sys.stdout.flush()
        elif kind == "parquet":
            write_parquet(kept, rows, output)
        else:
            with atomic(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
                stream.writelines(csv_lines(kept, rows))
        if output is not None:
            say(f"wrote {output}", quiet)
    finally:
        kept.close()
