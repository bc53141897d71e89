"""``zeroflaw fit``: train a detector, on words or on what else it needs, and save it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.options import (
    detector_options,
    open_detector,
    overwrite_option,
    quiet_option,
    take_options,
)
from zeroflaw.cli.output import say
from zeroflaw.detectors import is_folder, make
from zeroflaw.errors import UsageError
from zeroflaw.runtime.folder import require_target


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
@overwrite_option
@click.option("--restart", is_flag=True, help="Forget an interrupted fit instead of going on with it.")
@quiet_option
def fit(
    detector: str,
    output: Path,
    overwrite: bool,
    restart: bool,
    quiet: bool,
    seed: int | None,
    **options: Any,
) -> None:
    """Train a detector and save it as a folder; most need words alone ('zeroflaw detectors' says which).

    Long fits keep a checkpoint beside the folder: the same command goes on where it was interrupted.
    """
    if is_folder(detector):
        raise UsageError(f"fit wants a kind of detector such as 'rwda', got the saved detector {detector}")
    require_target(output)
    if (output / "config.json").exists() and not overwrite:
        raise UsageError(f"{output} already holds a detector; give another folder or --overwrite")
    chosen = take_options(options, seed)
    kind = make(detector, **chosen.parameters(detector))
    chosen.check_given(detector)  # what is wrong is said before an interrupted fit is forgotten
    whole = output.resolve()
    checkpoint = whole.with_name(f"{whole.name}.checkpoint") if kind.resumable else None
    if checkpoint is not None and restart:
        checkpoint.unlink(missing_ok=True)
    if checkpoint is not None and checkpoint.exists():
        say(f"an interrupted fit was found in {checkpoint}", quiet)
    start = time.perf_counter()
    try:
        given = {} if checkpoint is None else {"checkpoint": checkpoint}
        fitted = open_detector(detector, chosen, quiet=quiet, **given)
    except KeyboardInterrupt:
        if checkpoint is not None and checkpoint.exists():
            say(f"interrupted; the same command goes on from {checkpoint}", quiet)
        raise
    fitted.save(output)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    say(f"detector '{detector}' fitted in {time.perf_counter() - start:.1f} s and saved to {output}", quiet)
