"""Where ``zeroflaw detect`` puts its results: JSON lines on stdout, or a folder with pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from zeroflaw._version import __version__
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.images import read_image, shown
from zeroflaw.report import ContactSheet, draw_heatmap, safe_name, write_png

if TYPE_CHECKING:
    from zeroflaw.detectors import Detector, Prediction

RESULTS = "predictions.jsonl"
MAPS = "maps"
SCHEMA = 1


class StdoutResults:
    """Writes one JSON object per image to stdout."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        click.echo(_line(prediction.to_dict()))

    def error(self, error: ImageError) -> None:
        """Write that an image could not be read."""
        click.echo(_line({"source": error.source, "error": error.reason}))

    def finish(self) -> None:
        """Nothing is left to do."""


class FolderResults:
    """Writes ``predictions.jsonl``, heat maps and the contact sheet; memory does not grow with the images.

    Lines go to ``predictions.jsonl.part``, which takes its final name at the end: a run that is stopped
    leaves whole lines there and never half a result under the final name.
    """

    def __init__(self, folder: Path, stream: IO[str], sheet: ContactSheet) -> None:
        self.folder = folder
        self.written: list[str] = []
        self._stream = stream
        self._sheet = sheet
        self._taken: set[str] = set()
        self._maps = 0

    def add(self, prediction: Prediction) -> None:
        """Write a prediction, and its heat map where it has a map."""
        image = read_image(prediction.source)
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
        write_png(self.folder / name, picture)
        self._maps += 1
        return name

    def error(self, error: ImageError) -> None:
        """Write that an image could not be read."""
        self._write({"source": error.source, "error": error.reason})

    def _write(self, row: dict[str, Any]) -> None:
        self._stream.write(_line(row) + "\n")

    def finish(self) -> None:
        """Give the results their final name and draw the contact sheet."""
        self._stream.flush()
        part = self.folder / f"{RESULTS}.part"
        part.replace(self.folder / RESULTS)
        self.written.append(str(self.folder / RESULTS))
        if self._maps:
            self.written.append(f"{self._maps} heat maps in {self.folder / MAPS}")
        if len(self._sheet):
            pages = self._sheet.write(self.folder)
            self.written += [str(page) for page in pages]


def _line(row: dict[str, Any]) -> str:
    # A name whose bytes are not UTF-8 has no place in JSON; it is written with escapes, as in messages.
    row = {"schema": SCHEMA, "zeroflaw": __version__} | row | {"source": shown(row["source"])}
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


@contextmanager
def open_results(
    folder: Path | None, detector: Detector, threshold: float | None, origin: str
) -> Iterator[StdoutResults | FolderResults]:
    """Open the place for results: ``folder``, or stdout where there is none.

    Raises:
        UsageError: the folder cannot be written to.
    """
    if folder is None:
        yield StdoutResults()
        return
    _clear(folder)
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
            (folder / f"{RESULTS}.part").open("w", encoding="utf-8") as stream,
        ):
            yield FolderResults(folder, stream, sheet)
    except OSError as error:
        raise UsageError(
            f"results could not be written to {folder}: {error.strerror or error}; choose another with -o"
        ) from error


def _clear(folder: Path) -> None:
    """Remove what an earlier run wrote, so that no stale picture lies beside new results."""
    for pattern in (RESULTS, f"{RESULTS}.part", "contact-sheet-*.png", f"{MAPS}/*.png"):
        for path in folder.glob(pattern):
            path.unlink()
