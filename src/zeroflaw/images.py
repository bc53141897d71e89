"""Reading images (limits, decoding, orientation, RGB), and finding them by what a user names.

A picture is checked in the order in which it could do harm: bytes, format, size in the header, decoding,
and only then its pixels. The rules follow the threat model of Pillow's security handbook: an allow-list of
formats instead of trust in the file name, and limits of our own, which stand in for Pillow's while a file
is opened.

What becomes of the less usual kinds of picture:

========================  ==============================================================================
several frames or pages   the first one
EXIF orientation          applied: the array is the way up in which viewers show it; ignored if unreadable
transparency              laid over white (alpha channel, palette entry or transparent colour alike)
palette, CMYK, 1 bit      converted to RGB; colour profiles are ignored, as in CLIP's own preprocessing
grey with 16 bits         divided by 257, whatever the picture's own range, so that the same value always
                          means the same grey; what is not black stays so: values from 1 to 128 become 1
grey with 32 bits or      their white is not known and is taken from the highest value: 1 for floating point
floating point            up to 1, else 255 up to 255, else 65535; others, NaN, infinity are refused
========================  ==============================================================================
"""

from __future__ import annotations

import glob
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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

from zeroflaw.errors import ImageError, InputError

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"

_PLUGINS = {
    "PNG": PngImagePlugin,
    "JPEG": JpegImagePlugin,
    "WebP": WebPImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
}
FORMATS = tuple(_PLUGINS)
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"})
_ALLOWED = ", ".join(FORMATS)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost before it is refused.

    Attributes:
        max_bytes: size of the encoded file.
        max_pixels: width times height.
        max_side: width or height, whichever is longer, in pixels.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 20_000


DEFAULT_LIMITS = Limits()


def shown(source: object) -> str:
    """Return a name for ``source`` that can always be printed and written as UTF-8.

    Bytes that are not UTF-8 and control characters appear as escapes, so that a file name can neither break
    a line of output nor steer a terminal.
    """
    if not isinstance(source, str | os.PathLike):
        return f"<{type(source).__name__}>"
    name = os.fspath(source)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def brief(error: BaseException) -> str:
    """Return one line of at most 120 characters that says what ``error`` is about."""
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


class _RefusedError(Exception):
    """Why a picture cannot be used, in words; becomes an :class:`ImageError` once its name is known."""


def read_image(source: Source, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None) -> Pixels:
    """Return a picture as contiguous uint8 ``(H, W, 3)`` in RGB, upright.

    Args:
        source: a path, an encoded file as bytes, a PIL image, or an array ``(H, W)``, ``(H, W, 1)``,
            ``(H, W, 3)`` or ``(H, W, 4)``. Links (URLs) are never fetched.
        limits: bounds on bytes, pixels and side.
        name: what to call the picture in errors; by default its path or kind.

    Raises:
        ImageError: the picture cannot be used, whatever the cause.
    """
    label = shown(source) if name is None else name
    try:
        return _pixels(source, limits)
    except _RefusedError as refused:
        raise ImageError(label, str(refused)) from refused.__cause__
    except MemoryError as error:
        raise ImageError(label, "there is not enough memory to decode it; make it smaller") from error
    # Decoders fed with damaged data raise nearly every kind of exception; to the caller they are one.
    except Exception as error:
        raise ImageError(label, f"the picture is damaged ({brief(error)}); save or copy it again") from error


def _pixels(source: Source, limits: Limits) -> Pixels:
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, Image.Image):
        _check_size(source.size, limits)
        return _upright_rgb(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), limits)
    if isinstance(source, str | os.PathLike):
        return _decode(_read_bytes(os.fspath(source), limits), limits)
    raise _RefusedError("a picture is a path, bytes, a PIL image or a NumPy array")


def _read_bytes(name: str, limits: Limits) -> bytes:
    """Read a regular file of at most ``limits.max_bytes``."""
    path = Path(name)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _RefusedError("it is a folder; give an image file")
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever, a device may never end
            raise _RefusedError("it is not a regular file; give an image file")
        with path.open("rb") as stream:
            data = stream.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _RefusedError(_why_unreadable(name, error)) from error
    if len(data) > limits.max_bytes:
        raise _RefusedError(_too_many_bytes(status.st_size, limits))
    return data


def _why_unreadable(name: str, error: Exception) -> str:
    if name.lower().startswith(("http://", "https://")):
        return "links are not fetched; download the picture and give its path"
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(error, PermissionError):
        return "no permission to read the file; change its permissions"
    return f"the file cannot be read ({brief(error)}); check the path"


def _too_many_bytes(size: int, limits: Limits) -> str:
    most = limits.max_bytes / 2**20
    return f"the file has {size / 2**20:.1f} MiB, the limit is {most:.1f} MiB; make it smaller"


_process_lock = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
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
    with _quiet():
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decode(data: bytes, limits: Limits) -> Pixels:
    if not data:
        raise _RefusedError("the file is empty; copy it again or leave it out")
    if len(data) > limits.max_bytes:
        raise _RefusedError(_too_many_bytes(len(data), limits))
    try:
        with _open(data, limits) as image:
            return _upright_rgb(image)
    except (OSError, EOFError, SyntaxError) as error:  # what Pillow raises when data end early
        kind = _kind(data) or "image"
        raise _RefusedError(
            f"the {kind} file is cut short or damaged ({brief(error)}); copy it again"
        ) from error


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Open an allowed format and check its size; nothing is decoded, but for TIFF (see below)."""
    try:
        with _quiet_within(limits):
            image = Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS])
            _check_size(image.size, limits)
            if image.format == "TIFF":  # decoding a TIFF goes through its metadata once more and may warn
                image.load()
    except Image.DecompressionBombError as error:
        most = f"{limits.max_pixels / 1e6:.0f} million"
        reason = f"it claims far more than {most} pixels, the limit; make it smaller"
        raise _RefusedError(reason) from error
    except UnidentifiedImageError as error:
        raise _RefusedError(_why_unidentified(data)) from error
    return image


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise _RefusedError(f"it has no pixels ({width} x {height})")
    if width * height > limits.max_pixels:
        most = f"{limits.max_pixels / 1e6:.0f} million"
        raise _RefusedError(f"it has {width} x {height} pixels, the limit is {most} in all; make it smaller")
    if max(size) > limits.max_side:
        most = f"{limits.max_side} a side"
        raise _RefusedError(f"it has {width} x {height} pixels, the limit is {most}; make it smaller")


_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
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
    (128, b"DICM", "a DICOM file"),
    (0, b"\x93NUMPY", "a NumPy array file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)


def _kind(data: bytes) -> str | None:
    """Say what the first bytes look like; used for messages only, never to choose a decoder."""
    return next((kind for at, magic, kind in _SIGNATURES if data[at : at + len(magic)] == magic), None)


def _why_unidentified(data: bytes) -> str:
    kind = _kind(data)
    if kind in FORMATS:
        return f"it starts like a {kind} file but is cut short or damaged; copy it again"
    return f"it is {kind or _text_or_data(data)}, not an allowed kind of picture; allowed are {_ALLOWED}"


def _text_or_data(data: bytes) -> str:
    start = data[:512].lstrip()
    if start[:5].lower() in (b"<?xml", b"<svg ", b"<!doc", b"<html"):
        return "a web page or drawing (XML, SVG or HTML)"
    text = start.decode("utf-8", "replace").rstrip("\ufffd")  # the cut may fall inside a character
    plain = all(c.isprintable() or c in "\t\n\r\f" for c in text) and "\ufffd" not in text
    return "text" if text and plain else "unknown data"


_ORIENT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}  # EXIF 2.32, tag 0x0112: what brings the stored rows and columns upright


def _upright_rgb(image: Image.Image) -> Pixels:
    image.load()  # before the orientation: TIFF pictures are turned, and their tag removed, while loading
    turn = _ORIENT.get(_orientation(image))
    pixels = _rgb(image)
    return np.array(turn(pixels) if turn else pixels, dtype=np.uint8, order="C")


def _orientation(image: Image.Image) -> int:
    try:
        with _quiet():
            value = image.getexif().get(0x0112, 1)
    except Exception:  # unreadable metadata says nothing about the pixels: the picture stays as stored
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.format == "PNG":  # which has 16 bits at most, in whatever type Pillow holds them
            values = values.astype(np.uint16)
        grey = _eight_bit(values)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))


def _eight_bit(values: np.ndarray) -> Pixels:
    """Bring values to uint8 by the rules of the module docstring."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return _from_sixteen_bits(values)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _RefusedError("it has pixels that are no numbers (NaN or infinity); save it with plain values")
    if low < 0 or high > 65535:
        raise _RefusedError(f"its values go from {low:g} to {high:g}; scale them to 0..1, 0..255 or 0..65535")
    full = 1 if high <= 1 and values.dtype.kind == "f" else 255 if high <= 255 else 65535
    eight: Pixels = np.rint(values.astype(np.float32) * np.float32(255 / full)).astype(np.uint8)
    return eight


def _from_sixteen_bits(values: np.ndarray) -> Pixels:
    eight: Pixels = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    # Masks that number their regions come in 16 bits too; what they mark must not round to nothing.
    return np.maximum(eight, values > 0, dtype=np.uint8, casting="unsafe")


def _from_array(values: np.ndarray, limits: Limits) -> Pixels:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise _RefusedError(f"an array must have shape (H, W) or (H, W, 1, 3 or 4), not {values.shape}")
    _check_size((values.shape[1], values.shape[0]), limits)
    if values.dtype.kind == "b":
        values = values * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise _RefusedError(f"an array must hold numbers, not {values.dtype}")
    if values.dtype != np.uint8:
        values = _eight_bit(values)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return np.array(_rgb(Image.fromarray(np.ascontiguousarray(values))), order="C")


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images behind the paths that were given.

    Attributes:
        paths: the images: arguments in the order given, each folder sorted by name, no file twice.
        skipped: what folders and patterns also held: files without an image's extension and links to
            folders (never followed). Hidden files and folders are left out silently, as a shell does.
    """

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> ImageList:
    """Expand files, folders (with all below them) and patterns such as ``photos/*.png`` into image paths.

    A file named outright is always taken, whatever its extension, so that a reason can be reported for it.

    Raises:
        InputError: a path does not exist, or a folder or pattern holds no image.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    taken: dict[Path, Path] = {}
    skipped: dict[Path, Path] = {}
    for given in several:
        found = _expand(os.fspath(given))
        for path in found.paths:
            taken.setdefault(path.absolute(), path)
        skipped.update((path.absolute(), path) for path in found.skipped)
    if not taken:
        raise InputError("no image was named; give a file, a folder or a pattern such as 'photos/*.png'")
    return ImageList(tuple(taken.values()), tuple(path for key, path in skipped.items() if key not in taken))


def _expand(given: str) -> ImageList:
    path = Path(given)
    try:
        there = bool(given) and path.exists()
    except OSError as error:
        raise InputError(f"'{shown(path)}' cannot be looked at ({brief(error)}); check the path") from error
    if there and not path.is_dir():
        return ImageList((path,))
    if not there and not glob.has_magic(given):
        raise InputError(f"there is no file or folder '{shown(given)}'; check the path")
    files, links = _walk(path) if there else _matching(given)
    images = tuple(file for file in files if file.suffix.lower() in EXTENSIONS)
    skipped = (*(file for file in files if file.suffix.lower() not in EXTENSIONS), *links)
    if not images:
        what = f"folder '{shown(given)}' holds" if there else f"pattern '{shown(given)}' matches"
        others = f"{len(skipped)} other entries were skipped, " if skipped else ""
        raise InputError(f"{what} no image; {others}images end in .png, .jpg, .webp, .bmp or .tif")
    return ImageList(images, skipped)


def _matching(pattern: str) -> tuple[list[Path], list[Path]]:
    """Return the files that a pattern means, and links to folders among them."""
    # Path.glob takes neither absolute patterns nor '..', so the older function it is.
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207
    if not names:  # the brackets may be those of a folder's name
        names = glob.glob(pattern.replace("[", "[[]"), recursive=True)  # noqa: PTH207
    matches = sorted((Path(name) for name in names), key=lambda path: path.parts)
    if "**" in pattern:  # which follows links to folders, for ever where they form a loop
        start = len(Path(pattern.partition("**")[0]).parts)
        matches = [path for path in matches if not _behind_link(path, start)]
    found = [_walk(path) if path.is_dir() else ([path], []) for path in matches]
    return [file for files, _ in found for file in files], [link for _, links in found for link in links]


def _behind_link(path: Path, start: int) -> bool:
    folders = [path, *path.parents] if path.is_dir() else path.parents
    return any(folder.is_symlink() for folder in folders if len(folder.parts) > start)


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    files: list[Path] = []
    links: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links += [Path(root, name) for name in folders if Path(root, name).is_symlink()]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files, key=lambda path: path.parts), sorted(links)


def _cannot_list(error: OSError) -> None:
    raise InputError(
        f"folder '{shown(error.filename)}' cannot be read ({error.strerror}); check its permissions"
    )
