"""``zeroflaw fit``: train a detector on words and save it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from zeroflaw.commands.common import detector_options, open_detector, say, take_options
from zeroflaw.errors import UsageError


@click.command()
@click.option(
    "--detector", default="rwda", show_default=True, metavar="NAME", help="Kind of detector; see 'detectors'."
)
@detector_options
@click.option("--seed", type=int, metavar="N", help="Seed of everything random (0).")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to save into.",
)
@click.option("--overwrite", is_flag=True, help="Replace a detector that is already there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def fit(detector: str, output: Path, overwrite: bool, quiet: bool, seed: int | None, **options: Any) -> None:
    """Train a detector on words alone and save it as a folder."""
    from zeroflaw.detectors import is_folder
    from zeroflaw.detectors.folder import require_target

    if is_folder(detector):
        raise UsageError(f"fit wants a kind of detector such as 'rwda', got the saved detector {detector}")
    require_target(output)
    if (output / "config.json").exists() and not overwrite:
        raise UsageError(f"{output} already holds a detector; give another folder or --overwrite")
    start = time.perf_counter()
    fitted = open_detector(detector, take_options(options, seed), quiet=quiet)
    fitted.save(output)
    say(f"detector '{detector}' fitted in {time.perf_counter() - start:.1f} s and saved to {output}", quiet)
