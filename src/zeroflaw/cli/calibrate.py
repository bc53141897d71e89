"""``zeroflaw calibrate``: a threshold for a saved detector, without a new fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from zeroflaw.cli.options import Number, reading_options, tile_option
from zeroflaw.cli.output import put, quiet_option, say, tell_skipped
from zeroflaw.cli.progress import fit_bar
from zeroflaw.detectors import load
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.errors import UsageError
from zeroflaw.images import find_images
from zeroflaw.lab.datasets import open_dataset
from zeroflaw.runtime.folder import read_folder, write_calibration


@click.command()
@click.argument("detector", type=click.Path(path_type=Path), metavar="DETECTOR")
@click.option(
    "--good",
    multiple=True,
    metavar="PATH",
    help="Photos of good parts, not those it was made from; may be repeated.",
)
@click.option(
    "--labelled", metavar="ROOT", help="Photos of both kinds: ROOT/good and folders beside it, or a data set."
)
@click.option(
    "--false-alarms",
    type=Number(),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Share of good parts that may be called anomalous.",
)
@click.option(
    "--rule",
    type=click.Choice(["auto", "f1", "youden", "cost", "recall"]),
    default="auto",
    show_default=True,
    help="How labelled photos set the threshold; auto uses the good ones alone.",
)
@click.option(
    "--cost",
    type=(Number(), Number()),
    default=(1.0, 1.0),
    metavar="A B",
    help="For the rule cost: of a false alarm, of a missed flaw (1 1).",
)
@click.option(
    "--recall",
    type=Number(),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="For the rule recall: share of flawed parts to be found.",
)
@tile_option
@quiet_option
@reading_options
def calibrate(
    detector: Path,
    good: tuple[str, ...],
    labelled: str | None,
    false_alarms: float,
    rule: Literal["auto", "f1", "youden", "cost", "recall"],
    cost: tuple[float, float],
    recall: float,
    tile: int | None,
    quiet: bool,
) -> None:
    """Set the threshold of the saved DETECTOR; it is kept beside it, and can be set again at any time.

    Twenty good photos, taken on different days, are a good start: they let about one good part in twenty be
    called anomalous. What the threshold promises is said in numbers.
    """
    if bool(good) == (labelled is not None):
        raise UsageError("calibrate wants photos, either --good PATH or --labelled ROOT; give one of them")
    if rule != "auto" and labelled is None:
        raise UsageError(f"--rule {rule} needs photos of both kinds; give them with --labelled ROOT")
    loaded = load(detector, calibrated=False, **({} if tile is None else {"tile": tile}))
    if not isinstance(loaded, BackboneDetector):
        raise UsageError(f"a detector of kind {loaded.name} cannot be calibrated here; use --threshold")
    if good:
        found = find_images(good)
        tell_skipped(found, quiet)
        normal, anomalous = list(found.paths), []
    else:
        records = [record for category in open_dataset(str(labelled)) for record in category.test]
        normal = [record.image for record in records if not record.label]
        anomalous = [record.image for record in records if record.label]
    with fit_bar(quiet) as progress:
        loaded.calibrate(
            normal,
            anomalous,
            rule=rule,
            false_alarms=false_alarms,
            cost=cost,
            recall=recall,
            progress=progress,
        )
    assert loaded.calibration_ is not None
    if _reads_as_saved(detector, loaded):
        write_calibration(detector, loaded.calibration_)
    else:  # the threshold is that of photos read so, and the detector has to remember it
        loaded.save(detector)
    put(loaded.calibration_.sentence())
    say(f"threshold {loaded.calibration_.threshold:.4f} (log-odds) kept in {detector}", quiet)


def _reads_as_saved(folder: Path, loaded: BackboneDetector[Any]) -> bool:
    """Whether a detector cuts and reads photos as its folder says."""
    saved = read_folder(folder, calibrated=False).parameters
    return (saved.get("tile", 0), saved.get("white")) == (loaded.tile, loaded.white)
