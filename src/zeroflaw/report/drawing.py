"""What every picture of the report is made of: text, a colour bar, scaled photos, PNG files."""

from __future__ import annotations

import io
import tempfile
import unicodedata
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import colours
from .colours import Pixels

Span: TypeAlias = tuple[int, int]  # offset and length in a spool
_EXTRA = "·…°±’“”"  # what Pillow's own font has beyond ASCII


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font at ``size`` pixels, the same on every machine."""
    return ImageFont.load_default(size=size)


def drawable(text: str) -> str:
    """Replace what the font cannot draw: accents are dropped, other letters become a question mark."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" or c in _EXTRA else "?" for c in plain)


def width(text: str, size: int) -> float:
    """Return the width of ``text`` in pixels."""
    return font(size).getlength(text)


def fitted(text: str, size: int, room: float) -> str:
    """Return ``text`` as it can be drawn in ``room`` pixels, with an ellipsis in its middle if need be."""
    plain = drawable(text)
    if width(plain, size) <= room:
        return plain
    for kept in range(len(plain) - 1, 1, -1):
        tail = (kept + 1) // 2  # the end of a file name tells more than its start
        short = f"{plain[: kept - tail]}…{plain[-tail:]}"
        if width(short, size) <= room:
            return short
    return "…"


def write(
    page: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    size: int = 14,
    colour: colours.Rgb = colours.INK,
    anchor: str = "la",
    room: float | None = None,
) -> None:
    """Draw one line of text at ``at``, at most ``room`` pixels wide; ``anchor`` is one of Pillow's."""
    line = drawable(text) if room is None else fitted(text, size, room)
    page.text(at, line, font=font(size), fill=colour, anchor=anchor)


def number(value: float, digits: int = 2) -> str:
    """Write a score or a mark of the scale with as many digits as a reader can use."""
    if 0 < abs(value) < 0.1**digits:
        return f"{value:.{digits}g}"
    return f"{value:.{digits if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"


def colour_bar(sheet: Image.Image, box: tuple[int, int, int, int], *, anchored: bool = False) -> None:
    """Draw the colour scale into ``box`` (left, top, right, bottom), upright or lying, with its marks.

    Marks stand right of an upright bar and below a lying one: the values 0..1, or the threshold in the middle
    of an anchored scale, whose lower half is not drawn on photos and appears pale.
    """
    left, top, right, bottom = box
    upright = bottom - top > right - left
    table = colours.table().astype(float)
    if anchored:
        table[:128] = 0.12 * table[:128] + 0.88 * np.array(colours.PAPER)
    ramp = table.astype(np.uint8)[::-1, None] if upright else table.astype(np.uint8)[None]
    strip = Image.fromarray(np.ascontiguousarray(ramp))
    sheet.paste(strip.resize((right - left, bottom - top), Image.Resampling.BILINEAR), (left, top))
    page = ImageDraw.Draw(sheet)
    page.rectangle((left, top, right - 1, bottom - 1), outline=colours.LINE)
    words = ("good", "threshold", "anomalous") if anchored else ("0.00", "0.50", "1.00")
    for value, text in zip((0.0, 0.5, 1.0), words, strict=True):
        if upright:
            y = round(bottom - 1 - value * (bottom - 1 - top))
            page.line((right, y, right + 4, y), fill=colours.FAINT)
            write(page, (right + 8, y), text, size=13, colour=colours.FAINT, anchor="lm")
        else:
            x = round(left + value * (right - 1 - left))
            page.line((x, bottom, x, bottom + 3), fill=colours.FAINT)
            anchor = "la" if value == 0 else "ra" if value == 1 else "ma"
            write(page, (x, bottom + 5), text, size=13, colour=colours.FAINT, anchor=anchor)


def scaled(image: Pixels, side: int) -> Pixels:
    """Return ``image`` with its longer side brought to ``side`` pixels."""
    height, wide = image.shape[:2]
    factor = side / max(height, wide)
    size = (max(1, round(wide * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def jpeg(picture: Pixels, *, quality: int = 92, most: int | None = None) -> bytes:
    """Return a picture as JPEG, at lower quality or smaller where it would have more than ``most`` bytes."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=0 if most is None else 2)
    data = stream.getvalue()
    if most is None or len(data) <= most or max(picture.shape) < 64:
        return data
    if quality > 55:
        return jpeg(picture, quality=quality - 12, most=most)
    return jpeg(scaled(picture, round(0.8 * max(picture.shape))), quality=79, most=most)


class Spool:
    """Small pictures that wait in a temporary file, so that memory does not grow with their number.

    Use as a context manager, which removes the file.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keep(self, data: bytes) -> Span:
        """Store bytes and return where they lie."""
        offset = self._file.seek(0, io.SEEK_END)
        return offset, self._file.write(data)

    def kept(self, span: Span) -> bytes:
        """Return stored bytes."""
        self._file.seek(span[0])
        return self._file.read(span[1])


def write_png(path: Path | BinaryIO, array: Pixels) -> None:
    """Write ``(H, W, 3)`` or ``(H, W)`` uint8 as PNG, without metadata, to a file or stream.

    The lightest compression: about three times as fast as the usual one, for files a sixth larger.
    """
    Image.fromarray(np.ascontiguousarray(array)).save(path, format="PNG", compress_level=1)


def verdict(page: ImageDraw.ImageDraw, at: tuple[float, float], label: bool | None, *, size: int) -> float:
    """Write "flawed" or "good" so that it ends at ``at``, and return its width; nothing without a label."""
    if label is None:
        return 0.0
    word, colour = ("flawed", colours.FLAWED) if label else ("good", colours.SOUND)
    write(page, at, word, size=size, colour=colour, anchor="rs")
    return width(word, size)
