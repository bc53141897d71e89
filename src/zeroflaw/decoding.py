"""Opening pictures of strangers: bytes, format, size, work of decoding, and only then the pixels.

The rules follow the threat model of Pillow's security handbook: an allow-list of formats instead of trust in
the file name, and limits of our own, which stand in for Pillow's while a file is opened.
"""

from __future__ import annotations

import io
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The plugins are imported by name so that Pillow has no reason to load the decoders of other formats.
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from zeroflaw import dicom
from zeroflaw.depth import FULL, Deep, Values, to_rgb
from zeroflaw.dicom import DicomError
from zeroflaw.errors import printable
from zeroflaw.files import read_rest
from zeroflaw.tiff import ORIENTATION, Page, TiffError, decode, pages

_PLUGINS = {
    "PNG": PngImagePlugin,
    "JPEG": JpegImagePlugin,
    "WebP": WebPImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
}
FORMATS = tuple(_PLUGINS)  # that Pillow opens
_ALLOWED = ", ".join((*FORMATS, "DICOM"))
_HEAD = 4096  # bytes that say of what kind a file is
_OTHER = "B" if sys.byteorder == "little" else "L"  # order of bytes that this machine does not have
_LOWER = {  # how Pillow takes pixels of 16 bits, and what makes it take the lower byte of each value
    "LA;16B": "RGBA",
    **{f"{mode};16{one}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for one, other in ("BL", "LB")},
    **{f"{mode};16N": f"{mode};16{_OTHER}" for mode in ("RGB", "RGBA")},
}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of JPEG frames
_SCANS = 64  # of a JPEG, whatever its size; cameras and encoders make about ten
_WORK = 2_000_000_000  # pixels times scans, about a second of decoding, from which on more scans are refused


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost before it is refused.

    Attributes:
        max_pixels: width times height.
        max_bytes: size of the encoded file; None for 4 times ``max_pixels``.
        max_side: width or height, whichever is longer, in pixels; None for 250,000 or, if that is more,
            ``max_pixels / 200``.
    """

    max_pixels: int = 50_000_000
    max_bytes: int | None = None
    max_side: int | None = None

    @property
    def bytes(self) -> int:
        """Largest file."""
        return 4 * self.max_pixels if self.max_bytes is None else self.max_bytes

    @property
    def side(self) -> int:
        """Longest side."""
        return max(250_000, self.max_pixels // 200) if self.max_side is None else self.max_side


DEFAULT_LIMITS = Limits()
_RAISE = "raise the limit with --max-megapixels (zeroflaw.reading), or make it smaller"


class RefusedError(Exception):
    """Why a picture cannot be used, in words; becomes an ``ImageError`` once its name is known."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture as it is stored: neither upright nor RGB.

    Attributes:
        image: decoded by Pillow; None where ``deep`` was decoded otherwise.
        deep: values of more than 8 bits; None where Pillow has all there is.
        orientation: EXIF tag 0x0112, 1 where there is none that can be read.
        has_orientation: whether there is such a tag.
        is_lossy: whether the compression changes values.
        notes: what is not looked at, a sentence each.
    """

    image: Image.Image | None
    deep: Deep | None
    orientation: int = 1
    has_orientation: bool = False
    is_lossy: bool = False
    notes: tuple[str, ...] = ()


def read_bytes(name: str, limits: Limits) -> bytes:
    """Read a regular file within the limits; of one that is no picture only the beginning."""
    path = Path(name)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise RefusedError("it is a folder; give an image file")
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever, a device may never end
            raise RefusedError("it is not a regular file; give an image file")
        with path.open("rb") as stream:
            data = stream.read(_HEAD)
            if _kind(data) in (*FORMATS, "DICOM"):
                check_bytes(status.st_size, limits)
                data += read_rest(stream, max(0, status.st_size - len(data)), limits.bytes - len(data))
    except (OSError, ValueError) as error:
        raise RefusedError(_why_unreadable(name, error)) from error
    check_bytes(len(data), limits)  # it grew, or lies in a file system that does not know sizes
    return data


def _why_unreadable(name: str, error: Exception) -> str:
    if name.lower().startswith(("http://", "https://")):
        return "links are not fetched; download the picture and give its path"
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(error, PermissionError):
        return "no permission to read the file; change its permissions"
    return f"the file cannot be read ({brief(error)}); check the path"


def check_bytes(size: int, limits: Limits) -> None:
    """Refuse a file of so many bytes if it is too large."""
    if size > limits.bytes:
        most = limits.bytes / 2**20
        raise RefusedError(f"the file has {size / 2**20:.1f} MiB, the limit is {most:.1f} MiB; {_RAISE}")


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Refuse a picture of this width and height if it is too large."""
    width, height = size
    if width < 1 or height < 1:
        raise RefusedError(f"it has no pixels ({width} x {height})")
    if width * height > limits.max_pixels:
        most = f"{limits.max_pixels / 1e6:g} million"
        raise RefusedError(f"it has {width} x {height} pixels, the limit is {most} in all; {_RAISE}")
    if max(size) > limits.side:
        raise RefusedError(f"it has {width} x {height} pixels, the limit is {limits.side} a side; {_RAISE}")


def brief(error: BaseException) -> str:
    """Return one line of at most 120 characters that says what ``error`` is about."""
    return printable(" ".join(str(error).split())[:120] or type(error).__name__)


_process_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop Pillow's remarks about odd metadata.

    Warning filters belong to the whole process, hence the lock; only work on headers is done under it.
    """
    with _process_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _quiet_within(limits: Limits) -> Iterator[None]:
    """Also put our limit on pixels in place of Pillow's, which refuses whatever has more than twice as many.

    Pillow asks it where we cannot come first: for the tiles of a TIFF and the canvas of a WebP.
    """
    with quiet():
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def open_stored(data: bytes, limits: Limits) -> Stored:
    """Decode an encoded picture."""
    if not data:
        raise RefusedError("the file is empty; copy it again or leave it out")
    check_bytes(len(data), limits)
    listed = pages(data) if data[:2] in (b"II", b"MM") else []
    try:
        if data[128:132] == b"DICM":
            return _dicom(data, limits)
        if data[:3] == b"\xff\xd8\xff":
            _check_jpeg(data, limits)
        if listed:
            check_size(listed[0].size, limits)
            _check_scans(data.count(b"\xff\xda") // listed[0].pieces, listed[0].size)
            return _tiff(data, listed, limits)
        return _by_pillow(data, limits, [])
    except (TiffError, DicomError) as error:
        raise RefusedError(str(error)) from error
    except (OSError, EOFError, SyntaxError) as error:  # what Pillow raises when data end early
        kind = _kind(data) or "image"
        raise RefusedError(
            f"the {kind} file is cut short or damaged ({brief(error)}); copy it again"
        ) from error


def _by_pillow(data: bytes, limits: Limits, listed: list[Page]) -> Stored:
    image, rawmode = _open(data, limits)
    with image:
        notes = _frames(image, listed)
        image.load()  # before the orientation: TIFF pictures are turned, and their tag removed, while loading
        deep = _deep(image, rawmode, data, limits, listed)
        lossy = image.format in ("JPEG", "MPO") or (image.format == "WEBP" and not _is_lossless_webp(data))
        return Stored(image, deep, *orientation(image), lossy, notes)


def _open(data: bytes, limits: Limits, rawmode: str | None = None) -> tuple[Image.Image, str]:
    """Open an allowed format and check its size; nothing is decoded, but for TIFF (see below).

    Args:
        data: the file.
        limits: of its size.
        rawmode: how Pillow is to take the bytes of a pixel, in place of how it would.

    Returns:
        The image, and how Pillow takes the bytes of a pixel.
    """
    try:
        with _quiet_within(limits):
            image = Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS])
            check_size(image.size, limits)
            tiles = getattr(image, "tile", None) or [None]
            args = getattr(tiles[0], "args", "")
            usual, *others = args if isinstance(args, tuple) else (args,)
            if rawmode is not None:
                image.tile = [tiles[0]._replace(args=(rawmode, *others) if others else rawmode)]
            if image.format == "TIFF":  # decoding a TIFF goes through its metadata once more and may warn
                image.load()
    except Image.DecompressionBombError as error:
        most = f"{limits.max_pixels / 1e6:g} million"
        raise RefusedError(f"it claims far more than {most} pixels, the limit; {_RAISE}") from error
    except UnidentifiedImageError as error:
        raise RefusedError(_why_unidentified(data)) from error
    return image, str(usual)


def orientation(image: Image.Image) -> tuple[int, bool]:
    """Return the EXIF orientation of a picture, 1 if it cannot be read, and whether it has one."""
    try:
        with quiet():
            value = image.getexif().get(0x0112)
    except Exception:  # unreadable metadata says nothing about the pixels: the picture stays as stored
        return 1, False
    return (value, True) if isinstance(value, int) and 1 <= value <= 8 else (1, False)


def _frames(image: Image.Image, listed: list[Page]) -> tuple[str, ...]:
    try:
        count = len(listed) or int(getattr(image, "n_frames", 1))
    except Exception:  # damage behind the first picture does not concern it
        return ()
    return _only_first(count, "page" if listed else "frame")


def _only_first(count: int, kind: str) -> tuple[str, ...]:
    several = f"only the first of its {count} {kind}s was looked at; save each as a picture of its own"
    return (several,) if count > 1 else ()


def _dicom(data: bytes, limits: Limits) -> Stored:
    with quiet():  # pydicom warns of each value that is not as the standard wants it
        deep, notes = dicom.decode(data, lambda size: check_size(size, limits))
    if deep.values.dtype != np.uint8:
        return Stored(None, deep, notes=notes)
    return Stored(
        Image.fromarray(to_rgb(deep, None)[0]), None, notes=notes
    )  # no white of deep pixels applies


def _tiff(data: bytes, listed: list[Page], limits: Limits) -> Stored:
    """Decode a TIFF; without Pillow where that reads it wrongly or not at all, or drops its deeper bits."""
    page = listed[0]
    if not page.is_scrambled_by_pillow and not (page.is_beyond_pillow and page.is_plain):
        try:
            return _by_pillow(data, limits, listed)
        except RefusedError as refused:
            if not isinstance(refused.__cause__, UnidentifiedImageError):
                raise
    values = decode(data, page, 12 * limits.max_pixels)
    turned = page.one(ORIENTATION)
    return Stored(
        None,
        Deep(values, page.is_colour, page.has_alpha, page.white(), page.is_inverted),
        turned if 1 <= turned <= 8 else 1,
        ORIENTATION in page.tags,
        notes=_only_first(len(listed), "page"),
    )


def _deep(image: Image.Image, rawmode: str, data: bytes, limits: Limits, listed: list[Page]) -> Deep | None:
    """Return the values of a picture of more than 8 bits that Pillow opened, or None."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)[:, :, None]
        if image.format == "PNG":  # which has 16 bits at most, in whatever type Pillow holds them
            values = values.astype(np.uint16)
        colour, alpha = False, False
    elif rawmode in _LOWER and "transparency" not in image.info:
        # Pillow keeps the upper byte of a value; told that bytes are the other way round, it keeps the lower.
        other, _ = _open(data, limits, _LOWER[rawmode])
        with other:
            low = np.asarray(other)
        if rawmode == "LA;16B":  # four bytes of a pixel, read as four channels
            values = low[:, :, 0::2].astype(np.uint16) << 8 | low[:, :, 1::2]
        else:
            values = np.asarray(image).astype(np.uint16) << 8 | low
        colour, alpha = rawmode != "LA;16B", not rawmode.startswith("RGB;")
    else:
        return None
    page = listed[0] if listed else None
    declared = _white_of_png(data, values) if page is None else page.white()
    return Deep(values, colour, alpha, declared, is_inverted=page is not None and page.is_inverted)


def _white_of_png(data: bytes, values: Values) -> float | None:
    """Return the white of a PNG by its chunk sBIT, or None.

    By the standard values use all 16 bits, and the chunk says how many of them mean something. Writers that
    store 10 bits as they are say so by the same chunk: then no value is higher than these can be.
    """
    at = 8
    while at + 12 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        length = struct.unpack_from(">I", data, at)[0]
        if data[at + 4 : at + 8] == b"sBIT" and 1 <= length <= 4:
            full = 2 ** max(data[at + 8 : at + 8 + length]) - 1
            return float(full if values.max() <= full else FULL) if full <= FULL else None
        at += 12 + length
    return None


def _is_lossless_webp(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        at += 8 + length + length % 2
    return False


def _check_jpeg(data: bytes, limits: Limits) -> None:
    """Refuse a JPEG of more than 8 bits, and one of so many scans that decoding it would take long.

    Each scan of a progressive JPEG goes through all pixels, however few bytes it has.
    """
    at = 2
    width = height = 0
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            precision, height, width = struct.unpack_from(">BHH", data, at + 4)
            check_size((width, max(height, 1)), limits)
            if precision != 8:
                raise RefusedError(f"it is a JPEG of {precision} bits; save it as PNG of 16 bits")
        if marker == 0xDA:
            break
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    _check_scans(data.count(b"\xff\xda", at), (width, height))


def _check_scans(scans: int, size: tuple[int, int]) -> None:
    if scans > _SCANS and scans * size[0] * size[1] > _WORK:
        raise RefusedError(
            f"it is a JPEG of {scans} scans, which would take long to decode; save it as an ordinary JPEG"
        )


_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF8", "a GIF"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript (EPS) file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\0\0\1\0", "an icon file"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (128, b"DICM", "DICOM"),
    (0, b"\x93NUMPY", "a NumPy array file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)


def _kind(data: bytes) -> str | None:
    """Say what the first bytes look like; used for messages only, never to choose a decoder."""
    return next((kind for at, magic, kind in _SIGNATURES if data[at : at + len(magic)] == magic), None)


def _why_unidentified(data: bytes) -> str:
    kind = _kind(data)
    if kind in (*FORMATS, "DICOM"):
        return f"it starts like a {kind} file but is cut short or damaged; copy it again"
    return f"it is {kind or _text_or_data(data)}, not an allowed kind of picture; allowed are {_ALLOWED}"


def _text_or_data(data: bytes) -> str:
    start = data[:512].lstrip()
    if start[:5].lower() in (b"<?xml", b"<svg ", b"<!doc", b"<html"):
        return "a web page or drawing (XML, SVG or HTML)"
    text = start.decode("utf-8", "replace").rstrip("\ufffd")  # the cut may fall inside a character
    plain = all(c.isprintable() or c in "\t\n\r\f" for c in text) and "\ufffd" not in text
    return "text" if text and plain else "unknown data"
