"""TIFF beyond what Pillow reads: planes, odd depths, several channels, and what a file says of its pixels.

Uncompressed and deflated pages are decoded here; for other compressions of such pixels there is tifffile, an
extra. Numbers of tags are those of TIFF 6.0, unless another source is named.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = tuple[float, ...]
Values = npt.NDArray[Any]

# numbers of tags
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL = 254, 256, 257, 258, 259, 262, 266
_STRIPS, ORIENTATION, _CHANNELS, _ROWS, _STRIP_BYTES = 273, 274, 277, 278, 279
_HIGHEST, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = (
    281,
    284,
    317,
    322,
    323,
    324,
    325,
)
_EXTRA, _FORMAT, _HIGHEST_OF_FORMAT = 338, 339, 341
_WHITE_LEVEL = 50717  # DNG 1.1

_DEFAULTS = {
    _SUBFILE: 0,
    _BITS: 1,
    _COMPRESSION: 1,
    _FILL: 1,
    _CHANNELS: 1,
    _PLANAR: 1,
    _PREDICTOR: 1,
    _FORMAT: 1,
    ORIENTATION: 1,
}
_TYPES = {
    1: "u1",
    3: "u2",
    4: "u4",
    6: "i1",
    8: "i2",
    9: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    18: "u8",
}
_COMPRESSIONS = {
    5: "LZW",
    6: "JPEG",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34712: "JPEG 2000",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
_MOST_PAGES, _MOST_TAGS, _MOST_CHUNKS = 100, 1000, 200_000
_GREY_OR_RGB = (0, 1, 2)  # photometric interpretations
_WHOLE = (8, 16, 32, 64)  # bits that are bytes
_MANY = {_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES}  # tags of as many numbers as there are pieces
_FEW = 16  # numbers of any other tag
_NEEDS = "install the extra 'tiff' (pip install 'zeroflaw[tiff]'), or save it as PNG"


class TiffError(Exception):
    """Why a page cannot be decoded here, in words."""


@dataclass(frozen=True)
class Page:
    """One full page of a TIFF file.

    Attributes:
        tags: numbers of the tags that hold some.
        order: ``"<"`` or ``">"``.
        number: of the page in the file, counted from 0 with thumbnails.
    """

    tags: Mapping[int, Numbers]
    order: str
    number: int

    def one(self, tag: int) -> int:
        """Return the first number of a tag, or what it is where it is not there."""
        value = self.tags.get(tag, ())
        return int(value[0]) if value else _DEFAULTS.get(tag, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.one(_WIDTH), self.one(_HEIGHT)

    @property
    def bits(self) -> int:
        """Bits of a channel; 0 where channels differ."""
        return self.one(_BITS) if len(set(self.tags.get(_BITS, (1,)))) == 1 else 0

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return self.one(_CHANNELS)

    @property
    def is_colour(self) -> bool:
        """Whether the first three channels are red, green and blue."""
        return self.one(_PHOTOMETRIC) == 2 and self.channels >= 3

    @property
    def has_alpha(self) -> bool:
        """Whether the channel behind grey or colour is transparency."""
        return self.channels > (3 if self.is_colour else 1) and self.one(_EXTRA) in (1, 2)

    @property
    def is_inverted(self) -> bool:
        """Whether zero is white."""
        return _PHOTOMETRIC in self.tags and self.one(_PHOTOMETRIC) == 0

    @property
    def is_scrambled_by_pillow(self) -> bool:
        """Whether Pillow takes the values of planes for those of pixels."""
        planes = self.one(_PLANAR) == 2 and self.channels > 1
        return planes and self.bits != 8 and self.one(_COMPRESSION) == 1

    @property
    def is_beyond_pillow(self) -> bool:
        """Whether Pillow refuses pixels of this kind, scrambles them, or drops bits or signs."""
        planes = self.one(_PLANAR) == 2 and self.channels > 1
        return self.bits > 8 or self.channels > 4 or self.one(_FORMAT) != 1 or (planes and self.bits != 8)

    @property
    def pieces(self) -> int:
        """Strips or tiles that are decoded one after the other."""
        return max(1, len(self.tags.get(_STRIPS, ())), len(self.tags.get(_TILES, ())))

    @property
    def is_plain(self) -> bool:
        """Whether it can be decoded without libraries."""
        deltas = self.one(_PREDICTOR) == 1 or (self.one(_PREDICTOR) == 2 and self.bits in _WHOLE)
        packed = self.one(_COMPRESSION) in (1, 8, 32946) and self.one(_FILL) == 1
        return packed and deltas and self.one(_PHOTOMETRIC) in _GREY_OR_RGB

    def rows_in_file(self) -> list[tuple[int, int]] | None:
        """Return place and number of rows of each strip, of pages whose rows lie in the file as they are."""
        plain = self.one(_COMPRESSION) == 1 and self.one(_PREDICTOR) == 1 and self.one(_FILL) == 1
        whole = _TILES not in self.tags and (self.one(_PLANAR) == 1 or self.channels == 1)
        known = self.bits in (8, 16) and self.one(_FORMAT) == 1 and self.one(_PHOTOMETRIC) in _GREY_OR_RGB
        (width, height), each = self.size, self.one(_ROWS) or self.size[1]
        places = self.tags.get(_STRIPS, ())
        if not (plain and whole and known) or width < 1 or each < 1 or len(places) * each < height:
            return None
        tops = range(0, height, each)
        return [(int(places[number]), min(each, height - y)) for number, y in enumerate(tops)]

    def white(self) -> float | None:
        """Return the level of white that the file declares, or None."""
        declared = self.tags.get(_WHITE_LEVEL) or self.tags.get(_HIGHEST_OF_FORMAT)
        if declared:
            return float(max(declared))
        if highest := self.tags.get(_HIGHEST):  # may be that of this very picture: the next full depth counts
            return float(2 ** math.ceil(math.log2(max(highest) + 1)) - 1) if max(highest) > 0 else None
        return float(2**self.bits - 1) if 8 < self.bits < 16 else None

    def __str__(self) -> str:
        kind = {2: "signed ", 3: "floating-point "}.get(self.one(_FORMAT), "")
        planes = ", plane by plane" if self.one(_PLANAR) == 2 and self.channels > 1 else ""
        packed = _COMPRESSIONS.get(self.one(_COMPRESSION), f"compression {self.one(_COMPRESSION)}")
        compressed = f", compressed by {packed}" if self.one(_COMPRESSION) != 1 else ""
        s = "s" * (self.channels != 1)
        return f"{self.channels} channel{s} of {self.bits or 'several'} {kind}bits{planes}{compressed}"


def pages(data: bytes | mmap) -> list[Page]:
    """List the full pages of a TIFF file, thumbnails and masks of pages left out; at most 100.

    What is damaged ends the list; it may be empty.
    """
    return list(_pages(data))


def _pages(data: bytes | mmap) -> Iterator[Page]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    try:
        big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        while order and at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            tags, at = _tags(data, at, order, big, first=len(seen) == 1)
            page = Page(tags, order, len(seen) - 1)
            if not page.one(_SUBFILE) & 0b101 and _WIDTH in tags:
                yield page
    except (struct.error, ValueError):  # it ends early
        return


def _tags(
    data: bytes | mmap, at: int, order: str, big: bool, *, first: bool
) -> tuple[dict[int, Numbers], int]:
    """Return the numbers in the directory at a place, and the place of the next one.

    Where the pieces of a page lie is read of the first one alone, which is the one that is decoded.
    """
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    start, length, offset = (at + 8, 20, "Q") if big else (at + 2, 12, "I")
    tags: dict[int, Numbers] = {}
    for place in range(start, start + min(count, _MOST_TAGS) * length, length):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", data, place)
        if kind not in _TYPES or number > (2 * _MOST_CHUNKS if first and tag in _MANY else _FEW):
            continue
        dtype = np.dtype(order + _TYPES[kind])
        here = place + 4 + struct.calcsize(order + offset)
        if dtype.itemsize * number > struct.calcsize(order + offset):
            (here,) = struct.unpack_from(order + offset, data, here)
        if here + dtype.itemsize * number <= len(data):
            tags[tag] = tuple(np.frombuffer(data, dtype, number, here).tolist())
    (following,) = struct.unpack_from(order + offset, data, start + count * length)
    return tags, int(following)


def decode(data: bytes, page: Page, most: int) -> Values:
    """Return the values of a page, (H, W, channels) in the type that holds them.

    Args:
        data: the file.
        page: which page.
        most: bytes that its values may take.

    Raises:
        TiffError: they take more, or are of a kind or compression that cannot be decoded.
    """
    width, height = page.size
    if width * height * page.channels * max(1, page.bits // 8) > most:
        raise TiffError(
            f"its {page} take more than {most >> 20} MiB; raise --max-megapixels or make it smaller"
        )
    if page.one(_PHOTOMETRIC) not in _GREY_OR_RGB:
        raise TiffError(f"it has {page}, neither grey nor RGB; save it as PNG")
    if not page.is_plain:
        return _by_tifffile(data, page)
    try:
        return _assembled(data, page, most)
    except (ValueError, zlib.error, struct.error, IndexError) as error:
        raise TiffError(f"the TIFF file is cut short or damaged ({error}); copy it again") from error


def _dtype(page: Page) -> np.dtype[Any]:
    kind = {1: "u", 2: "i", 3: "f"}.get(page.one(_FORMAT))
    whole = page.bits in _WHOLE and not (kind == "f" and page.bits == 8)
    packed = kind == "u" and 1 <= page.bits < 16
    if kind is None or not (whole or packed):
        raise TiffError(f"it has {page}, which are not read; save it as PNG")
    return np.dtype(f"{page.order}{kind}{page.bits // 8}" if whole else np.uint16)


def _assembled(data: bytes, page: Page, most: int) -> Values:
    """Put strips or tiles together."""
    dtype = _dtype(page)
    (width, height), channels = page.size, page.channels
    planes = channels if page.one(_PLANAR) == 2 else 1
    inside = channels // planes  # numbers that lie together
    tiled = _TILES in page.tags
    wide = page.one(_TILE_WIDTH) if tiled else width
    tall = page.one(_TILE_HEIGHT) if tiled else min(page.one(_ROWS) or height, height)
    places, lengths = (
        page.tags.get(tag, ()) for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES))
    )
    if min(wide, tall) < 1:
        raise ValueError("pieces without size")
    row = (wide * inside * page.bits + 7) // 8  # bytes
    corners = [(y, x) for y in range(0, height, tall) for x in range(0, width, wide)][: _MOST_CHUNKS + 1]
    if len(corners) * planes > _MOST_CHUNKS or len(corners) * planes * row * tall > 4 * most:
        raise TiffError("it is cut into too many pieces; save it again")
    if len(corners) * planes > min(len(places), len(lengths)):
        raise ValueError("pieces are missing")
    whole = np.zeros((height, width, channels), dtype)
    for number, (y, x) in enumerate(corners * planes):
        plane, rows = number // len(corners), tall if tiled else min(tall, height - y)
        start, length = int(places[number]), int(lengths[number])
        raw = data[start : start + length]
        if page.one(_COMPRESSION) != 1:
            raw = zlib.decompressobj().decompress(raw, row * rows)
        if len(raw) < row * rows:
            raise ValueError(f"piece {number + 1} ends early")
        values = _unpacked(raw[: row * rows], (rows, wide, inside), page.bits, dtype)
        if page.one(_PREDICTOR) == 2:
            values = np.cumsum(values, axis=1, dtype=dtype)
        part = values[: height - y, : width - x]
        first = plane * inside
        whole[y : y + part.shape[0], x : x + part.shape[1], first : first + inside] = part
    return whole


def _unpacked(raw: bytes, shape: tuple[int, int, int], bits: int, dtype: np.dtype[Any]) -> Values:
    """Return numbers that may begin in the middle of a byte; rows begin with a byte."""
    rows, wide, inside = shape
    if bits in _WHOLE:
        return np.frombuffer(raw, dtype).reshape(shape)
    packed = np.frombuffer(raw, np.uint8).reshape(rows, -1)
    weights = (1 << np.arange(bits)[::-1]).astype(np.uint16)
    found = np.empty((rows, wide * inside), dtype)
    for number, line in enumerate(packed):
        ones = np.unpackbits(line)[: wide * inside * bits].reshape(-1, bits)
        found[number] = ones.astype(np.uint16) @ weights
    return found.reshape(shape)


def _by_tifffile(data: bytes, page: Page) -> Values:
    try:
        import tifffile  # an extra, which few files need

        # It writes what is wrong with a file to the terminal, in the file's own words; the error says it.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    except ImportError:
        raise TiffError(f"it has {page}, for which tifffile is needed; {_NEEDS}") from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found = file.pages[page.number]
            values = np.asarray(found.asarray(maxworkers=1))
    except Exception as error:  # of a library that reads what strangers wrote
        raise TiffError(f"it has {page}, which could not be read ({error}); {_NEEDS}") from error
    (width, height), channels = page.size, page.channels
    if page.one(_PLANAR) == 2 and channels > 1:
        values = np.moveaxis(values.reshape(channels, height, width), 0, -1)
    return values.reshape(height, width, channels)
