"""``zeroflaw detect``: score, rank and draw images."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.options import (
    batch_size_option,
    detector_options,
    open_detector,
    overwrite_option,
    quiet_option,
    take_options,
)
from zeroflaw.cli.output import require_free, say, tell_skipped
from zeroflaw.cli.progress import with_bar
from zeroflaw.cli.results import Results, open_results, without_results, written
from zeroflaw.errors import ImageError, InputError, UsageError, printable
from zeroflaw.images import find_images
from zeroflaw.runtime.prediction import Prediction

ANOMALOUS = 1
GIVEN = "given with --threshold"


@dataclass
class Run:
    """One run of ``detect``: rows in the order of the images, of those that cannot be read, too.

    Attributes:
        results: takes the rows.
        bar: progress, one step for each image.
        images: how many were judged.
        anomalous: how many of them are anomalous.
        unreadable: how many could not be judged.
    """

    results: Results
    bar: Any
    images: int = 0
    anomalous: int = 0
    unreadable: int = 0
    _waiting: dict[str, ImageError] = field(default_factory=dict)

    def refuse(self, error: ImageError) -> None:
        """Report an unreadable image; its row waits for those of the images before it, which are in work."""
        self.bar.write(f"zeroflaw: {printable(error)}", file=sys.stderr)
        self.unreadable += 1
        self._waiting[error.source] = error

    def write(self, paths: Sequence[Path], predictions: Iterator[Prediction]) -> None:
        """Write a row for each of the images that the predictions are about."""
        prediction = next(predictions, None)
        for name in map(str, paths):
            if prediction is not None and prediction.source == name:
                self._add(prediction)
                prediction = next(predictions, None)
            if name in self._waiting:
                self.results.write({"source": name, "error": self._waiting.pop(name).reason})
            self.bar.update()

    def _add(self, prediction: Prediction) -> None:
        try:
            self.results.add(prediction)
        except ImageError as error:
            self.refuse(error)
            return
        self.images += 1
        self.anomalous += bool(prediction.label)

    def summary(self, seconds: float) -> str:
        """Say in one line how it went."""
        parts = [f"{self.images} image{'s' * (self.images != 1)} in {seconds:.1f} s"]
        parts += [f"{self.unreadable} could not be read"] * bool(self.unreadable)
        parts += [f"{self.anomalous} anomalous"] * bool(self.anomalous)
        return "; ".join(parts)


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
    help="Write results, heat maps and a contact sheet into a folder of their own.",
)
@click.option("--no-maps", is_flag=True, help="With -o: no heat maps, which is faster.")
@batch_size_option
@overwrite_option
@quiet_option
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
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold wants a score from 0 to 1, got {threshold}")
    if fail_on_anomaly and threshold is None:
        raise UsageError("--fail-on-anomaly needs a verdict, and no threshold was given; add --threshold")
    found = without_results(find_images(paths), quiet)
    if output is not None:
        require_free(output, overwrite, written)
    tell_skipped(found, quiet)
    ready = open_detector(detector, take_options(options, seed), quiet=quiet)
    start = time.perf_counter()
    about = f"detector {ready.name} · backbone {ready.get_params().get('backbone', 'none')}"
    sheet = {"about": about, "threshold": threshold, "threshold_from": GIVEN}
    with (
        with_bar((), total=len(found), title="detect", quiet=quiet) as bar,
        open_results(output, found.paths, overwrite=overwrite, **sheet) as results,
    ):
        run = Run(results, bar)
        maps = output is not None and not no_maps
        judged = ready.predict(found.paths, maps=maps, batch_size=batch_size, on_error=run.refuse)
        if threshold is not None:
            judged = (prediction.judged(threshold, GIVEN) for prediction in judged)
        run.write(found.paths, judged)
        lines = results.finish(output)
    say(run.summary(time.perf_counter() - start), quiet)
    for line in lines:
        say(f"wrote {line}", quiet)
    if run.unreadable:  # before anomalous ones: the answer is not complete
        return InputError.exit_code
    return ANOMALOUS if fail_on_anomaly and run.anomalous else 0
