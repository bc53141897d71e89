"""``zeroflaw detect``: score, rank and draw images."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import click

from zeroflaw.cli.folders import require_free
from zeroflaw.cli.options import (
    DetectorOptions,
    Number,
    batch_size_option,
    detector_options,
    open_detector,
    reading_options,
    take_options,
    tell_fit,
)
from zeroflaw.cli.output import overwrite_option, quiet_option, say, tell_skipped
from zeroflaw.cli.progress import fit_bar, with_bar
from zeroflaw.cli.results import Results, Wanted, open_results, results_options, without_results, written
from zeroflaw.cli.streams import list_paths, paths_from_stdin, stream_options
from zeroflaw.detectors import Detector, is_folder, make
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.errors import ImageError, InputError, UsageError, printable
from zeroflaw.files import sha256
from zeroflaw.images import ImageList, find_images, reading
from zeroflaw.report.exports import Format
from zeroflaw.runtime.drift import Watch
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import logit as log_odds

ANOMALOUS = 1
MOST_FLAWED = 0.3  # share of anomalous photos up to which their majority can be taken for good
GIVEN = "given with --threshold"
BEYOND = 1e12  # no log-odds are


@dataclass
class Run:
    """One run of ``detect``: rows in the order of the images, of those that cannot be read, too.

    Attributes:
        results: takes the rows.
        bar: progress, one step for each image.
        together: the photos are compared with one another.
        watch: notices when photos are unlike the good ones, or None.
        images: how many were judged.
        anomalous: how many of them are anomalous.
        judged: how many of them got a verdict.
        origin: where the threshold came from, in words.
        unreadable: how many could not be judged.
    """

    results: Results
    bar: Any
    watch: Watch | None = None
    together: bool = False
    images: int = 0
    anomalous: int = 0
    judged: int = 0
    origin: str = ""
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
        self.results.add(prediction)
        self.images += 1
        self.anomalous += bool(prediction.label)
        self.judged += prediction.label is not None
        self.origin = prediction.threshold_from or ""
        if self.watch is not None:
            self.watch.add(prediction)

    def lose(self, prediction: Prediction, error: ImageError) -> None:
        """Report an image that was judged and is gone before it could be drawn; its row says so."""
        self.bar.write(f"zeroflaw: {printable(error)}", file=sys.stderr)
        self.unreadable += 1
        self.images -= 1
        self.anomalous -= bool(prediction.label)
        self.judged -= prediction.label is not None

    def warnings(self) -> Iterator[str]:
        """Say what looks wrong, and what would give verdicts where there are none."""
        if self.together and self.judged:
            yield self.origin
            if self.anomalous > MOST_FLAWED * self.images:
                yield (
                    f"zeroflaw: {self.anomalous} of {self.images} photos are called anomalous; comparing "
                    "them with one another takes the majority for good: give good photos with --good"
                )
        if self.watch is not None and (notice := self.watch.notice()):
            yield f"zeroflaw: {notice}"
        if self.images and not self.judged:
            yield (
                "scores rank, they are no verdicts: --good GOOD-PHOTOS gives verdicts, as does --together "
                "where most parts are good"
            )

    def summary(self, seconds: float) -> str:
        """Say in one line how it went."""
        parts = [f"{self.images} image{'s' * (self.images != 1)} in {seconds:.1f} s"]
        parts += [f"{self.unreadable} could not be read"] * bool(self.unreadable)
        parts += [f"{self.anomalous} anomalous"] * bool(self.judged)
        return "; ".join(parts)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--detector",
    metavar="NAME|DIR",
    help="Kind of detector, or a saved one (rwda; memory with --good; mutual with --together).",
)
@click.option(
    "--good", multiple=True, metavar="PATH", help="Photos of good parts to compare with; may be repeated."
)
@click.option("--together", is_flag=True, help="Compare the photos with one another; most should be good.")
@click.option(
    "--false-alarms",
    type=Number(),
    metavar="SHARE",
    help="With --good or --together: share of good parts that may be called anomalous (0.05).",
)
@click.option("--shifts", is_flag=True, help="With --good: also good under nine changes of light and camera.")
@click.option(
    "--roi", metavar="REGION", help="Look at this part alone: a polygon 'x,y x,y ...' or a picture."
)
@click.option("--ignore", metavar="REGION", help="Do not look at this part: a polygon or a picture.")
@detector_options
@click.option("--seed", type=int, metavar="N", help="Seed of everything random (0).")
@click.option(
    "--threshold", type=Number(), metavar="S", help="Call images with a score of at least S anomalous."
)
@click.option(
    "--threshold-logit", type=Number(), metavar="L", help="The same as log-odds, as evaluate says them."
)
@click.option(
    "--fail-on-anomaly", is_flag=True, help="Exit with 1 if any image is anomalous; needs a threshold."
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Write results, heat maps and a report into a folder of their own.",
)
@click.option("--no-maps", is_flag=True, help="With -o: no heat maps, which is faster.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Very many images: N processes write a table below -o, which may be a URL, as PATH may.",
)
@click.option("--ray", metavar="ADDRESS", help="The same on a Ray cluster; 'local' begins one.")
@click.option(
    "--table", type=click.Choice(("parquet", "jsonl")), default="parquet", help="Format of that table."
)
@results_options
@stream_options
@batch_size_option
@overwrite_option
@quiet_option
@reading_options
def detect(
    paths: tuple[str, ...],
    detector: str | None,
    good: tuple[str, ...],
    together: bool,
    false_alarms: float | None,
    shifts: bool,
    roi: str | None,
    ignore: str | None,
    seed: int | None,
    threshold: float | None,
    threshold_logit: float | None,
    fail_on_anomaly: bool,
    output: str | None,
    no_maps: bool,
    workers: int | None,
    ray: str | None,
    table: Literal["parquet", "jsonl"],
    exports: tuple[Format, ...],
    save_maps: bool,
    null: bool,
    follow: bool,
    batch_size: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Judge the images in PATH... (files, folders, patterns, or - for paths on standard input): higher
    scores are more anomalous.

    With --good they are compared with photos of good parts, with --together with one another: both give
    verdicts. Words alone only rank. Without -o, one JSON object per image goes to stdout. Images that cannot
    be read are reported, the others go on, and the exit code is 3.
    """
    given = _given_threshold(threshold, threshold_logit)
    if good and together:
        raise UsageError("--good compares with good photos and --together with one another; use only one")
    if shifts and not good:
        raise UsageError("--shifts makes copies of good photos; give them with --good")
    stream = paths_from_stdin(paths, null=null, follow=follow)
    chosen = take_options(options, seed)
    if workers is not None or ray is not None or any("://" in place for place in (*paths, output or "")):
        from zeroflaw.cli.bulk import Bulk, detect_many  # needs an extra

        bulk = Bulk(
            output, workers, ray, table, overwrite, batch_size, save_maps, given, chosen.engine, quiet
        )
        bulk.refuse(
            {
                "good": good,
                "together": together,
                "export": exports,
                "roi": roi,
                "ignore": ignore,
                "follow": follow,
            }
        )
        ready = open_detector(detector or "rwda", chosen, quiet=quiet)
        _need_threshold(ready, fail_on_anomaly, given)
        return _exit_code(fail_on_anomaly, *detect_many(paths, ready, detector or "rwda", bulk))
    target = None if output is None else Path(output)
    found = _found(paths, stream, follow, quiet)
    wanted = Wanted(exports, save_maps)
    _require_place(target, overwrite, follow=follow, wanted=wanted, no_maps=no_maps)
    tell_skipped(found, quiet)
    name = detector or ("memory" if good else "mutual" if together else "rwda")
    settings = _settings(bool(good), together, roi=roi, ignore=ignore, false_alarms=false_alarms)
    if good:
        photos = find_images(good)
        found = found if follow else _without_good(found, photos, quiet)
        more = (*settings, *("shifts=default",) * shifts)
        ready = _open_with_good(name, chosen, photos, more, quiet)
    else:
        ready = open_detector(name, replace(chosen, settings=(*settings, *chosen.settings)), quiet=quiet)
    _check_batch(ready, together, follow)
    calibration = getattr(ready, "calibration_", None)
    _need_threshold(ready, fail_on_anomaly, given)
    start = time.perf_counter()
    about = f"detector {ready.name} · backbone {ready.get_params().get('backbone', 'none')}"
    watch = None if calibration is None else Watch(calibration)
    with (
        reading(white=getattr(ready, "white", None)),  # photos are read once more to be drawn
        with_bar(total=None if follow else len(found), title="detect", quiet=quiet) as bar,
        open_results(
            target,
            found.paths,
            overwrite=overwrite,
            about=about,
            gone=lambda prediction, error: run.lose(prediction, error),
            calibrations={} if calibration is None else {"": calibration},
            wanted=wanted,
            keep=not ready.needs.whole_batch,
        ) as results,
    ):
        run = Run(results, bar, watch, ready.needs.whole_batch)
        maps = target is not None and not no_maps
        for some in ((path,) for path in stream) if stream and follow else (found.paths,):
            judged = ready.predict(some, maps=maps, batch_size=batch_size, on_error=run.refuse)
            run.write(some, judged if given is None else (_with_given(one, given) for one in judged))
        lines = results.finish(target, alarm=None if watch is None else watch.alarm())
    say(run.summary(time.perf_counter() - start), quiet)
    for text in (*run.warnings(), *(f"wrote {line}" for line in lines)):
        say(text, quiet)
    return _exit_code(fail_on_anomaly, run.anomalous, run.unreadable)


def _need_threshold(detector: Detector, fail_on_anomaly: bool, given: float | None) -> None:
    if fail_on_anomaly and given is None and getattr(detector, "threshold_rule", None) is None:
        raise UsageError(
            "--fail-on-anomaly needs a verdict, and there is no threshold; give good photos with --good, a "
            "calibrated detector, or --threshold"
        )


def _exit_code(fail_on_anomaly: bool, anomalous: int, unreadable: int) -> int:
    if unreadable:  # before anomalous ones: the answer is not complete
        return InputError.exit_code
    return ANOMALOUS if fail_on_anomaly and anomalous else 0


def _found(paths: tuple[str, ...], stream: Iterator[Path] | None, follow: bool, quiet: bool) -> ImageList:
    """Return what is to be judged; nothing is known of it beforehand where it is followed."""
    if stream is None:
        return without_results(find_images(paths), quiet)
    return ImageList(()) if follow else list_paths(stream)


def _require_place(
    target: Path | None, overwrite: bool, *, follow: bool, wanted: Wanted, no_maps: bool
) -> None:
    """Compare where results go with how photos come, and with what else is wanted.

    Raises:
        UsageError: they do not go together, or the folder is not free.
    """
    more = bool(wanted.exports) or wanted.save_maps
    if target is None and more:
        raise UsageError("exports and saved maps need a folder to be written to; add -o DIR")
    if no_maps and more:
        raise UsageError("exports and saved maps are made of maps; drop --no-maps")
    if target is None:
        return
    if follow:
        raise UsageError("--follow answers each photo at once, on standard output; drop -o")
    require_free(target, overwrite, written)


def _check_batch(ready: Detector, together: bool, follow: bool) -> None:
    """Compare how photos come with how the detector judges them.

    Raises:
        UsageError: they do not go together.
    """
    if follow and ready.needs.whole_batch:
        raise UsageError(f"{ready.name} compares all photos with one another; drop --follow")
    if together and not ready.needs.whole_batch:
        raise UsageError(
            f"{ready.name} judges every photo by itself; drop --together, or take --detector mutual"
        )


def _with_given(prediction: Prediction, threshold: float) -> Prediction:
    """Return a prediction with the threshold that was given, and all that is known beside it."""
    return prediction.with_threshold(
        threshold, GIVEN, p_value=prediction.p_value, map_threshold=prediction.map_threshold
    )


def _settings(good: bool, together: bool, **given: str | float | None) -> tuple[str, ...]:
    """Return options of --good and --together as settings of their detectors.

    Raises:
        UsageError: one was given without either of the two.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if said and not good and not together:
        flag = next(iter(said)).replace("_", "-")
        raise UsageError(
            f"--{flag} needs photos to compare with: use it with --good or --together, or set it when the "
            "detector is made"
        )
    return tuple(f"{name}={value}" for name, value in said.items())


def _given_threshold(score: float | None, logit: float | None) -> float | None:
    """Return the threshold that was given, as log-odds.

    Raises:
        UsageError: it is no score, or both were given.
    """
    if score is None:
        return logit
    if logit is not None:
        raise UsageError("--threshold and --threshold-logit are one threshold in two units; give one of them")
    if not 0 <= score <= 1:
        raise UsageError(
            f"--threshold wants a score from 0 to 1, got {score}; log-odds go to --threshold-logit"
        )
    return max(float(log_odds(min(score, 1 - 1e-16))), -BEYOND)  # finite, as JSON wants it


def _without_good(found: ImageList, good: ImageList, quiet: bool) -> ImageList:
    """Leave out good photos that would be judged as well: what was remembered finds itself.

    Raises:
        InputError: nothing is left.
    """
    sizes = {path.stat().st_size for path in good.paths}
    known = {sha256(path) for path in good.paths}
    there = (path for path in found.paths if path.is_file())  # a path from standard input may not be
    same = [path for path in there if path.stat().st_size in sizes and sha256(path) in known]
    if same:
        count = f"{len(same)} photo{'s' * (len(same) != 1)}"
        say(f"zeroflaw: {count} left out, given as good ones, too: {same[0]} for example", quiet)
    left_out = set(same)
    rest = tuple(path for path in found.paths if path not in left_out)
    if not rest:
        raise InputError("all photos to judge are given as good ones, too; give others")
    return replace(found, paths=rest)


def _open_with_good(
    name: str, options: DetectorOptions, good: ImageList, settings: tuple[str, ...], quiet: bool
) -> Detector:
    """Return a detector that remembers good photos, or any other with a threshold that they set."""
    if not is_folder(name) and make(name).needs.reference_images:
        paths = tuple(map(str, good.paths))
        ready = open_detector(
            name, replace(options, reference=paths, settings=(*settings, *options.settings)), quiet=quiet
        )
        tell_fit(ready, paths, quiet)
        return ready
    said = dict(setting.split("=", 1) for setting in settings)
    share = float(said.pop("false_alarms", 0.05))
    for flag in said:
        raise UsageError(f"--{flag} is for detectors that remember good photos; take --detector memory")
    ready = open_detector(name, options, quiet=quiet)
    if not isinstance(ready, BackboneDetector):
        raise UsageError(f"{ready.name} does not use good photos; drop --good, or take --detector memory")
    with fit_bar(quiet) as progress:
        ready.calibrate(good.paths, false_alarms=share, progress=progress)
    assert ready.calibration_ is not None
    say(ready.calibration_.sentence(), quiet)
    return ready
