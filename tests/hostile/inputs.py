"""What strangers may hand in, door by door, and what each must get; made anew for every run, never stored."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pictures import (
    dicom_file,
    encoded,
    jpeg_of_scans,
    photo,
    png16,
    png_chunk,
    png_with_size,
    png_with_texts,
    ramp,
    tiff,
)

SECONDS = 2  # that any input may take
MEBIBYTES = 1024  # that any input may take beyond the interpreter


@dataclass(frozen=True)
class Hostile:
    """An input, and what it must get.

    Attributes:
        door: where it comes in.
        name: what it is.
        plant: puts it into a folder and returns the path that is given to the door.
        refused: what the refusal says (a regular expression); None where it is taken.
        noted: what a note says where it is taken; None where there is none.
    """

    door: str
    name: str
    plant: Callable[[Path], Path]
    refused: str | None = None
    noted: str | None = None

    @property
    def gets(self) -> str:
        """What it gets, in a word."""
        return "refused" if self.refused else "taken, with a note" if self.noted else "taken"


def file(data: bytes | Callable[[], bytes], name: str = "in.png") -> Callable[[Path], Path]:
    """Return what writes bytes, which may be made late, into a folder."""

    def plant(folder: Path) -> Path:
        (folder / name).write_bytes(data() if callable(data) else data)
        return folder / name

    return plant


def fifo(folder: Path, name: str = "in.png") -> Path:
    os.mkfifo(folder / name)
    return folder / name


def link(folder: Path, target: str = "/dev/zero", name: str = "in.png") -> Path:
    (folder / name).symlink_to(target)
    return folder / name


def sparse(folder: Path, start: bytes, size: int, name: str = "in.png") -> Path:
    """Write a file of any size that takes no room."""
    with (folder / name).open("wb") as stream:
        stream.write(start)
        stream.truncate(size)
    return folder / name


def flat_png(width: int, height: int) -> bytes:
    """A grey PNG of any size in few bytes."""
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def frames(kind: str) -> bytes:
    return encoded(photo(), kind, save_all=True, append_images=[Image.new("RGB", (23, 17))])


def dicom(**change: Any) -> bytes:
    return dicom_file(ramp(4095).astype(np.uint16), stored=12, **change)


def two_frames() -> bytes:
    return dicom_file(np.stack([ramp(4095)] * 2).astype(np.uint16), stored=12, frames=True)


def dicom_bomb() -> bytes:
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 60
    return dicom_file(np.zeros((8, 8), np.uint8), stored=8, packed=runs)


def long_dicom(count: int) -> bytes:
    whole = dicom()
    start = whole.index(b"\x08\0")  # after the elements that say how it is written
    return whole[:start] + (struct.pack("<HH2sH", 0x0010, 0x4000, b"LO", 2) + b"ab") * count


NO_DICOM = bytes(128) + b"DICM" + bytes(40)
MORE = "--max-megapixels"
DEEP = ramp(1023).astype(np.uint16)
FULL = ramp(65535).astype(np.uint16)
COLOUR = np.dstack([FULL, FULL, FULL])
LOOP = tiff(ramp(9).astype(np.uint8))

image = partial(Hostile, "images")
IMAGES = [
    image("empty file", file(b""), refused="empty"),
    image("text", file(b"scratch, dent\n"), refused="it is text"),
    image("web page", file(b"<!DOCTYPE html>"), refused="a web page"),
    image("GIF", file(b"GIF89a" + bytes(40)), refused="a GIF, not an allowed kind"),
    image("JPEG XL", file(b"\xff\x0a" + bytes(40)), refused="a JPEG XL picture, not an allowed kind"),
    image("JPEG XL in a box", file(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)), refused="a JPEG XL picture"),
    image("DICOM that does not say how it is written", file(NO_DICOM), refused="transfer syntax"),
    image("DICOM with a header of 20 MB", file(partial(long_dicom, 2_000_000)), refused="begin within"),
    image("DICOM, deflated", file(partial(dicom, syntax="1.2.840.10008.1.2.1.99")), refused="compressed"),
    image("DICOM of 2.5 gigapixels", file(partial(dicom, Rows=50_000, Columns=50_000)), refused=MORE),
    image("DICOM by run lengths that unpack to more", file(dicom_bomb), refused="more than its size"),
    image("DICOM of 12 bits", file(dicom)),
    image("DICOM of two frames", file(two_frames), noted="first of its 2 frames"),
    image("PostScript", file(b"%!PS-Adobe-3.0 EPSF"), refused="PostScript"),
    image("pipe", fifo, refused="not a regular file"),
    image("link to an endless device", link, refused="not a regular file"),
    image("link to itself", partial(link, target="in.png"), refused="cannot be read"),
    image(
        "20 GB that begin like a PNG",
        partial(sparse, start=b"\x89PNG", size=20 << 30),
        refused="the limit is",
    ),
    image("20 GB of zeros", partial(sparse, start=b"", size=20 << 30), refused="unknown data"),
    image("PNG cut short", file(encoded(photo())[:60]), refused="cut short or damaged"),
    image("PNG that claims 2.5 gigapixels", file(png_with_size(50_000, 50_000)), refused="--max-megapixels"),
    image("PNG of 3 x 250,001 pixels", file(png_with_size(3, 250_001)), refused="250000 a side"),
    image(
        "PNG of 100 megapixels in 100 kB",
        file(partial(flat_png, 10_000, 10_000)),
        refused="the limit is 50 million",
    ),
    image("PNG of 49 megapixels in 50 kB", file(partial(flat_png, 7_000, 7_000))),
    image("PNG with text that unpacks to 80 MB", file(png_with_texts(80, 1_000_000)), refused="damaged"),
    image(
        "JPEG of 2,000 scans", file(partial(jpeg_of_scans, 4000, 2000)), refused="a JPEG of 20\\d\\d scans"
    ),
    image("TIFF that names itself as its next page", file(LOOP[:-4] + struct.pack("<I", 8 + len(LOOP)))),
    image(
        "TIFF of 5,000 pages",
        file(partial(tiff, ramp(9).astype(np.uint8), pages=5000)),
        noted="first of its 100 pages",
    ),
    image("TIFF whose height is a lie", file(tiff(FULL, tags={257: 4_000_000_000})), refused="the limit is"),
    image(
        "TIFF in a million tiles of a pixel",
        file(tiff(FULL, tags={322: 1, 323: 1, 324: 8, 325: 9, 256: 1000, 257: 1000})),
        refused="too many pieces",
    ),
    image(
        "TIFF of an unknown compression",
        file(tiff(COLOUR, planar=True, tags={259: 99})),
        refused="tifffile is needed|could not be read",
    ),
    image("TIFF with NaN", file(tiff(np.full((4, 4), np.nan, np.float32))), refused="no numbers"),
    image("TIFF with values below zero", file(tiff(np.full((4, 4), -3, np.int16))), refused="go from -3"),
    image(
        "TIFF of five bands", file(tiff(np.dstack([FULL] * 5), photometric=1)), refused="neither grey nor RGB"
    ),
    image("TIFF of 16-bit planes", file(tiff(COLOUR, planar=True, order=">"))),
    image("TIFF of 12 packed bits", file(tiff(DEEP, bits=12))),
    image("TIFF of half floats", file(tiff((FULL / 65535).astype(np.float16)))),
    image("TIFF of grey and alpha in 16 bits", file(tiff(np.dstack([FULL, FULL * 0 + 65535]), extra=2))),
    image("10 bits in a 16-bit PNG", file(png16(DEEP)), noted="taken for 1023.*--white"),
    image("10 bits in a 16-bit colour TIFF", file(tiff(np.dstack([DEEP] * 3))), noted="taken for 1023"),
    image("10 bits that the header declares", file(png16(DEEP, significant=10))),
    image("floating point to 4095", file(tiff(ramp(4095).astype(np.float32))), noted="taken for 4095"),
    image("two pages", file(frames("TIFF")), noted="first of its 2 pages"),
    image("animated WebP", file(partial(frames, "WEBP")), noted="first of its 2 frames"),
    image("two views in one JPEG (MPO)", file(partial(frames, "MPO")), noted="first of its 2 frames"),
    image("odd EXIF", file(encoded(photo(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9))),
]

BLOB = np.zeros((40, 60), np.uint8)
BLOB[10:20, 20:40] = 1
BORDER = np.zeros(BLOB.shape, bool)
BORDER[20:22, 20:40] = True


def painted(colour: tuple[int, int, int]) -> bytes:
    layer = np.zeros((*BLOB.shape, 4), np.uint8)
    layer[BLOB > 0] = (*colour, 255)
    return encoded(Image.fromarray(layer))


def palette() -> bytes:
    picture = Image.fromarray(BLOB).convert("P")
    picture.putdata(BLOB.ravel().tolist())
    picture.putpalette([68, 1, 84, 253, 231, 37])
    return encoded(picture)


def of_a_jpeg() -> bytes:
    return encoded(Image.open(io.BytesIO(encoded(Image.fromarray(BLOB * 255), "JPEG", quality=60))))


mask = partial(Hostile, "masks")
MASKS = [
    mask("painted on a transparent layer", file(partial(painted, (255, 0, 0)))),
    mask("painted in black", file(partial(painted, (0, 0, 0)))),
    mask("palette whose 0 has a colour", file(palette)),
    mask("16 bits with the value 1", file(png16(BLOB.astype(np.uint16)))),
    mask("inverted", file(encoded(Image.fromarray((1 - BLOB) * 255))), noted="as in an inverted mask"),
    mask("empty", file(encoded(Image.fromarray(BLOB * 0))), noted="nothing is marked"),
    mask(
        "255 beside 1",
        file(encoded(Image.fromarray(np.where(BORDER, 255, BLOB).astype(np.uint8)))),
        noted="--ignore-value",
    ),
    mask("PNG made of a JPEG", file(of_a_jpeg), noted="as JPEG or blur leave them"),
    mask(
        "JPEG with the value 1", file(encoded(Image.fromarray(BLOB), "JPEG")), noted="do not count as flawed"
    ),
    mask(
        "of another picture",
        file(encoded(Image.new("L", (50, 50)))),
        refused="should fit an image of 60 x 40",
    ),
    mask(
        "width and height swapped",
        file(encoded(Image.fromarray(BLOB.T * 255))),
        refused="turn it as the image",
    ),
    mask("claims 2.5 gigapixels", file(png_with_size(50_000, 50_000)), refused="--max-megapixels"),
    mask("pipe", fifo, refused="not a regular file"),
]


def table(text: str | bytes, name: str = "t.csv") -> Callable[[Path], Path]:
    """Return what writes a table beside three pictures and a mask."""

    def plant(folder: Path) -> Path:
        for picture in ("a.png", "b.png", "c.png", "m.png"):
            (folder / picture).touch()
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return folder / name

    return plant


rows = partial(Hostile, "tables")
TABLES = [
    rows("pipe", partial(fifo, name="t.csv"), refused="is a file|is a pipe|wanted"),
    rows("link to an endless device", partial(link, name="t.csv"), refused="is a file|is a device|wanted"),
    rows("2 GB", partial(sparse, start=b"image,label\n", size=2 << 30, name="t.csv"), refused="at most"),
    rows("a line without end", table("image,label\n" + "x" * 2_000_000), refused="a line has more than"),
    rows("not UTF-8", table(b"image,label\n\xff\xfe,0"), refused="table in UTF-8"),
    rows("control characters as a label", table("image,label\na.png,\x1b[2J"), refused="\\\\x1b"),
    rows(
        "a value of 200 kB",
        table("image,label\na.png," + "9" * 200_000),
        refused="field larger than field limit",
    ),
    rows(
        "paths that lead nowhere",
        table("image,label\n../../etc/passwd,1\na.png,0\nb.png,1"),
        noted="without a file",
    ),
    rows("rows that contradict", table("image,label\na.png,0\na.png,1"), refused="one thing about"),
    rows(
        "rows for training", table("image,label,split\na.png,0,train\nb.png,0,test\nc.png,1,test"), noted=None
    ),
    rows("backslashes", table("image,label\n.\\a.png,0\nb.png,1")),
    rows("two masks of a photo", table("image,label,mask\na.png,0,\nb.png,1,m.png\nb.png,1,c.png")),
]


def results(folder: Path) -> Path:
    """Photos beside what an earlier run wrote."""
    for name in ("a.png", "out/maps/a.png", "out/contact-sheet-01.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "out" / "predictions.jsonl").write_text('{"schema": 1, "source": "a.png"}\n')
    return folder


def loops(folder: Path) -> Path:
    """Two folders with many links to each other."""
    for one, other in (("a", "b"), ("b", "a")):
        (folder / one).mkdir(exist_ok=True)
        (folder / one / "x.png").touch()
        for number in range(6):
            (folder / one / f"to{number}").symlink_to(folder / other)
    return folder / "**" / "*.png"


def beside(folder: Path) -> Path:
    for name in ("1.png", "1_mask.png", "2.jpg", "2_GT.png"):
        (folder / name).touch()
    return folder


def brackets(folder: Path) -> Path:
    (folder / "lot [1]").mkdir()
    (folder / "lot [1]" / "a.png").touch()
    return folder / "lot [1]" / "*.png"


def named(folder: Path, name: str) -> Path:
    (folder / "a.png").touch()
    return folder / name


place = partial(Hostile, "folders")
FOLDERS = [
    place("earlier results below", results, noted="1 results"),
    place("links that loop, with **", loops),
    place("masks beside photos", beside, noted="2 masks"),
    place("brackets in a name", brackets),
    place("no such folder", partial(named, name="nothing"), refused="no file or folder"),
    place(
        "a name of 5,000 characters", partial(named, name="x" * 5000), refused="cannot be looked at.{0,900}$"
    ),
    place("a name that steers a terminal", partial(named, name="\x1b[2J"), refused="\\\\x1b"),
]

data = partial(Hostile, "JSON and TOML")
DATA = [
    data("pipe", partial(fifo, name="in.json"), refused="is a pipe"),
    data("link to an endless device", partial(link, name="in.json"), refused="is a device"),
    data(
        "larger than it may be", partial(sparse, start=b"{", size=2 << 30, name="in.json"), refused="at most"
    ),
    data("lists nested 100,000 deep", file(b"[" * 100_000, "in.json"), refused="is not JSON"),
    data("NaN", file(b'{"a": NaN}', "in.json"), refused="NaN is no number"),
    data("half a character", file(b'{"a": "\\ud800"}', "in.json"), refused="is not JSON"),
    data("no object", file(b"[]", "in.json"), refused="must hold a JSON object"),
    data("not UTF-8", file(b'{"a": "\xff"}', "in.json"), refused="is not UTF-8"),
    data(
        "TOML key of 20,000 parts",
        file(b".".join([b"a"] * 20_000) + b" = 1", "in.toml"),
        refused="more than 64 parts",
    ),
    data(
        "TOML lists nested 100,000 deep", file(b"a = " + b"[" * 100_000, "in.toml"), refused="nested too deep"
    ),
    data("TOML that is none", file(b"a = \x1b[2J", "in.toml"), refused="is not TOML"),
]

INPUTS = [*IMAGES, *MASKS, *TABLES, *FOLDERS, *DATA]
