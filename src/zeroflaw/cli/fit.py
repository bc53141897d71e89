"""``zeroflaw fit``: train a detector, on words or on what else it needs, and save it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.options import (
    detector_options,
    open_detector,
    reading_options,
    take_options,
    tell_fit,
)
from zeroflaw.cli.output import overwrite_option, quiet_option, say
from zeroflaw.detectors import is_folder, make
from zeroflaw.errors import UsageError
from zeroflaw.runtime.folder import require_target


@click.command()
@click.argument("good", nargs=-1, metavar="[GOOD]...")
@click.option("--detector", metavar="NAME", help="Kind (memory where photos are given, else rwda).")
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
@reading_options
def fit(
    good: tuple[str, ...],
    detector: str | None,
    output: Path,
    overwrite: bool,
    restart: bool,
    quiet: bool,
    seed: int | None,
    **options: Any,
) -> None:
    """Make a detector from photos of GOOD parts, and save it as a folder with its threshold.

    Without photos the default detector is made from words alone; 'zeroflaw detectors' says what others need.
    Long fits keep a checkpoint beside the folder: the same command goes on where it was interrupted.
    """
    if detector is None:
        detector = "memory" if good or options["reference"] else "rwda"
    if is_folder(detector):
        raise UsageError(f"fit wants a kind of detector such as 'rwda', got the saved detector {detector}")
    require_target(output)
    if (output / "config.json").exists() and not overwrite:
        raise UsageError(f"{output} already holds a detector; give another folder or --overwrite")
    options["reference"] = (*good, *options["reference"])
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
    tell_fit(fitted, chosen.reference, quiet)
    say(f"detector '{detector}' made in {time.perf_counter() - start:.1f} s and saved to {output}", quiet)
