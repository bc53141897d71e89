"""``zeroflaw samples``: render a small set of products to try the tool on."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.cli.output import prepare_output, say
from zeroflaw.lab.samples import render_samples


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Another seed, other samples.",
)
@click.option("--overwrite", is_flag=True, help="Write into a folder that already holds samples.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def samples(folder: Path, seed: int, overwrite: bool, quiet: bool) -> None:
    """Render products with and without flaws into FOLDER, in the layout of MVTec AD.

    They are drawings, not photographs: good for a first try, no evidence of accuracy.
    """
    prepare_output(folder, "README.txt", overwrite)
    render_samples(folder, seed=seed)
    say(f"rendered samples are in {folder}; try: zeroflaw detect '{folder}/*/test' -o results", quiet)
