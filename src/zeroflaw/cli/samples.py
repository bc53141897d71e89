"""``zeroflaw samples``: render a small set of products to try the tool on."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.cli.folders import fresh_folder
from zeroflaw.cli.output import PATH, overwrite_option, quiet_option, say
from zeroflaw.lab.samples import render_samples, written_samples


@click.command()
@click.argument("folder", type=PATH)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Another seed, others."
)
@overwrite_option
@quiet_option
def samples(folder: Path, seed: int, overwrite: bool, quiet: bool) -> None:
    """Render products with and without flaws into FOLDER, in the layout of MVTec AD.

    They are drawings, not photographs: good for a first try, no evidence of accuracy.
    """
    with fresh_folder(folder, overwrite, written_samples) as fresh:
        render_samples(fresh, seed=seed)
    say(f"rendered samples are in {folder}; try: zeroflaw detect '{folder}/*/test' -o results", quiet)
