"""Pictures of industry and of strangers, as bytes: what Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(width: int = 23, height: int = 17) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 9, rows * 11, (rows + columns) * 5], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def ramp(white: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Grey values (H, W) from 0 up to a white, which is reached."""
    return np.linspace(0, white, width * height).round().reshape(height, width)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def png16(values: np.ndarray, significant: int | None = None) -> bytes:
    """A PNG of 16 bits: (H, W) or (H, W, 2, 3 or 4), perhaps with a chunk sBIT."""
    kind = {2: 0, 3: {2: 4, 3: 2, 4: 6}.get(values.shape[-1], 0)}[values.ndim]
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    rows = values.astype(">u2").reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    bits = b"" if significant is None else png_chunk(b"sBIT", bytes([significant] * channels))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + bits + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_with_texts(count: int, size: int) -> bytes:
    """A PNG with ``count`` compressed text chunks that each unpack to ``size`` bytes."""
    whole = encoded(photo())
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * size))
    return whole[:33] + text * count + whole[33:]


def jpeg_of_scans(side: int, more: int) -> bytes:
    """A progressive JPEG whose last scan comes ``more`` times more."""
    data = encoded(Image.new("RGB", (side, side), (90, 90, 90)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more + data[-2:]


def tiff(
    values: np.ndarray,
    *,
    order: str = "<",
    bits: int | None = None,
    planar: bool = False,
    deflate: bool = False,
    predictor: bool = False,
    tile: tuple[int, int] | None = None,
    photometric: int | None = None,
    extra: int | None = None,
    tags: Mapping[int, int] | None = None,
    thumbnail: bool = False,
    pages: int = 1,
) -> bytes:
    """A TIFF of values (H, W) or (H, W, channels), in strips of 7 rows or in tiles of (height, width).

    ``bits`` below 16 packs them; ``tags`` are further ones of one number each.
    """
    values = values.reshape(*values.shape[:2], -1)
    height, width, channels = values.shape
    depth = values.dtype.itemsize * 8 if bits is None else bits
    planes = [values[:, :, [c]] for c in range(channels)] if planar else [values]
    tall, wide = tile or (7, width)
    pieces = []
    for plane in planes:
        for y in range(0, height, tall):
            for x in range(0, width, wide):
                part = plane[y : y + tall, x : x + wide]
                if tile:
                    padding = [(0, tall - part.shape[0]), (0, wide - part.shape[1]), (0, 0)]
                    part = np.pad(part, padding)
                if predictor:
                    part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
                raw = _packed(part, depth, order)
                pieces.append(zlib.compress(raw) if deflate else raw)
    if photometric is None:
        photometric = 2 if channels in (3, 4) else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [depth] * channels),
        259: (3, [8 if deflate else 1]),
        262: (3, [photometric]),
        277: (3, [channels]),
        284: (3, [2 if planar else 1]),
        317: (3, [2 if predictor else 1]),
        339: (3, [kind] * channels),
    }
    if extra is not None:
        entries[338] = (3, [extra])
    if thumbnail:
        entries[254] = (4, [1])
    starts = list(np.cumsum([8, *map(len, pieces)])[:-1])
    lengths = [len(piece) for piece in pieces]
    if tile:
        entries |= {322: (4, [wide]), 323: (4, [tall]), 324: (4, starts), 325: (4, lengths)}
    else:
        entries |= {273: (4, starts), 278: (4, [tall]), 279: (4, lengths)}
    entries |= {tag: (4, [number]) for tag, number in (tags or {}).items()}
    body = b"".join(pieces) + b"\0" * (sum(lengths) % 2)
    directories = b""
    for page in range(pages):
        at = 8 + len(body) + len(directories)
        directories += _directory(entries, at, order, last=page == pages - 1)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + directories


def _packed(part: np.ndarray, bits: int, order: str) -> bytes:
    if bits in (8, 16, 32, 64):
        return np.ascontiguousarray(part.astype(part.dtype.newbyteorder(order))).tobytes()
    rows = part.reshape(len(part), -1).astype(np.uint16)
    ones = (rows[:, :, None] >> np.arange(bits)[::-1]) & 1
    return b"".join(np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in ones)


def _directory(entries: Mapping[int, tuple[int, Sequence[int]]], at: int, order: str, *, last: bool) -> bytes:
    size = 2 + 12 * len(entries) + 4
    behind, listed = b"", b""
    for tag in sorted(entries):
        kind, numbers = entries[tag]
        data = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *map(int, numbers))
        if len(data) > 4:
            data, behind = struct.pack(order + "I", at + size + len(behind)), behind + data
        listed += struct.pack(order + "HHI", tag, kind, len(numbers)) + data.ljust(4, b"\0")
    following = 0 if last else at + size + len(behind)
    return struct.pack(order + "H", len(entries)) + listed + struct.pack(order + "I", following) + behind


def dicom_file(
    values: np.ndarray,
    *,
    stored: int,
    planes: bool = False,
    rle: bool = False,
    frames: bool = False,
    packed: bytes | None = None,
    syntax: str | None = None,
    **change: object,
) -> bytes:
    """A DICOM file of (H, W), (H, W, 3) or, of several frames, (N, H, W), by pydicom.

    ``packed`` stands in place of the run lengths; ``change`` sets elements at the end, as they are.
    """
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

    found = pydicom.Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = UID("1.2.3")
    colour = values.ndim == 3 and not frames
    found.Rows, found.Columns = values.shape[1:] if frames else values.shape[:2]
    found.SamplesPerPixel = 3 if colour else 1
    found.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        found.PlanarConfiguration = int(planes)
    found.BitsAllocated, found.BitsStored = 8 * values.dtype.itemsize, stored
    found.HighBit, found.PixelRepresentation = stored - 1, int(values.dtype.kind == "i")
    if frames:
        found.NumberOfFrames = len(values)
    data = (np.moveaxis(values, -1, 0) if colour and planes else values).tobytes()
    found.PixelData = data + b"\0" * (len(data) % 2)
    found["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    if rle:
        found.compress(RLELossless, values if colour else None, generate_instance_uid=False)
    if packed is not None:
        found.PixelData = encapsulate([packed])
        found["PixelData"].is_undefined_length = True
        found.file_meta.TransferSyntaxUID = RLELossless
    for name, value in change.items():
        setattr(found, name, value)
    stream = io.BytesIO()
    found.save_as(stream, enforce_file_format=True)
    data = stream.getvalue()
    if syntax is not None:
        before = str(found.file_meta.TransferSyntaxUID).encode()
        before += b"\0" * (len(before) % 2)
        after = syntax.encode() + b"\0" * (len(syntax) % 2)
        data = data.replace(struct.pack("<H", len(before)) + before, struct.pack("<H", len(after)) + after, 1)
    return data
