"""Large pictures band by band, from the top: memory for some rows, whatever the height.

PNG of 8 bits, BMP and TIFF whose rows lie in the file as they are can be read so. Such a picture may have
`MOST` times as many pixels as one that is decoded at once; others are, within the usual limits.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from zeroflaw.decoding import Limits, RefusedError, check_size, open_stored
from zeroflaw.depth import Deep, Pixels, to_rgb
from zeroflaw.images import (
    Source,
    limits_of_reading,
    read_picture,
    refusing,
    shown,
    tell,
    upright_rgb,
    white_of_reading,
)
from zeroflaw.tiff import ORIENTATION, Page, pages

MOST = 20
LARGE = 25_000_000  # pixels from which on a picture is read in bands, where that can be
_BAND = 4_000_000  # pixels of a band, about
_HEAD = 4096
_SHORT = "the file is cut short or damaged; copy it again"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
_KEPT = {b"PLTE": 768, b"tRNS": 256}  # chunks that decide how pixels are seen, and their largest size
_MOST_CHUNKS = 1000  # before the pixels


@dataclass
class Bands:
    """A picture as bands of rows.

    Attributes:
        name: of the picture, for errors.
        size: height and width in pixels.
        notes: sentences about how it was read.
        is_streamed: whether it is decoded while one goes through the bands.
    """

    name: str
    size: tuple[int, int]
    parts: Iterator[Pixels]
    notes: tuple[str, ...] = ()
    is_streamed: bool = False

    def __iter__(self) -> Iterator[Pixels]:
        """Yield bands, uint8 (rows, width, 3) in RGB, from the top; once.

        Raises:
            ImageError: the file is damaged.
        """
        while True:
            with refusing(self.name):
                try:
                    part = next(self.parts)
                except StopIteration:
                    return
            yield part


def open_bands(source: Source, *, name: str | None = None, white: float | None = None) -> Bands:
    """Open a picture to go through it from the top; arguments and errors of `zeroflaw.images.read_image`."""
    label = shown(source) if name is None else name
    if isinstance(source, str | os.PathLike):
        with refusing(label):
            level = white_of_reading() if white is None else white
            found = _streamed(Path(source), limits_of_reading(), level)
        if found is not None:
            tell(label, found.notes)
            return replace(found, name=label)
    picture = read_picture(source, name=name, white=white)
    height, width = picture.pixels.shape[:2]
    return Bands(label, (height, width), iter([picture.pixels]), picture.notes)


def read_overview(source: Source, *, name: str | None = None, longest: int = 2048) -> Pixels:
    """Return a picture as `zeroflaw.images.read_image` does, made smaller if it can only be read in bands.

    Args:
        source: of the picture.
        name: what to call it in errors.
        longest: side in pixels that pictures read in bands have at most.
    """
    bands = open_bands(source, name=name)
    if not bands.is_streamed:
        return next(iter(bands))
    factor = -(-max(bands.size) // longest)
    waiting, found = np.empty((0, bands.size[1], 3), np.uint8), []
    for band in bands:
        waiting = np.concatenate([waiting, band])
        rows = len(waiting) // factor * factor
        if rows:
            found.append(np.asarray(Image.fromarray(waiting[:rows]).reduce(factor)))
        waiting = waiting[rows:]
    if len(waiting):
        found.append(np.asarray(Image.fromarray(waiting).reduce(factor)))
    return np.concatenate(found)


def _streamed(path: Path, limits: Limits, white: float | None) -> Bands | None:
    """Open a picture whose rows can be read one after the other; None for all others, and small ones."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
            kind = next((k for k in (_PNG, b"BM", b"II*\0", b"MM\0*") if head.startswith(k)), None)
            if kind == _PNG:
                return _png(path, file, limits)
            if kind == b"BM":
                return _bmp(path, head, limits)
            return None if kind is None else _tiff(path, file, limits, white)
    except (OSError, struct.error, ValueError):  # what is wrong is said by the usual reader
        return None


def _is_ours(size: tuple[int, int], limits: Limits) -> bool:
    """Whether a picture of this width and height is large enough; refused if it is too large."""
    if size[0] * size[1] < min(LARGE, limits.max_pixels):
        return False
    check_size(size, replace(limits, max_pixels=MOST * limits.max_pixels))
    return True


def _rows(width: int) -> int:
    return max(1, _BAND // width)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise RefusedError(_SHORT)
    return data


def _bmp(path: Path, head: bytes, limits: Limits) -> Bands | None:
    start, length, width, height, _, bits, packed = struct.unpack_from("<IIiiHHI", head, 10)
    size = (width, abs(height))
    if length < 40 or packed or bits not in (8, 24) or min(size) < 1 or not _is_ours(size, limits):
        return None
    stride = (width * bits // 8 + 3) // 4 * 4
    (colours,) = struct.unpack_from("<I", head, 46)
    table = np.zeros((256, 3), np.uint8)
    if bits == 8:
        listed = np.frombuffer(head, np.uint8, 4 * min(colours or 256, 256), 14 + length).reshape(-1, 4)
        table[: len(listed)] = listed[:, 2::-1]

    def parts() -> Iterator[Pixels]:
        with path.open("rb") as file:
            for top in range(0, size[1], _rows(width)):
                rows = min(_rows(width), size[1] - top)
                first = top if height < 0 else size[1] - top - rows
                file.seek(start + first * stride)
                band = np.frombuffer(_exactly(file, rows * stride), np.uint8).reshape(rows, stride)
                band = band if height < 0 else band[::-1]
                values = band[:, : width * bits // 8]
                colour = table[values] if bits == 8 else values.reshape(rows, width, 3)[:, :, ::-1]
                yield np.ascontiguousarray(colour)

    return Bands("", (size[1], width), parts(), is_streamed=True)


def _tiff(path: Path, file: BinaryIO, limits: Limits, white: float | None) -> Bands | None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = pages(data)
    strips = found[0].rows_in_file() if found else None
    if strips is None or not _is_ours(found[0].size, limits):
        return None
    page, level = found[0], found[0].white() if white is None else white
    plain = page.channels == 1 or (page.channels == 3 and page.is_colour)
    # The white of a picture is guessed from all of its values; in bands it must be known.
    if not plain or page.one(ORIENTATION) != 1 or (page.bits > 8 and level is None):
        return None
    several = f"only the first of its {len(found)} pages was looked at; save each as a picture of its own"
    notes = (several,) if len(found) > 1 else ()
    parts = _strips(path, page, strips, level if page.bits > 8 else None)
    return Bands("", (page.size[1], page.size[0]), parts, notes, is_streamed=True)


def _strips(path: Path, page: Page, strips: list[tuple[int, int]], level: float | None) -> Iterator[Pixels]:
    width, dtype = page.size[0], np.dtype(f"{page.order}u{page.bits // 8}")
    row = width * page.channels * dtype.itemsize
    with path.open("rb") as file:
        for place, count in strips:
            for top in range(0, count, _rows(width)):
                rows = min(_rows(width), count - top)
                file.seek(place + top * row)
                values = np.frombuffer(_exactly(file, rows * row), dtype).reshape(rows, width, page.channels)
                yield to_rgb(Deep(values, page.is_colour, is_inverted=page.is_inverted), level)[0]


def _png(path: Path, file: BinaryIO, limits: Limits) -> Bands | None:
    file.seek(len(_PNG))
    kept: dict[bytes, bytes] = {}
    for _ in range(_MOST_CHUNKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IDAT":
            break
        if kind == b"IHDR":
            kept[kind] = file.read(min(length, 13))
        elif kind in _KEPT:
            kept[kind] = file.read(min(length, _KEPT[kind]))
        elif kind == b"eXIf":  # it may have to be turned
            return None
        else:
            file.seek(length, os.SEEK_CUR)
        file.seek(4, os.SEEK_CUR)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", kept.pop(b"IHDR"))
    if bits != 8 or interlaced or colour not in _CHANNELS or not _is_ours((width, height), limits):
        return None
    begin = file.tell() - 8
    parts = _unpacked(path, begin, (width, height, colour), kept, limits)
    return Bands("", (height, width), parts, is_streamed=True)


def _unpacked(
    path: Path, begin: int, shape: tuple[int, int, int], kept: dict[bytes, bytes], limits: Limits
) -> Iterator[Pixels]:
    """Decode bands of a PNG, each as a small PNG whose first row is the last one of the band before."""
    width, height, colour = shape
    row = width * _CHANNELS[colour]
    waiting, before, done = bytearray(), b"", 0
    for data in _inflated(path, begin, _rows(width) * (row + 1)):
        waiting += data
        rows = min(len(waiting) // (row + 1), height - done)
        if rows < min(_rows(width), height - done):
            continue
        filtered = before + bytes(waiting[: rows * (row + 1)])
        del waiting[: rows * (row + 1)]
        header = struct.pack(">IIBBBBB", width, rows + bool(before), 8, colour, 0, 0, 0)
        chunks = {b"IHDR": header, **kept, b"IDAT": zlib.compress(filtered, 0), b"IEND": b""}
        small = _PNG + b"".join(_chunk(kind, data) for kind, data in chunks.items())
        # It is not compressed, so that its size says nothing of the file's.
        stored = open_stored(small, replace(limits, max_bytes=len(small)))
        assert stored.image is not None
        yield upright_rgb(stored).pixels[bool(before) :]
        before = b"\0" + np.asarray(stored.image)[-1].tobytes()
        done += rows
        if done == height:
            return
    raise RefusedError(_SHORT)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _inflated(path: Path, begin: int, most: int) -> Iterator[bytes]:
    """Yield what the IDAT chunks from a place on hold, at most so many bytes at a time."""
    unpack = zlib.decompressobj()
    with path.open("rb") as file:
        file.seek(begin)
        while True:
            length, kind = struct.unpack(">I4s", _exactly(file, 8))
            if kind != b"IDAT":
                return
            while length:
                data = _exactly(file, min(length, 1 << 20))
                length -= len(data)
                while data:
                    yield unpack.decompress(data, most)
                    data = unpack.unconsumed_tail
            file.seek(4, os.SEEK_CUR)
