"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder of their own."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from zeroflaw.errors import InputError, UsageError
from zeroflaw.finding import RESULTS, is_results
from zeroflaw.images import ImageList, read_image, shown
from zeroflaw.report import (
    FORMATS,
    PAGE,
    SHEETS,
    ContactSheet,
    Exports,
    Page,
    draw_heatmap,
    page_names,
    safe_path,
    write_png,
)
from zeroflaw.report.exports import FILES, Format
from zeroflaw.report.names import parts, shared_folders
from zeroflaw.report.tables import COLUMNS, csv_line, table_row
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

SCHEMA = 1
TABLE = "predictions.csv"
MAPS = "maps"
MASKS = "masks"
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
        """Write a prediction.

        Raises:
            ImageError: the image, which may be read once more to be drawn, is gone; nothing is written.
        """
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


class DrawnResults(Results):
    """Writes a folder: rows as JSON lines and CSV, pictures, a contact sheet, a page, exports.

    Args:
        folder: where everything goes.
        rows: open file for JSON lines.
        table: open file for CSV.
        sheet: collects thumbnails.
        page: collects the page.
        wanted: what else is written.
        sources: all images of the run.
    """

    def __init__(
        self,
        folder: Path,
        rows: TextIO,
        table: TextIO,
        sheet: ContactSheet,
        page: Page,
        wanted: Wanted,
        sources: Sequence[str],
    ) -> None:
        super().__init__(lambda row: rows.write(json_line(row) + "\n"))
        self._folder, self._sheet, self._page, self._table = folder, sheet, page, table
        self._table.write(csv_line(COLUMNS))
        self._wanted, self._exports = wanted, Exports(folder, wanted.exports)
        self._product, self._shared = product_of(sources), shared_folders(sources)
        self._taken: set[str] = set()
        self._maps = self._masks = 0

    @override
    def add(self, prediction: Prediction) -> None:
        image = read_image(prediction.source, name=prediction.source)
        row, label, score = prediction.to_dict(), prediction.label, prediction.score
        names = parts(prediction.source)[self._shared :]
        title, name = shown("/".join(names)), safe_path(names, self._taken)
        line = prediction.map_threshold
        if prediction.map is not None:
            drawn = draw_heatmap(image, prediction.map, threshold=line, score=score, label=label, title=title)
            write_png(self._place(row, "heat_map", f"{MAPS}/{name}.png"), drawn)
            self._maps += 1
            if self._wanted.save_maps:
                np.save(self._place(row, "map", f"{MAPS}/{name}.npy"), prediction.resized_map())
            if line is not None:
                marked = np.where(prediction.mask(), 255, 0).astype(np.uint8)
                write_png(self._place(row, "mask", f"{MASKS}/{name}.png"), marked)
                self._masks += 1
        self._exports.add(prediction, name)
        if "yolo" in self._wanted.exports:
            row["labels"] = f"labels/{name}.txt"
        rank = prediction.logit  # scores may be equal to all their digits
        self._sheet.add(
            title, image, score, rank_by=rank, values=prediction.map, label=label, map_threshold=line
        )
        product = shown(self._product(prediction.source))
        self._page.add(title.removeprefix(f"{product}/"), image, prediction, product=product)
        self._table.write(csv_line(table_row(prediction).values()))
        super().write(row)

    @override
    def write(self, row: dict[str, Any]) -> None:
        """Write what is said of an image that could not be judged."""
        self._table.write(csv_line(row.get(column) for column in COLUMNS))
        self._page.refuse(shown("/".join(parts(row["source"])[self._shared :])), str(row["error"]))
        super().write(row)

    @override
    def finish(self, target: Path | None, *, alarm: str | None = None) -> list[str]:
        target = target or self._folder
        self._page.alarm = alarm
        pages = [page.name for page in self._sheet.write(self._folder)]
        self._page.write(self._folder / PAGE)
        said = [shown(target / name) for name in (PAGE, RESULTS, TABLE)]
        for what, count, place in (("heat map", self._maps, MAPS), ("mask", self._masks, MASKS)):
            said += [f"{count} {what}{'s' * (count != 1)} in {shown(target / place)}"] * bool(count)
        return said + [shown(target / name) for name in (*pages, *self._exports.finish())]

    def _place(self, row: dict[str, Any], key: str, name: str) -> Path:
        row[key] = name
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
    threshold: float | None = None,
    threshold_from: str | None = None,
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
        threshold: score of the contact sheet's heading, with where it came from in ``threshold_from``.
        threshold_from: see ``threshold``.
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
        sheet = ContactSheet(about, threshold=threshold, threshold_from=threshold_from)
        page = Page(about, calibrations=calibrations)
        rows = stack.enter_context((fresh / RESULTS).open("w", encoding="utf-8"))
        table = stack.enter_context((fresh / TABLE).open("w", encoding="utf-8", newline=""))
        stack.enter_context(sheet)
        stack.enter_context(page)
        yield DrawnResults(fresh, rows, table, sheet, page, wanted, list(map(str, sources)))


def written(folder: Path) -> set[str]:
    """Return the files that a run of ``detect`` wrote into its folder; none where no run did."""
    if not is_results(folder):
        return set()
    named = {RESULTS, TABLE, PAGE, *(name for names in FILES.values() for name in names)}
    images = 0
    with (folder / RESULTS).open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
                images += "error" not in row
                named |= {str(row.get(key)) for key in _PER_PHOTO}
            except (ValueError, AttributeError):
                return set()
    return named | set(page_names(images))


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
    if path.name == RESULTS or fnmatch.fnmatch(path.name, SHEETS):
        homes.append(absolute.parent)
    return next((home for home in homes if ours(home)), None)
