"""Reading images: limits, decoding, the level of white, orientation, RGB.

What becomes of the less usual kinds of picture:

========================  ==============================================================================
several frames or pages   the first one, with a note that says so
EXIF orientation          applied: the array is the way up in which viewers show it; ignored if unreadable
transparency              laid over white (alpha channel, palette entry or transparent colour alike)
palette, CMYK, 1 bit      converted to RGB; colour profiles are ignored, as in CLIP's own preprocessing
more than 8 bits          divided by their white: what the user says (``white``), else what the file
                          declares (TIFF: tags SMaxSampleValue, WhiteLevel, MaxSampleValue, or 9 to 15
                          bits a sample; PNG: chunk sBIT), else the lowest of 255, 1023, 4095, 16383, 65535
                          that no value is above, with a note unless it is the full range of the type;
                          floating point up to 1 has a white of 1. NaN, infinity, values below 0 and,
                          where nothing says what is white, above 65535 are refused
arrays                    (H, W), (H, W, 1), or (H, W, 3 or 4) in the order red, green, blue, alpha. OpenCV
                          reads blue first: nothing tells the two apart, so turn them round with
                          ``array[:, :, ::-1]``
========================  ==============================================================================

What applies to all reads of a process, `reading` says: limits, white, where notes go.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroflaw.decoding import (
    DEFAULT_LIMITS,
    FORMATS,
    RefusedError,
    Stored,
    brief,
    check_size,
    open_stored,
    orientation,
    quiet,
    read_bytes,
)
from zeroflaw.decoding import Limits as Limits
from zeroflaw.depth import Deep, DepthError, Pixels, to_rgb
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.finding import EXTENSIONS as EXTENSIONS
from zeroflaw.finding import ImageList as ImageList
from zeroflaw.finding import find_images as find_images

Source: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"
OnNote: TypeAlias = Callable[[str, str], object]  # name of a picture, and a sentence about how it was read


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was read.

    Attributes:
        pixels: contiguous uint8 (H, W, 3) in RGB, upright.
        notes: a sentence each about what was guessed or left out; mostly empty.
    """

    pixels: Pixels
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reading:
    limits: Limits = DEFAULT_LIMITS
    white: float | None = None
    on_note: OnNote | None = None


_reading = _Reading()  # of the process: pictures are read in threads, too


@contextmanager
def reading(
    *, limits: Limits | None = None, white: float | None = None, on_note: OnNote | None = None
) -> Iterator[None]:
    """Say how all pictures are read until the block ends, by all threads; what is not given stays.

    Args:
        limits: bounds on pixels, bytes and side.
        white: the value that is white in pictures of more than 8 bits: 1023 for the 10 bits of a camera.
            Give the same when a detector is fitted and when it judges.
        on_note: called with the name of a picture and a sentence, for each note about a picture.

    Raises:
        UsageError: ``white`` is no number above 0.
    """
    global _reading
    if white is not None and not (math.isfinite(white) and white > 0):
        raise UsageError(f"the level of white must be a number above 0, 1023 for 10 bits, got {white}")
    before = _reading
    _reading = _Reading(
        before.limits if limits is None else limits,
        before.white if white is None else white,
        before.on_note if on_note is None else on_note,
    )
    try:
        yield
    finally:
        _reading = before


def limits_now() -> tuple[Limits, float | None]:
    """Return by which limits and level of white pictures are read; see `reading`."""
    return _reading.limits, _reading.white


def shown(source: object) -> str:
    """Return a name for ``source`` that can always be printed and written as UTF-8.

    Bytes that are not UTF-8 and control characters appear as escapes, so that a file name can neither break
    a line of output nor steer a terminal.
    """
    if not isinstance(source, str | os.PathLike):
        return f"<{type(source).__name__}>"
    name = os.fspath(source)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def read_image(source: Source, *, limits: Limits | None = None, name: str | None = None) -> Pixels:
    """Return a picture as contiguous uint8 ``(H, W, 3)`` in RGB, upright.

    Args:
        source: a path, an encoded file as bytes, a PIL image, or an array ``(H, W)``, ``(H, W, 1)``,
            ``(H, W, 3)`` or ``(H, W, 4)``, in the order of RGBA. Links (URLs) are never fetched.
        limits: bounds on bytes, pixels and side; by default those of `reading`.
        name: what to call the picture in errors; by default its path or kind.

    Raises:
        ImageError: the picture cannot be used, whatever the cause.
    """
    return read_picture(source, limits=limits, name=name).pixels


def read_picture(source: Source, *, limits: Limits | None = None, name: str | None = None) -> Picture:
    """Return what `read_image` does, with notes about how it was read; its arguments and errors."""
    label = shown(source) if name is None else name
    with refusing(label):
        found = _upright_rgb(stored(source, limits))
    if (on_note := _reading.on_note) is not None:
        for note in found.notes:
            on_note(label, note)
    return found


@contextmanager
def refusing(label: str) -> Iterator[None]:
    """Turn all that can go wrong with a picture into an `ImageError` of that name."""
    try:
        yield
    except (RefusedError, DepthError) as refused:
        raise ImageError(label, str(refused)) from refused.__cause__
    except MemoryError as error:
        raise ImageError(label, "there is not enough memory to decode it; make it smaller") from error
    # Decoders fed with damaged data raise nearly every kind of exception; to the caller they are one.
    except Exception as error:
        raise ImageError(label, f"the picture is damaged ({brief(error)}); save or copy it again") from error


def stored(source: Source, limits: Limits | None = None) -> Stored:
    """Return a picture as it is stored; raises what `refusing` turns into an `ImageError`."""
    limits = _reading.limits if limits is None else limits
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, Image.Image):
        check_size(source.size, limits)
        source.load()
        deep = source.mode == "F" or source.mode.startswith("I")
        values = np.asarray(source)[:, :, None] if deep else None
        if values is not None and source.format == "PNG":  # which has 16 bits at most
            values = values.astype(np.uint16)
        return Stored(source, None if values is None else Deep(values), *orientation(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return open_stored(bytes(source), limits)
    if isinstance(source, str | os.PathLike):
        return open_stored(read_bytes(os.fspath(source), limits), limits)
    raise RefusedError("a picture is a path, bytes, a PIL image or a NumPy array")


def _from_array(values: np.ndarray, limits: Limits) -> Stored:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise RefusedError(f"an array must have shape (H, W) or (H, W, 1, 3 or 4), not {values.shape}")
    check_size((values.shape[1], values.shape[0]), limits)
    if values.dtype.kind == "b":
        values = values * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise RefusedError(f"an array must hold numbers, not {values.dtype}")
    channels = values.reshape(*values.shape[:2], -1)
    if values.dtype != np.uint8:
        return Stored(None, Deep(channels, channels.shape[2] > 1, channels.shape[2] == 4))
    plain = channels[:, :, 0] if channels.shape[2] == 1 else channels
    return Stored(Image.fromarray(np.ascontiguousarray(plain)), None)


def read_orientation(path: os.PathLike[str]) -> int:
    """Return the EXIF orientation of a picture from its header; 1 where there is none that can be read."""
    try:
        with quiet(), Image.open(path, formats=[name.upper() for name in FORMATS]) as image:
            return orientation(image)[0]
    except Exception:  # what is wrong with it is said where it is read
        return 1


_ORIENT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}  # EXIF 2.32, tag 0x0112: what brings the stored rows and columns upright


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored rows and columns, (H, W) or (H, W, channels), upright; a view."""
    turn = _ORIENT.get(orientation)
    return turn(values) if turn else values


def _upright_rgb(picture: Stored) -> Picture:
    notes = picture.notes
    if picture.deep is not None:
        pixels, more = to_rgb(picture.deep, _reading.white)
        notes += more
    else:
        assert picture.image is not None
        pixels = _rgb(picture.image)
    return Picture(np.array(upright(pixels, picture.orientation), dtype=np.uint8, order="C"), notes)


def _rgb(image: Image.Image) -> Pixels:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))
