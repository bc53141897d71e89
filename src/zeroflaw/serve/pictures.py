"""Pictures as they were sent, in files named by their SHA-256, and small ones for the page."""

from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.errors import ImageError, OutputError, printable, reason
from zeroflaw.files import write_bytes
from zeroflaw.images import read_image
from zeroflaw.report.colours import colourise
from zeroflaw.report.heatmap import anchored

THUMBNAIL = 320  # longest side in pixels
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"BM", "image/bmp"),
    (b"II", "image/tiff"),
    (b"MM", "image/tiff"),
)
# Pictures of 50 megapixels take hundreds of megabytes while they are decoded.
_decoding = threading.Semaphore(2)


class PictureStore:
    """A folder of pictures: ``ab/cd/abcd...`` and, once asked for, ``ab/cd/abcd....jpg``.

    Args:
        folder: where; made when the first picture comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path | None:
        """Return where a picture lies, if it is kept; None for what is no digest, too."""
        if not _DIGEST.fullmatch(digest):
            return None
        return self.folder / digest[:2] / digest[2:4] / digest

    def put(self, digest: str, data: bytes) -> int:
        """Keep a picture, and return its size in bytes; one that is there already becomes as young as new.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path(digest)
        assert path is not None
        try:
            try:
                os.utime(path)
            except FileNotFoundError:
                write_bytes(path, data)
        except OSError as error:
            raise OutputError(
                f"pictures cannot be kept in '{printable(self.folder)}' ({reason(error)}); make room there, "
                "or keep them for a shorter time"
            ) from error
        return len(data)

    def check(self) -> None:
        """See that pictures may be kept, without keeping one.

        Raises:
            OutputError: they may not.
        """
        places = (self.folder, *self.folder.parents)
        there = next((place for place in places if os.access(place, os.F_OK)), self.folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise OutputError(
                f"pictures cannot be kept in '{printable(self.folder)}'; see that it is a folder that may be "
                "written"
            )

    def get(self, digest: str) -> bytes | None:
        """Return a picture as it was sent, or None where it is not kept."""
        path = self.path(digest)
        return None if path is None else _read(path)

    def thumbnail(self, digest: str) -> bytes | None:
        """Return a picture as JPEG, upright, its longest side at most 320 pixels; None where it is not kept.

        Raises:
            ImageError: it cannot be read any more.
        """
        path = self.path(digest)
        if path is None:
            return None
        small = path.with_name(f"{digest}.jpg")
        if (known := _read(small)) is not None:
            return known
        data = _read(path)
        if data is None:
            return None
        made = thumbnail(data)
        try:
            write_bytes(small, made)
        except OSError:  # a full disk: it is made again the next time
            return made
        return made

    def remove(self, digest: str) -> None:
        """Remove a picture, where it is kept."""
        path = self.path(digest)
        if path is not None:
            path.unlink(missing_ok=True)
            path.with_name(f"{digest}.jpg").unlink(missing_ok=True)


def thumbnail(data: bytes) -> bytes:
    """Return an encoded picture as a small JPEG; see `PictureStore.thumbnail`."""
    with _decoding:
        image = Image.fromarray(read_image(data, name="the picture"))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def heat(values: npt.NDArray[np.float32], threshold: float | None) -> bytes:
    """Return a map (rows, columns) in the report's colours as PNG, to be laid over its picture.

    Args:
        values: in [0, 1].
        threshold: its smallest anomalous value; below it there is nothing to be seen. Without it, colour is
            thin where values are low.
    """
    if threshold is None:
        shown, alpha = np.clip(values, 0, 1), 0.32 + 0.43 * np.clip(values, 0, 1)
    else:
        shown = np.clip(anchored(values, threshold), 0, 1)
        rising = np.clip((shown - 0.46) / 0.24, 0, 1)  # as in the report's drawings
        alpha = rising**2 * (3 - 2 * rising)
    drawn = np.dstack([colourise(shown), np.rint(255 * alpha).astype(np.uint8)])
    stream = io.BytesIO()
    Image.fromarray(drawn).save(stream, "PNG")
    return stream.getvalue()


def media_type(data: bytes) -> str:
    """Return the media type of an encoded picture by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _KINDS if data.startswith(start)), "application/octet-stream")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError("the picture", f"it cannot be read ({reason(error)})") from error
