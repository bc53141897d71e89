"""All photos of a run at a glance, the most anomalous first."""

from __future__ import annotations

import io
import itertools
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zeroflaw.errors import UsageError

from . import colours, drawing
from .colours import Pixels
from .heatmap import overlay

PER_PAGE = 40
SHEETS = "contact-sheet-*.png"
_SIDE = 180  # longest side of a thumbnail
_GAP = 16
_TEXT = 46  # below a tile: two lines
_HEAD = 92
_EDGE = 24

Span: TypeAlias = "tuple[int, int]"


def page_names(photos: int) -> list[str]:
    """Return the file names of a contact sheet of so many photos."""
    pages = math.ceil(photos / PER_PAGE)
    digits = max(2, len(str(pages)))
    return [SHEETS.replace("*", f"{number:0{digits}}") for number in range(1, pages + 1)]


@dataclass(frozen=True, slots=True)
class _Tile:
    source: str
    score: float
    rank_by: float
    label: bool | None
    photo: Span  # offset and length in the spool
    heat: Span | None


class ContactSheet:
    """Collects thumbnails while a run goes on and draws them ranked by score when it is over.

    Thumbnails wait in a temporary file, so memory does not grow with the size or number of the photos but for
    a few hundred bytes each. Use as a context manager, which removes that file.

    Args:
        detector: name of the detector, for the heading.
        backbone: name of the backbone, for the heading.
        low: value of the coldest colour of the heat maps.
        high: value of the hottest colour.
        threshold: score from which a photo counts as flawed, or None while there is none.
        threshold_from: where the threshold came from, in words.
    """

    def __init__(
        self,
        *,
        detector: str,
        backbone: str,
        low: float = 0.0,
        high: float = 1.0,
        threshold: float | None = None,
        threshold_from: str | None = None,
    ) -> None:
        self.detector = detector
        self.backbone = backbone
        self.low = low
        self.high = high
        self.threshold = threshold
        self.threshold_from = threshold_from
        self._tiles: list[_Tile] = []
        self._shared: list[str] | None = None  # leading folders of all sources, which are not shown
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()

    def __enter__(self) -> ContactSheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._tiles)

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    def add(
        self,
        source: str,
        image: Pixels,
        score: float,
        *,
        rank_by: float | None = None,
        values: NDArray[np.floating] | None = None,
        label: bool | None = None,
    ) -> None:
        """Take in one photo ``(H, W, 3)`` with its score and, where there is one, its map ``(h, w)``.

        ``rank_by`` orders photos whose scores are equal to all their digits, the log-odds for example; it is
        the score where it is not given.

        Raises:
            UsageError: the score is not finite, or see :func:`zeroflaw.report.overlay`.
        """
        if not math.isfinite(score):
            raise UsageError(f"a score to rank by must be a finite number; {source} has {score}")
        folders = _parts(source)[:-1]
        self._shared = folders if self._shared is None else _common(self._shared, folders)
        photo = drawing.scaled(image, _SIDE)
        heat = None if values is None else overlay(photo, values, low=self.low, high=self.high)
        self._tiles.append(
            _Tile(
                source,
                score,
                score if rank_by is None else rank_by,
                label,
                self._keep(photo),
                None if heat is None else self._keep(heat),
            )
        )

    def write(self, folder: Path) -> list[Path]:
        """Write ``contact-sheet-01.png`` and so on into ``folder`` and return their paths."""
        written = []
        for name, page in zip(page_names(len(self)), self.pages(), strict=True):
            drawing.write_png(folder / name, page)
            written.append(folder / name)
        return written

    def pages(self) -> Iterator[Pixels]:
        """Yield the pages, uint8 ``(H, W, 3)``, one at a time; ties keep the order in which they came."""
        ranked = sorted(self._tiles, key=lambda tile: -tile.rank_by)
        for start in range(0, len(ranked), PER_PAGE):
            yield self._page(ranked[start : start + PER_PAGE], start)

    def _pages(self) -> int:
        return math.ceil(len(self._tiles) / PER_PAGE)

    def _keep(self, picture: Pixels) -> Span:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=92, subsampling=0)
        offset = self._spool.seek(0, io.SEEK_END)
        return offset, self._spool.write(stream.getvalue())

    def _kept(self, span: Span) -> Image.Image:
        self._spool.seek(span[0])
        return Image.open(io.BytesIO(self._spool.read(span[1])), formats=["JPEG"])

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
            drawing.colour_bar(sheet, box, low=self.low, high=self.high)
            drawing.write(page, (box[0], 8), "heat map, same scale for all", size=13, colour=colours.FAINT)
        which = f" · page {number} of {self._pages()}" if self._pages() > 1 else ""
        drawing.write(page, (_EDGE, 16), f"Most anomalous first{which}", size=24, room=room)
        drawing.write(page, (_EDGE, 50), self._facts(), size=14, colour=colours.FAINT, room=room)
        page.line((_EDGE, _HEAD - 14, sheet.width - _EDGE, _HEAD - 14), fill=colours.LINE)

    def _facts(self) -> str:
        count = len(self._tiles)
        facts = [
            f"{count} image{'s' * (count != 1)}",
            f"detector {self.detector}",
            f"backbone {self.backbone}",
        ]
        if self.threshold is None:
            facts.append("no threshold yet")
        else:
            flawed = sum(bool(tile.label) for tile in self._tiles)
            origin = f" ({self.threshold_from})" if self.threshold_from else ""
            facts.append(f"{flawed} at or above threshold {drawing.number(self.threshold)}{origin}")
        return " · ".join(facts)

    def _draw_tile(
        self, sheet: Image.Image, at: tuple[int, int], across: int, tile: _Tile, rank: int
    ) -> None:
        left, top = at
        for column, span in enumerate([tile.photo, tile.heat]):
            if span is not None:
                with self._kept(span) as thumb:
                    shift = ((_SIDE - thumb.width) // 2, _SIDE - thumb.height)
                    sheet.paste(thumb, (left + column * (_SIDE + 4) + shift[0], top + shift[1]))
        self._write_below(ImageDraw.Draw(sheet), (left, top + _SIDE + 18), across, tile, rank)

    def _write_below(
        self, page: ImageDraw.ImageDraw, at: tuple[int, int], across: int, tile: _Tile, rank: int
    ) -> None:
        left, line = at
        drawing.write(page, (left, line), f"{rank}", size=14, colour=colours.FAINT, anchor="ls")
        indent = left + 10 + drawing.width(f"{rank}", 14)
        drawing.write(page, (indent, line), drawing.number(tile.score, 3), size=16, anchor="ls")
        if tile.label is not None:
            word, colour = ("flawed", colours.FLAWED) if tile.label else ("good", colours.SOUND)
            drawing.write(page, (left + across, line), word, size=14, colour=colour, anchor="rs")
        name = "/".join(_parts(tile.source)[len(self._shared or []) :])
        below = (left, line + 19)
        drawing.write(page, below, name, size=13, colour=colours.FAINT, anchor="ls", room=across)


def _parts(source: str) -> list[str]:
    return re.split(r"[/\\]", source)


def _common(one: list[str], other: list[str]) -> list[str]:
    return [a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
