"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder of their own."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from zeroflaw._version import __version__
from zeroflaw.cli.output import json_line, put_json, require_free, say
from zeroflaw.errors import InputError
from zeroflaw.files import whole_folder
from zeroflaw.images import ImageList, read_image, shown
from zeroflaw.report import SHEETS, ContactSheet, draw_heatmap, page_names, safe_path, write_png
from zeroflaw.report.names import parts, shared_folders
from zeroflaw.runtime.prediction import Prediction

SCHEMA = 1
RESULTS = "predictions.jsonl"
MAPS = "maps"
_START = b'{"schema": '  # how every line of ours begins


class Results:
    """Takes in one row after the other; memory hardly grows with the images.

    Args:
        write: takes a row.
    """

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

    def finish(self, target: Path | None) -> list[str]:
        """Write what is left, and name what was written into the folder that will be ``target``."""
        return []


class DrawnResults(Results):
    """Also draws heat maps and a contact sheet into a folder.

    Args:
        write: takes a row.
        folder: where pictures go.
        sheet: collects thumbnails.
        shared: how many leading folders all images have in common; they are left out of names.
    """

    def __init__(
        self, write: Callable[[dict[str, Any]], object], folder: Path, sheet: ContactSheet, shared: int
    ) -> None:
        super().__init__(write)
        self._folder, self._sheet, self._shared = folder, sheet, shared
        self._taken: set[str] = set()

    @override
    def add(self, prediction: Prediction) -> None:
        image = read_image(prediction.source, name=prediction.source)
        row, label, score = prediction.to_dict(), prediction.label, prediction.score
        names = parts(prediction.source)[self._shared :]
        title = shown("/".join(names))
        if prediction.map is not None:
            row["heat_map"] = f"{MAPS}/{safe_path(names, self._taken)}.png"
            path, line = self._folder / row["heat_map"], prediction.threshold
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_heatmap(image, prediction.map, threshold=line, score=score, label=label, title=title)
            write_png(path, drawn)
        rank = prediction.logit  # scores may be equal to all their digits
        self._sheet.add(title, image, score, rank_by=rank, values=prediction.map, label=label)
        self.write(row)

    @override
    def finish(self, target: Path | None) -> list[str]:
        target = target or self._folder
        pages = self._sheet.write(self._folder)
        maps = f"{len(self._taken)} heat map{'s' * (len(self._taken) != 1)} in {shown(target / MAPS)}"
        return [
            shown(target / RESULTS),
            *[maps] * bool(self._taken),
            *(shown(target / p.name) for p in pages),
        ]


@contextmanager
def open_results(
    target: Path | None, sources: Sequence[Path], *, overwrite: bool, **sheet: Any
) -> Iterator[Results]:
    """Open the place for the results of judging ``sources``: a folder, or stdout where ``target`` is None.

    The folder appears, whole, when everything is written; until then an earlier one stays as it is.
    ``sheet`` are arguments of `ContactSheet`.

    Raises:
        UsageError: the folder holds something that stays, or cannot be written to.
    """
    if target is None:
        yield Results(put_json)
        return
    with whole_folder(target) as fresh:
        require_free(target, overwrite, written)  # once more: another run may have been faster
        with ContactSheet(**sheet) as thumbnails, (fresh / RESULTS).open("w", encoding="utf-8") as stream:

            def write(row: dict[str, Any]) -> None:
                stream.write(json_line(row) + "\n")

            yield DrawnResults(write, fresh, thumbnails, shared_folders(map(str, sources)))


def written(folder: Path) -> set[str]:
    """Return the files that a run of ``detect`` wrote into its folder; none where no run did."""
    if not is_ours(folder / RESULTS):
        return set()
    named, images = {RESULTS}, 0
    with (folder / RESULTS).open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
                images += "error" not in row
                named.add(str(row.get("heat_map")))
            except (ValueError, AttributeError):
                return set()
    return named | set(page_names(images))


def is_ours(results: Path) -> bool:
    """Whether this is a file of results that ``detect`` wrote."""
    if not results.is_file():
        return False
    with results.open("rb") as stream:
        return stream.read(len(_START)) == _START


def without_results(found: ImageList, quiet: bool) -> ImageList:
    """Leave out pictures and lines that runs of ``detect`` wrote, and say so; they are nothing to be judged.

    Raises:
        InputError: nothing is left.
    """
    ours = cache(is_ours)  # each folder is looked at once
    homes = {path: home for path in (*found.paths, *found.skipped) if (home := _home(path, ours)) is not None}
    for home in dict.fromkeys(homes.values()):
        say(f"zeroflaw: {home}: results of an earlier run, left out", quiet)
    paths, skipped = (
        tuple(path for path in some if path not in homes) for some in (found.paths, found.skipped)
    )
    if not paths:
        raise InputError("only results of an earlier run were named; give photos to judge")
    return ImageList(paths, skipped)


def _home(path: Path, ours: Callable[[Path], bool]) -> Path | None:
    """Return the folder of results that a file belongs to, or None."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  links are not resolved: their place counts
    homes = [folder.parent for folder in absolute.parents if folder.name == MAPS]
    if path.name == RESULTS or fnmatch.fnmatch(path.name, SHEETS):
        homes.append(absolute.parent)
    return next((home for home in homes if ours(home / RESULTS)), None)
