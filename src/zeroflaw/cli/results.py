"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder with pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from zeroflaw._version import __version__
from zeroflaw.cli.earlier import MAPS, RESULTS, UNFINISHED, Earlier
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.images import read_image, shown
from zeroflaw.report import ContactSheet, draw_heatmap, safe_name, write_png

if TYPE_CHECKING:
    from zeroflaw.detectors import Detector, Prediction

SCHEMA = 1
_WORK = ".zeroflaw-unfinished"


class StdoutResults:
    """Writes one JSON object per image to stdout, as UTF-8 whatever the terminal's encoding."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        click.echo(_line(prediction.to_dict()).encode())

    def error(self, error: ImageError) -> None:
        """Write that an image could not be read."""
        click.echo(_line({"source": error.source, "error": error.reason}).encode())

    def finish(self) -> None:
        """Nothing is left to do."""


class FolderResults:
    """Writes ``predictions.jsonl``, heat maps and the contact sheet; memory does not grow with the images.

    Lines go to ``predictions.jsonl.part`` and pictures to a hidden folder; `finish` puts them in place of
    what an earlier run left. A run that is stopped leaves its lines, each of them whole, under that name,
    without its pictures, and the earlier results as they were.
    """

    def __init__(self, earlier: Earlier, work: Path, stream: IO[str], sheet: ContactSheet) -> None:
        self.folder = earlier.folder
        self.written: list[str] = []
        self._earlier = earlier
        self._work = work
        self._stream = stream
        self._sheet = sheet
        self._taken = {Path(name).stem.casefold() for name in earlier.strangers}
        self._maps: list[str] = []

    def add(self, prediction: Prediction) -> None:
        """Write a prediction, and its heat map where it has a map.

        Raises:
            ImageError: the image, which is read once more to be drawn, is gone; nothing is written.
        """
        image = read_image(prediction.source, name=prediction.source)
        row = prediction.to_dict()
        if prediction.map is not None:
            row["heat_map"] = self._draw(prediction, image)
        self._sheet.add(
            shown(prediction.source),
            image,
            prediction.score,
            rank_by=prediction.logit,
            values=prediction.map,
            label=prediction.label,
        )
        self._write(row)

    def _draw(self, prediction: Prediction, image: Any) -> str:
        assert prediction.map is not None
        name = f"{MAPS}/{safe_name(prediction.source, self._taken)}.png"
        picture = draw_heatmap(
            image,
            prediction.map,
            threshold=prediction.threshold,
            score=prediction.score,
            label=prediction.label,
            title=shown(prediction.source),
        )
        write_png(self._work / name, picture)
        self._maps.append(name)
        return name

    def error(self, error: ImageError) -> None:
        """Write that an image could not be read."""
        self._write({"source": error.source, "error": error.reason})

    def _write(self, row: dict[str, Any]) -> None:
        self._stream.write(_line(row) + "\n")

    def finish(self) -> None:
        """Draw the contact sheet, and put everything in place of what an earlier run left."""
        pages = [page.name for page in self._sheet.write(self._work)]
        self._stream.close()
        # In this order the folder holds, at any time, no picture that its results do not speak of.
        self._earlier.remove()
        (self.folder / UNFINISHED).replace(self.folder / RESULTS)
        if self._maps:
            (self.folder / MAPS).mkdir(exist_ok=True)
        for name in (*self._maps, *pages):
            (self._work / name).replace(self.folder / name)
        self._tell(pages)

    def _tell(self, pages: list[str]) -> None:
        self.written.append(shown(self.folder / RESULTS))
        if self._maps:
            number = f"{len(self._maps)} heat map{'s' * (len(self._maps) != 1)}"
            self.written.append(f"{number} in {shown(self.folder / MAPS)}")
        self.written += [shown(self.folder / page) for page in pages]


def _line(row: dict[str, Any]) -> str:
    # A name whose bytes are not UTF-8 has no place in JSON; it is written with escapes, as in messages.
    row = {"schema": SCHEMA, "zeroflaw": __version__} | row | {"source": shown(row["source"])}
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


@contextmanager
def open_results(
    earlier: Earlier | None, detector: Detector, threshold: float | None, origin: str
) -> Iterator[StdoutResults | FolderResults]:
    """Open the place for results: a folder in which there is something ``earlier`` or not, or else stdout.

    Raises:
        UsageError: the folder cannot be written to.
    """
    if earlier is None:
        yield StdoutResults()
        return
    folder = earlier.folder
    backbone = str(detector.get_params().get("backbone", "none"))
    sheet = ContactSheet(
        detector=detector.name,
        backbone=backbone,
        threshold=threshold,
        threshold_from=None if threshold is None else origin,
    )
    try:
        with (
            sheet,
            _workplace(folder) as work,
            (folder / UNFINISHED).open("w", encoding="utf-8", buffering=1) as stream,  # whole lines
        ):
            yield FolderResults(earlier, work, stream, sheet)
    except OSError as error:
        raise UsageError(
            f"results could not be written to '{shown(folder)}' ({error.strerror or error}); "
            "choose another folder with -o"
        ) from error


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder for unfinished pictures; it goes in the end, and so does that of a killed run."""
    work = folder / _WORK
    if work.exists():
        shutil.rmtree(work)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
