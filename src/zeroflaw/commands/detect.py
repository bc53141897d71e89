"""``zeroflaw detect``: score, rank and draw images."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeroflaw.commands.common import (
    detector_options,
    open_detector,
    prepare_output,
    say,
    take_options,
    with_bar,
)
from zeroflaw.errors import ImageError, InputError, UsageError

if TYPE_CHECKING:
    from zeroflaw.detectors import Prediction

ANOMALOUS = 1
GIVEN = "given with --threshold"


@dataclass
class Run:
    """What happened in one run of ``detect``."""

    images: int = 0
    anomalous: int = 0
    unreadable: list[ImageError] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Unreadable images count before anomalous ones: the answer is not complete."""
        if self.unreadable:
            return InputError.exit_code
        return ANOMALOUS if self.anomalous else 0


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--detector",
    default="rwda",
    show_default=True,
    metavar="NAME|DIR",
    help="Kind of detector, or a saved one.",
)
@detector_options
@click.option("--seed", type=int, metavar="N", help="Seed of everything random (0).")
@click.option(
    "--threshold", type=float, metavar="S", help="Call images with a score of at least S anomalous."
)
@click.option(
    "--fail-on-anomaly", is_flag=True, help="Exit with 1 if any image is anomalous; needs --threshold."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write results, heat maps, contact sheet.",
)
@click.option("--no-maps", is_flag=True, help="With -o: no heat maps, which is faster.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    metavar="N",
    help="Images at a time.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that are already in the output folder.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def detect(
    paths: tuple[str, ...],
    detector: str,
    seed: int | None,
    threshold: float | None,
    fail_on_anomaly: bool,
    output: Path | None,
    no_maps: bool,
    batch_size: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Score the images in PATH... (files, folders, patterns): higher scores are more anomalous.

    Without -o, one JSON object per image goes to stdout. Images that cannot be read are reported, the others
    go on, and the exit code is 3.
    """
    from zeroflaw.commands.results import RESULTS, open_results
    from zeroflaw.images import find_images

    _check(threshold, fail_on_anomaly)
    found = find_images(paths)
    if output is not None:
        prepare_output(output, RESULTS, overwrite)
    for path in found.skipped:
        say(f"zeroflaw: {path}: skipped, it is not an image file", quiet)
    ready = open_detector(detector, take_options(options, seed), quiet=quiet)
    maps = output is not None and not no_maps
    run, start = Run(), time.perf_counter()
    with open_results(output, ready, threshold, GIVEN) as results:
        predictions = ready.predict(
            found.paths, maps=maps, batch_size=batch_size, on_error=run.unreadable.append
        )
        bar = with_bar(predictions, total=len(found.paths), title="detect", quiet=quiet)
        reported = 0
        for prediction in _judged(bar, threshold):
            reported = _report(run, reported, results.error)
            run.images += 1
            run.anomalous += bool(prediction.label)
            results.add(prediction)
        _report(run, reported, results.error)
        results.finish()
    _summarise(run, results.written, time.perf_counter() - start, quiet)
    return run.exit_code if fail_on_anomaly or run.unreadable else 0


def _check(threshold: float | None, fail_on_anomaly: bool) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold wants a score from 0 to 1, got {threshold}")
    if fail_on_anomaly and threshold is None:
        raise UsageError("--fail-on-anomaly needs a verdict, and no threshold was given; add --threshold")


def _judged(predictions: Iterable[Prediction], threshold: float | None) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction if threshold is None else prediction.judged(threshold, GIVEN)


def _report(run: Run, reported: int, write: Any) -> int:
    """Report the unreadable images that came up since ``reported`` of them were."""
    for error in run.unreadable[reported:]:
        say(f"zeroflaw: {error}")
        write(error)
    return len(run.unreadable)


def _summarise(run: Run, written: list[str], seconds: float, quiet: bool) -> None:
    parts = [f"{run.images} image{'s' * (run.images != 1)} in {seconds:.1f} s"]
    if run.unreadable:
        parts.append(f"{len(run.unreadable)} could not be read")
    if run.anomalous:
        parts.append(f"{run.anomalous} anomalous")
    say("; ".join(parts), quiet)
    for line in written:
        say(f"wrote {line}", quiet)
