"""All photos of a run at a glance, the most anomalous first."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zeroflaw.errors import UsageError
from zeroflaw.report import colours, drawing
from zeroflaw.report.colours import Pixels
from zeroflaw.report.drawing import Span, Spool
from zeroflaw.report.heatmap import overlay

PER_PAGE = 40
SHEETS = "contact-sheet-*.png"
_SIDE = 180  # longest side of a thumbnail
_GAP = 16
_TEXT = 46  # below a tile: two lines
_HEAD = 92
_EDGE = 24


def page_names(photos: int) -> list[str]:
    """Return the file names of a contact sheet of so many photos."""
    pages = math.ceil(photos / PER_PAGE)
    digits = max(2, len(str(pages)))
    return [SHEETS.replace("*", f"{number:0{digits}}") for number in range(1, pages + 1)]


@dataclass(frozen=True, slots=True)
class _Tile:
    name: str
    score: float
    rank_by: float
    label: bool | None
    photo: Span
    heat: Span | None


class ContactSheet(Spool):
    """Collects thumbnails while a run goes on and draws them ranked by score when it is over.

    Thumbnails wait in a temporary file, so memory does not grow with the size or number of the photos but for
    a few hundred bytes each. Use as a context manager, which removes that file.

    Args:
        about: what the heading says of the run: detector, backbone.
        threshold: score from which a photo counts as flawed, or None while there is none.
        threshold_from: where the threshold came from, in words.
    """

    def __init__(
        self, about: str, *, threshold: float | None = None, threshold_from: str | None = None
    ) -> None:
        super().__init__()
        self.about = about
        self.threshold = threshold
        self.threshold_from = threshold_from
        self._tiles: list[_Tile] = []
        self._anchored = False

    def __len__(self) -> int:
        return len(self._tiles)

    def add(
        self,
        name: str,
        image: Pixels,
        score: float,
        *,
        rank_by: float | None = None,
        values: NDArray[np.floating] | None = None,
        label: bool | None = None,
        map_threshold: float | None = None,
    ) -> None:
        """Take in one photo ``(H, W, 3)`` with its score and, where there is one, its map ``(h, w)``.

        ``rank_by`` orders photos whose scores are equal to all their digits, the log-odds for example; it is
        the score where it is not given. ``map_threshold`` anchors the map's colours; see
        `zeroflaw.report.overlay`.

        Raises:
            UsageError: the score is not finite, or see `zeroflaw.report.overlay`.
        """
        if not math.isfinite(score):
            raise UsageError(f"a score to rank by must be a finite number; {name} has {score}")
        photo = drawing.scaled(image, _SIDE)
        heat = None
        if values is not None:
            heat = self.keep(drawing.jpeg(overlay(photo, values, threshold=map_threshold)))
            self._anchored = map_threshold is not None
        rank = score if rank_by is None else rank_by
        self._tiles.append(_Tile(name, score, rank, label, self.keep(drawing.jpeg(photo)), heat))

    def write(self, folder: Path) -> list[Path]:
        """Write ``contact-sheet-01.png`` and so on into ``folder`` and return their paths."""
        paths = [folder / name for name in page_names(len(self))]
        for path, page in zip(paths, self.pages(), strict=True):
            drawing.write_png(path, page)
        return paths

    def pages(self) -> Iterator[Pixels]:
        """Yield the pages, uint8 ``(H, W, 3)``, one at a time; ties keep the order in which they came."""
        ranked = sorted(self._tiles, key=lambda tile: -tile.rank_by)
        for start in range(0, len(ranked), PER_PAGE):
            yield self._page(ranked[start : start + PER_PAGE], start)

    def _kept(self, span: Span) -> Image.Image:
        return Image.open(io.BytesIO(self.kept(span)), formats=["JPEG"])

    def _page(self, tiles: list[_Tile], start: int) -> Pixels:
        paired = any(tile.heat for tile in self._tiles)
        across = 2 * _SIDE + 4 if paired else _SIDE
        columns = min(4 if paired else 8, max(len(tiles), 2 if paired else 4))
        rows = math.ceil(len(tiles) / columns)
        wide = 2 * _EDGE + columns * across + (columns - 1) * _GAP
        tall = _HEAD + rows * (_SIDE + _TEXT + _GAP) + _EDGE - _GAP
        sheet = Image.new("RGB", (wide, tall), colours.PAPER)
        self._heading(sheet, start // PER_PAGE + 1, paired)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, columns)
            at = (_EDGE + column * (across + _GAP), _HEAD + row * (_SIDE + _TEXT + _GAP))
            self._draw_tile(sheet, at, across, tile, start + index + 1)
        return np.asarray(sheet)

    def _heading(self, sheet: Image.Image, number: int, bar: bool) -> None:
        page = ImageDraw.Draw(sheet)
        room = sheet.width - 2 * _EDGE
        if bar:
            room -= 250
            box = (sheet.width - _EDGE - 210, 28, sheet.width - _EDGE - 12, 42)
            drawing.colour_bar(sheet, box, anchored=self._anchored)
            drawing.write(page, (box[0], 8), "heat map, same scale for all", size=13, colour=colours.FAINT)
        pages = len(page_names(len(self)))
        which = f" · page {number} of {pages}" if pages > 1 else ""
        drawing.write(page, (_EDGE, 16), f"Most anomalous first{which}", size=24, room=room)
        drawing.write(page, (_EDGE, 50), self._facts(), size=14, colour=colours.FAINT, room=room)
        page.line((_EDGE, _HEAD - 14, sheet.width - _EDGE, _HEAD - 14), fill=colours.LINE)

    def _facts(self) -> str:
        facts = f"{len(self)} image{'s' * (len(self) != 1)} · {self.about} · "
        if self.threshold is None:
            return facts + "no threshold yet"
        flawed = sum(bool(tile.label) for tile in self._tiles)
        origin = f" ({self.threshold_from})" if self.threshold_from else ""
        return f"{facts}{flawed} at or above threshold {drawing.number(self.threshold)}{origin}"

    def _draw_tile(
        self, sheet: Image.Image, at: tuple[int, int], across: int, tile: _Tile, rank: int
    ) -> None:
        left, top = at
        for column, span in enumerate([tile.photo, tile.heat]):
            if span is not None:
                with self._kept(span) as thumb:
                    shift = ((_SIDE - thumb.width) // 2, _SIDE - thumb.height)
                    sheet.paste(thumb, (left + column * (_SIDE + 4) + shift[0], top + shift[1]))
        page, line = ImageDraw.Draw(sheet), top + _SIDE + 18
        drawing.write(page, (left, line), f"{rank}", size=14, colour=colours.FAINT, anchor="ls")
        indent = left + 10 + drawing.width(f"{rank}", 14)
        drawing.write(page, (indent, line), drawing.number(tile.score, 3), size=16, anchor="ls")
        drawing.verdict(page, (left + across, line), tile.label, size=14)
        below = (left, line + 19)
        drawing.write(page, below, tile.name, size=13, colour=colours.FAINT, anchor="ls", room=across)
