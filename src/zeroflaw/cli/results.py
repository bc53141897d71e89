"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder of their own."""

from __future__ import annotations

import fnmatch
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
import numpy as np
from typing_extensions import override

from zeroflaw._version import __version__
from zeroflaw.cli.folders import fresh_folder
from zeroflaw.cli.output import json_line, put_json, repeated, say
from zeroflaw.errors import ImageError, InputError, UsageError
from zeroflaw.finding import RESULT_SHEETS, RESULTS, is_results
from zeroflaw.images import ImageList, read_image, shown
from zeroflaw.report import (
    FORMATS,
    PAGE,
    Exports,
    Page,
    caption,
    panel,
    pictures_of,
    safe_path,
    write_png,
)
from zeroflaw.report.exports import FILES, Format
from zeroflaw.report.names import parts, shared_folders
from zeroflaw.report.page import Pictures
from zeroflaw.report.tables import COLUMNS, csv_line, table_row
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

SCHEMA = 1
TABLE = "predictions.csv"
MAPS = "maps"
MASKS = "masks"
MOST_WAITING = 4  # photos that are being drawn; each is in memory
_PER_PHOTO = ("heat_map", "mask", "map", "labels")  # keys of rows that name files
_SPLITS = ("test", "train")  # folders of a product in data sets


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


class Drawn(NamedTuple):
    """What was drawn of a photo: files by their keys in its row, and the pictures of its card."""

    files: dict[str, str]
    pictures: Pictures


class DrawnResults(Results):
    """Writes a folder: rows as JSON lines and CSV, pictures, a page, exports.

    Pictures are drawn and written by threads, beside the judging of the next photos; rows keep their order.

    Args:
        folder: where everything goes.
        rows: open file for JSON lines.
        table: open file for CSV.
        page: collects the page.
        wanted: what else is written.
        sources: all images of the run.
        gone: called with the error of a photo that could be judged but not be read again.
    """

    def __init__(
        self,
        folder: Path,
        rows: TextIO,
        table: TextIO,
        page: Page,
        wanted: Wanted,
        sources: Sequence[str],
        gone: Callable[[ImageError], object],
    ) -> None:
        super().__init__(lambda row: rows.write(json_line(row) + "\n"))
        self._folder, self._page, self._table = folder, page, table
        self._table.write(csv_line(COLUMNS))
        self._wanted, self._exports, self._gone = wanted, Exports(folder, wanted.exports), gone
        self._product, self._shared = product_of(sources), shared_folders(sources)
        self._taken: set[str] = set()
        self._maps = self._masks = 0
        self._pool = ThreadPoolExecutor(2)
        self._waiting: deque[Callable[[], object]] = deque()

    @override
    def add(self, prediction: Prediction) -> None:
        names = parts(prediction.source)[self._shared :]
        title, name = shown("/".join(names)), safe_path(names, self._taken)
        job = self._pool.submit(self._draw, prediction, title, name)
        self._later(lambda: self._finished(prediction, title, name, job))

    def _draw(self, prediction: Prediction, title: str, name: str) -> Drawn:
        """Draw and write the pictures of a photo, in a thread."""
        image, line = read_image(prediction.source, name=prediction.source), prediction.map_threshold
        if prediction.map is None:
            return Drawn({}, pictures_of(image, prediction))
        found = {"heat_map": f"{MAPS}/{name}.png"}
        drawn = panel(image, prediction.map, threshold=line)
        score, label = prediction.score, prediction.label
        whole = caption(drawn, threshold=line, score=score, label=label, title=title)
        write_png(self._place(found["heat_map"]), whole)
        if self._wanted.save_maps:
            found["map"] = f"{MAPS}/{name}.npy"
            np.save(self._place(found["map"]), prediction.resized_map())
        if line is not None:
            found["mask"] = f"{MASKS}/{name}.png"
            write_png(self._place(found["mask"]), np.where(prediction.mask(), 255, 0).astype(np.uint8))
        return Drawn(found, pictures_of(image, prediction, drawn))

    def _finished(self, prediction: Prediction, title: str, name: str, job: Future[Drawn]) -> None:
        """Write the row of a photo whose pictures are drawn."""
        try:
            drawn = job.result()
        except ImageError as error:
            self._gone(error)
            self._refused({"source": prediction.source, "error": error.reason})
            return
        row = prediction.to_dict() | drawn.files
        self._maps += "heat_map" in drawn.files
        self._masks += "mask" in drawn.files
        self._exports.add(prediction, name)
        if "yolo" in self._wanted.exports:
            row["labels"] = f"labels/{name}.txt"
        product = shown(self._product(prediction.source))
        self._page.add(title.removeprefix(f"{product}/"), drawn.pictures, prediction, product=product)
        self._table.write(csv_line(table_row(prediction).values()))
        super().write(row)

    def _later(self, finish: Callable[[], object] | None = None) -> None:
        """Let ``finish`` wait for its turn, and finish what waits longest; everything without it."""
        if finish is not None:
            self._waiting.append(finish)
        while len(self._waiting) > (0 if finish is None else MOST_WAITING):
            self._waiting.popleft()()

    @override
    def write(self, row: dict[str, Any]) -> None:
        """Write what is said of an image that could not be judged."""
        self._later(lambda: self._refused(row))

    def _refused(self, row: dict[str, Any]) -> None:
        self._table.write(csv_line(row.get(column) for column in COLUMNS))
        self._page.refuse(shown("/".join(parts(row["source"])[self._shared :])), str(row["error"]))
        super().write(row)

    @override
    def finish(self, target: Path | None, *, alarm: str | None = None) -> list[str]:
        self._later()
        target = target or self._folder
        self._page.alarm = alarm
        self._page.write(self._folder / PAGE)
        said = [shown(target / name) for name in (PAGE, RESULTS, TABLE)]
        for what, count, place in (("heat map", self._maps, MAPS), ("mask", self._masks, MASKS)):
            said += [f"{count} {what}{'s' * (count != 1)} in {shown(target / place)}"] * bool(count)
        return said + [shown(target / name) for name in self._exports.finish()]

    def close(self) -> None:
        """Let go of the threads; what they were about to draw is not drawn."""
        self._pool.shutdown(cancel_futures=True)

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def product_of(sources: Sequence[str]) -> Callable[[str], str]:
    """Return what tells the product of a source: the first folder that not all sources share.

    Where all lie in a folder of one product ("bottle/test/..."), or side by side, it is one product: "".
    """
    shared = shared_folders(sources)
    common = parts(sources[0])[:shared] if sources else []
    if common and common[-1] in _SPLITS:
        return lambda source: ""
    return lambda source: parts(source)[shared] if len(parts(source)) > shared + 1 else ""


@contextmanager
def open_results(
    target: Path | None,
    sources: Sequence[Path],
    *,
    overwrite: bool,
    about: str,
    gone: Callable[[ImageError], object],
    calibrations: Mapping[str, Calibration] | None = None,
    wanted: Wanted,
) -> Iterator[Results]:
    """Open the place for the results of judging ``sources``: a folder, or stdout where ``target`` is None.

    The folder appears, whole, when everything is written; until then an earlier one stays as it is.

    Args:
        target: the folder.
        sources: all images of the run.
        overwrite: whether earlier results may be replaced.
        about: detector and backbone, in words.
        gone: called with the error of a photo that was judged and cannot be read again.
        calibrations: of products, for the page; see `Page`.
        wanted: what else is written.

    Raises:
        UsageError: the folder holds something that stays, cannot be written to, or is missing for exports.
    """
    if target is None:
        if wanted.exports or wanted.save_maps:
            raise UsageError("exports and saved maps need a folder to be written to; add -o DIR")
        yield Results(put_json)
        return
    with fresh_folder(target, overwrite, written) as fresh, ExitStack() as stack:
        page = Page(about, calibrations=calibrations)
        rows = stack.enter_context((fresh / RESULTS).open("w", encoding="utf-8"))
        table = stack.enter_context((fresh / TABLE).open("w", encoding="utf-8", newline=""))
        stack.enter_context(page)
        names = list(map(str, sources))
        drawn = stack.enter_context(closing(DrawnResults(fresh, rows, table, page, wanted, names, gone)))
        yield drawn


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
