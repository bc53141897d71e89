"""``zeroflaw detect``: score, rank and draw images."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeroflaw.cli.common import (
    batch_size_option,
    detector_options,
    open_detector,
    prepare_output,
    say,
    take_options,
    tell_skipped,
    with_bar,
)
from zeroflaw.errors import ImageError, InputError, UsageError

if TYPE_CHECKING:
    from zeroflaw.cli.earlier import Earlier
    from zeroflaw.cli.results import FolderResults, StdoutResults
    from zeroflaw.detectors import Prediction

ANOMALOUS = 1
GIVEN = "given with --threshold"


@dataclass
class Run:
    """What happens in one run of ``detect``.

    Attributes:
        results: where rows go, in the order of the images.
        bar: progress, one step for each image whether it could be read or not.
        images: how many were judged.
        anomalous: how many of them are anomalous.
        unreadable: how many could not be judged.
    """

    results: StdoutResults | FolderResults
    bar: Any
    images: int = 0
    anomalous: int = 0
    unreadable: int = 0
    _waiting: dict[str, ImageError] = field(default_factory=dict)

    def refuse(self, error: ImageError) -> None:
        """Report an unreadable image; its row waits for those of the images before it, which are in work."""
        self._tell(error)
        self._waiting[error.source] = error

    def write(self, paths: Iterable[Path], predictions: Iterable[Prediction]) -> None:
        """Write a row for each of the images that the predictions are about."""
        names = map(str, paths)
        for prediction in predictions:
            for name in names:
                if name == prediction.source:
                    break
                self.results.error(self._waiting.pop(name))
            self._add(prediction)
        for name in names:
            self.results.error(self._waiting.pop(name))

    def _add(self, prediction: Prediction) -> None:
        try:
            self.results.add(prediction)
        except ImageError as error:
            self._tell(error)
            self.results.error(error)
            return
        self.images += 1
        self.anomalous += bool(prediction.label)
        self.bar.update()

    def _tell(self, error: ImageError) -> None:
        from zeroflaw.finding import shown

        self.unreadable += 1
        self.bar.write(f"zeroflaw: {shown(error.source)}: {error.reason}", file=sys.stderr)
        self.bar.update()

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
@batch_size_option
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
    from zeroflaw.cli.results import open_results
    from zeroflaw.images import find_images

    _check(threshold, fail_on_anomaly)
    found, earlier = find_images(paths), None
    if output is not None:
        earlier = _prepare(output, overwrite)
        found = earlier.left_out(found)
    tell_skipped(found, quiet)
    ready = open_detector(detector, take_options(options, seed), quiet=quiet)
    maps = output is not None and not no_maps
    start = time.perf_counter()
    bar: Any = with_bar((), total=len(found), title="detect", quiet=quiet)
    with bar, open_results(earlier, ready, threshold, GIVEN) as results:
        run = Run(results, bar)
        predictions = ready.predict(found.paths, maps=maps, batch_size=batch_size, on_error=run.refuse)
        run.write(found.paths, _judged(predictions, threshold))
        results.finish()
    _summarise(run, results.written, time.perf_counter() - start, quiet)
    return run.exit_code if fail_on_anomaly or run.unreadable else 0


def _prepare(output: Path, overwrite: bool) -> Earlier:
    from zeroflaw.cli.earlier import RESULTS, look_at

    prepare_output(output, RESULTS, overwrite)
    return look_at(output)


def _check(threshold: float | None, fail_on_anomaly: bool) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold wants a score from 0 to 1, got {threshold}")
    if fail_on_anomaly and threshold is None:
        raise UsageError("--fail-on-anomaly needs a verdict, and no threshold was given; add --threshold")


def _judged(predictions: Iterable[Prediction], threshold: float | None) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction if threshold is None else prediction.judged(threshold, GIVEN)


def _summarise(run: Run, written: list[str], seconds: float, quiet: bool) -> None:
    parts = [f"{run.images} image{'s' * (run.images != 1)} in {seconds:.1f} s"]
    if run.unreadable:
        parts.append(f"{run.unreadable} could not be read")
    if run.anomalous:
        parts.append(f"{run.anomalous} anomalous")
    say("; ".join(parts), quiet)
    for line in written:
        say(f"wrote {line}", quiet)
