"""DICOM, as X-ray systems write it: grey or RGB, uncompressed or by run lengths; the first frame of a file.

What is parsed before the size is known is bounded: pydicom is given the head of a file, and no pixels.
Rescale and window are applied as pydicom does; without them white is the highest value of the stored bits.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroflaw.depth import Deep

_EXPLICIT, _PLAIN = "1.2.840.10008.1.2.1", ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
_RLE = "1.2.840.10008.1.2.5"
_HEAD = 1 << 20  # bytes before the pixels
_MOST_META = 100  # elements that say how a file is written
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_PIXELS = 0x7FE00010
_KINDS = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL")
_MOST_RLE = 32 << 20  # bytes of pixels that are unpacked one run after the other
_CHUNK = 1 << 20  # numbers that are windowed at once
_INSTALL = "install the extra 'dicom' (pip install 'zeroflaw[dicom]'), or save it as PNG"

CheckSize = Callable[[tuple[int, int]], None]


class DicomError(Exception):
    """Why a file cannot be read, in words."""


def decode(data: bytes, check_size: CheckSize) -> tuple[Deep, tuple[str, ...]]:
    """Return the pixels of a DICOM file, and notes about what was not looked at.

    Args:
        data: the file.
        check_size: is given width and height before pixels are decoded.

    Raises:
        DicomError: it is of a kind that is not read, or pydicom is not installed.
        Exception: of pydicom, where the file is damaged.
    """
    try:
        from pydicom import filereader, pixels
    except ImportError:
        raise DicomError(f"it is a DICOM file, for which pydicom is needed; {_INSTALL}") from None
    syntax = _transfer_syntax(data)
    if syntax not in (_EXPLICIT, *_PLAIN, _RLE):
        raise DicomError(f"its pixels are compressed ({syntax}), which is not read; save it uncompressed")
    reached: list[int] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        reached.extend([tag] * (tag >= _PIXELS))
        return tag >= _PIXELS

    head: Any = filereader.read_partial(io.BytesIO(data[:_HEAD]), at_pixels)
    if _PIXELS not in reached:
        raise DicomError(f"no pixels begin within its first {_HEAD >> 20} MiB; save it as PNG")
    check_size((int(head.Columns), int(head.Rows)))
    _refuse_strange(head)
    frames = int(head.get("NumberOfFrames") or 1)
    whole: Any = filereader.read_partial(io.BytesIO(data), lambda tag, vr, length: tag > _PIXELS)
    if syntax == _RLE:
        _check_runs(whole, head, frames)
    values = pixels.pixel_array(whole, index=0)
    several = f"only the first of its {frames} frames was looked at; save each as a picture of its own"
    return _deep(whole, values.reshape(int(head.Rows), int(head.Columns), -1)), (several,) * (frames > 1)


def _transfer_syntax(data: bytes) -> str:
    """Return how the file is written, from its group 2, which is always explicit and little endian."""
    at = 132
    for _ in range(_MOST_META):
        group, element, kind, length = struct.unpack_from("<HH2sH", data, at)
        at += 8
        if kind in _LONG:
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
        if group != 2:
            break
        if element == 0x10:
            return data[at : at + length].rstrip(b"\0 ").decode("ascii", "replace")
        at += length
    raise DicomError("it does not say how its pixels are written (transfer syntax); save it again")


def _refuse_strange(head: Any) -> None:
    kind, channels, bits = head.PhotometricInterpretation, int(head.SamplesPerPixel), int(head.BitsAllocated)
    if kind not in _KINDS or channels != (1 if kind.startswith("MONO") else 3) or bits not in (8, 16, 32):
        raise DicomError(f"it has {channels} x {bits} bits ({kind}), neither grey nor RGB; save it as PNG")
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        if name in head:
            raise DicomError(f"its values are to be looked up in a table ({name}); save it as PNG")


def _check_runs(whole: Any, head: Any, frames: int) -> None:
    """Refuse run lengths that unpack to more than the picture has."""
    from pydicom.encaps import get_frame

    each = int(head.Rows) * int(head.Columns)
    count = int(head.SamplesPerPixel) * int(head.BitsAllocated) // 8
    if each * count > _MOST_RLE:
        raise DicomError(f"its run lengths give more than {_MOST_RLE >> 20} MiB; save it unpacked")
    frame = get_frame(whole.PixelData, 0, number_of_frames=frames)
    segments, *offsets = struct.unpack_from("<16I", frame)
    ends = [*offsets[1 : min(segments, 15)], len(frame)]
    if segments != count or len(frame) > 2 * each * count + 4096:
        raise DicomError("its run lengths do not fit its size; save it unpacked")
    for start, end in zip(offsets, ends, strict=False):
        at, length = start, 0
        while at < min(end, len(frame)) and length <= each:
            run = frame[at]
            length += run + 1 if run < 128 else 257 - run if run > 128 else 0
            at += run + 2 if run < 128 else 2 if run > 128 else 1
        if length > each + 1:  # a byte of padding may look like a run of its own
            raise DicomError("its run lengths unpack to more than its size; save it unpacked")


def _deep(whole: Any, values: npt.NDArray[Any]) -> Deep:
    inverted = whole.PhotometricInterpretation == "MONOCHROME1"
    stored, signed = int(whole.BitsStored), bool(int(whole.PixelRepresentation))
    if values.shape[2] > 1:
        return Deep(values, True, declared=float(2**stored - 1))
    slope, intercept = (whole.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    scaled = slope is not None and intercept is not None
    if not (scaled and (slope, intercept) != (1, 0)) and "WindowCenter" not in whole and not signed:
        return Deep(values, declared=float(2**stored - 1), is_inverted=inverted)
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    if scaled:
        low, high = (float(end) * float(slope) + float(intercept) for end in (low, high))
    return Deep(
        _windowed(whole, values, min(low, high), max(low, high)), declared=255.0, is_inverted=inverted
    )


def _windowed(whole: Any, values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return values as they are meant to be shown, uint8 (H, W, 1), from the range that they can have."""
    from pydicom.pixels import apply_rescale, apply_windowing

    shown = np.empty(values.shape, np.uint8)
    step = max(1, _CHUNK // values.shape[1])
    for top in range(0, len(values), step):
        part = apply_rescale(values[top : top + step], whole)
        if "WindowCenter" in whole:
            part = apply_windowing(part, whole)
        shown[top : top + step] = np.rint(np.clip((part - low) * (255 / (high - low)), 0, 255))
    return shown
