"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder of their own."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click

from zeroflaw._version import __version__
from zeroflaw.cli.folders import fresh_folder
from zeroflaw.cli.output import put_json, repeated, say
from zeroflaw.errors import ImageError, InputError
from zeroflaw.finding import RESULT_SHEETS, RESULTS, is_results
from zeroflaw.images import ImageList, shown
from zeroflaw.report.exports import FILES, FORMATS, Format
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

SCHEMA = 1
TABLE = "predictions.csv"
MAPS = "maps"
MASKS = "masks"
PAGE = "report.html"
_PER_PHOTO = ("heat_map", "mask", "map", "labels")  # keys of rows that name files


Gone = Callable[[Prediction, ImageError], object]


class Wanted(NamedTuple):
    """What a folder of results holds beside the usual."""

    exports: tuple[Format, ...] = ()
    save_maps: bool = False


def results_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--export`` and ``--save-maps``; the command's parameters are called like fields of `Wanted`."""
    maps = "With -o: also maps/NAME.npy, float32 at image size."
    regions = "With -o: also regions for another tool."
    export = repeated("--export", "exports", type=click.Choice(FORMATS), help=regions)
    return export(click.option("--save-maps", is_flag=True, help=maps)(command))


class Results:
    """Takes in one row after the other and hands it to ``write``; memory hardly grows with the images."""

    def __init__(self, write: Callable[[dict[str, Any]], object]) -> None:
        self._write = write

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        self.write(prediction.to_dict())

    def write(self, row: dict[str, Any]) -> None:
        """Write what is said of an image, under its source."""
        # A name whose bytes are not UTF-8 has no place in JSON; it is written with escapes, as in messages.
        self._write({"schema": SCHEMA, "zeroflaw": __version__} | row | {"source": shown(row["source"])})

    def finish(self, target: Path | None, *, alarm: str | None = None) -> list[str]:
        """Write what is left, and name what was written into the folder that will be ``target``.

        ``alarm`` stands on top of the page: what to look at before anything else.
        """
        return []


@contextmanager
def open_results(
    target: Path | None,
    sources: Sequence[Path],
    *,
    overwrite: bool,
    about: str,
    gone: Gone,
    calibrations: Mapping[str, Calibration] | None = None,
    wanted: Wanted,
    keep: bool = True,
) -> Iterator[Results]:
    """Open the place for the results of judging ``sources``: a folder, or stdout where ``target`` is None.

    The folder appears, whole, when everything is written; until then an earlier one stays as it is.

    Args:
        target: the folder.
        sources: all images of the run.
        overwrite: whether earlier results may be replaced.
        about: detector and backbone, in words.
        gone: called with what was said of a photo, and why it cannot be read again to be drawn.
        calibrations: of products, for the page; see `Page`.
        wanted: what else is written.
        keep: photos are drawn soon after they were read, so that they are kept until then; those that a
            detector judges all together would be too many.

    Raises:
        UsageError: the folder holds something that stays, or cannot be written to.
    """
    if target is None:
        yield Results(put_json)
        return
    from zeroflaw.cli.drawn import open_folder  # drawing, which lines on stdout do without

    with (
        fresh_folder(target, overwrite, written) as fresh,
        open_folder(fresh, sources, about, calibrations, wanted, gone, keep=keep) as results,
    ):
        yield results


def written(folder: Path) -> set[str]:
    """Return the files that a run of ``detect`` wrote into its folder; none where no run did."""
    if not is_results(folder):
        return set()
    named = {RESULTS, TABLE, PAGE, *(name for names in FILES.values() for name in names)}
    with (folder / RESULTS).open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
                named |= {str(row.get(key)) for key in _PER_PHOTO}
            except (ValueError, AttributeError):
                return set()
    return named | {path.name for path in folder.glob(RESULT_SHEETS)}  # of earlier versions


def without_results(found: ImageList, quiet: bool) -> ImageList:
    """Leave out pictures and lines that runs of ``detect`` wrote, and say so; they are nothing to be judged.

    Raises:
        InputError: nothing is left.
    """
    ours = cache(is_results)  # each folder is looked at once
    homes = {path: home for path in (*found.paths, *found.skipped) if (home := _home(path, ours)) is not None}
    for home in dict.fromkeys(homes.values()):
        say(f"zeroflaw: {home}: results of an earlier run, left out", quiet)
    paths, skipped = (
        tuple(path for path in some if path not in homes) for some in (found.paths, found.skipped)
    )
    if not paths:
        raise InputError("only results of an earlier run were named; give photos to judge")
    return replace(found, paths=paths, skipped=skipped)


def _home(path: Path, ours: Callable[[Path], bool]) -> Path | None:
    """Return the folder of results that a file belongs to, or None."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  links are not resolved: their place counts
    homes = [folder.parent for folder in absolute.parents if folder.name in (MAPS, MASKS)]
    if path.name == RESULTS or fnmatch.fnmatch(path.name, RESULT_SHEETS):
        homes.append(absolute.parent)
    return next((home for home in homes if ours(home)), None)
