"""Pictures in bands are the pictures that are read at once, whatever the format, in the memory of a band."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import encoded, photo, png_chunk, tiff
from zeroflaw import Limits, reading
from zeroflaw import bands as module
from zeroflaw.bands import open_bands, read_overview
from zeroflaw.errors import ImageError
from zeroflaw.images import read_image


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "_BAND", 40)  # one or two rows


def whole(source: object) -> np.ndarray:
    found = open_bands(source)  # type: ignore[arg-type]
    assert found.is_streamed
    parts = list(found)
    assert len(parts) > 3
    return np.concatenate(parts)


def tall(mode: str) -> Image.Image:
    rows, columns = np.mgrid[:37, :23]
    noise = np.random.default_rng(0).integers(0, 30, (37, 23))
    pixels = np.stack([columns * 9 + noise, rows * 6, (rows + columns) * 4 % 256], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray((rows * 6).astype(np.uint8)))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_png(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    tall(mode).save(path, optimize=True)  # filters of all kinds
    np.testing.assert_array_equal(whole(path), read_image(path))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_bmp(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    tall(mode).save(path)
    np.testing.assert_array_equal(whole(path), read_image(path))


def test_bmp_from_the_top(tmp_path: Path) -> None:
    data = bytearray(encoded(tall("RGB"), "BMP"))
    start, stride, height = struct.unpack_from("<I", data, 10)[0], (23 * 3 + 3) // 4 * 4, 37
    data[start:] = b"".join(
        data[start + row * stride : start + (row + 1) * stride] for row in reversed(range(height))
    )
    struct.pack_into("<i", data, 22, -height)
    path = tmp_path / "a.bmp"
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(whole(path), np.asarray(tall("RGB")))


@pytest.mark.parametrize("values", [np.asarray(tall("L")), np.asarray(tall("RGB"))], ids=["grey", "colour"])
def test_tiff(values: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(values))
    np.testing.assert_array_equal(whole(path), read_image(path))


def test_deep_tiff_needs_a_white_that_all_bands_share(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = (np.mgrid[:37, :23][0] * 27).astype(np.uint16)  # below 1023
    path.write_bytes(tiff(values))
    assert not open_bands(path).is_streamed
    with reading(white=1023):
        np.testing.assert_array_equal(whole(path), read_image(path))


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(), "JPEG"),
        encoded(photo(), "WEBP"),
        encoded(photo(), "TIFF", compression="tiff_lzw"),
        encoded(photo(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    ],
    ids=["JPEG", "WebP", "TIFF by LZW", "turned PNG"],
)
def test_other_pictures_are_read_at_once(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    found = open_bands(path)
    assert not found.is_streamed
    np.testing.assert_array_equal(np.concatenate(list(found)), read_image(path))


def test_pictures_that_can_be_read_in_bands_may_be_larger(tmp_path: Path) -> None:
    path, other = tmp_path / "a.bmp", tmp_path / "a.jpg"
    tall("RGB").save(path)
    tall("RGB").save(other)
    with reading(limits=Limits(max_pixels=37 * 23 // module.MOST + 1)):
        assert whole(path).shape == (37, 23, 3)
        for refused in (lambda: read_image(path), lambda: open_bands(other)):
            with pytest.raises(ImageError, match="--max-megapixels"):
                refused()
    with (
        reading(limits=Limits(max_pixels=37 * 23 // module.MOST - 1)),
        pytest.raises(ImageError, match="--max-megapixels"),
    ):
        open_bands(path)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def broken(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 40
    return data[:at] + bytes([data[at] ^ 0xFF]) * 60 + data[at + 60 :]


def short(data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", 23, 370, 8, 2, 0, 0, 0)  # ten times as many rows as there are
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


@pytest.mark.parametrize("spoil", [cut, broken, short])
def test_damaged_png(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(spoil(encoded(tall("RGB"))))
    with pytest.raises(ImageError, match="damaged"):
        list(open_bands(path))


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_files_that_end_early(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(
        encoded(tall("RGB"), kind)[:-100] if kind == "BMP" else tiff(np.asarray(tall("L")))[:-100]
    )
    with pytest.raises(ImageError, match="damaged"):
        list(open_bands(path))


def test_arrays_and_bytes_are_one_band() -> None:
    pixels = np.asarray(tall("RGB"))
    for source in (pixels, encoded(tall("RGB")), tall("RGB")):
        (band,) = open_bands(source)
        np.testing.assert_array_equal(band, pixels)


def test_an_overview_is_the_picture_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.kron(np.arange(60).reshape(10, 6), np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(
        read_overview(path, longest=10), np.arange(60).reshape(10, 6, 1).repeat(3, 2)
    )
    assert read_overview(path).shape == (40, 24, 3)


def large_png(path: Path, width: int, height: int) -> None:
    rows = b"".join(b"\0" + bytes([row % 251]) * width for row in range(1000))
    pack = zlib.compressobj(1)
    with path.open("wb") as file:
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header))
        for _ in range(height // 1000):
            file.write(png_chunk(b"IDAT", pack.compress(rows)))
        file.write(png_chunk(b"IDAT", pack.flush()) + png_chunk(b"IEND", b""))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is not known here")
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    program = """
import sys
from zeroflaw.bands import open_bands
from zeroflaw.runtime.tiling import Tiling
bands = open_bands(sys.argv[1])
count = sum(1 for tile in Tiling.of(bands.size, 1000).cut(bands))
with open("/proc/self/status") as lines:  # of this process alone, without what it was forked from
    print(count, *(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""
    used = []
    for height in (8_000, 60_000):
        path = tmp_path / f"{height}.png"
        large_png(path, 4000, height)
        said = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
        )
        count, kilobytes = map(int, said.stdout.split())
        assert count == 5 * -(-(height - 1000) // 750) + 5
        used.append(kilobytes)
    assert used[1] < used[0] + 40_000
