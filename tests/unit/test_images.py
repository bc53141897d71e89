"""The one door for images: pictures come in as they should, and nothing but ImageError comes out."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pictures import (
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
from zeroflaw import decoding
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.images import Limits, find_images, read_image, read_picture, reading, shown


def looping_tiff() -> bytes:
    """A one-pixel TIFF whose directory names itself as the next."""
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 122), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]
    entries = b"".join(
        struct.pack("<HHIHxx" if kind == 3 else "<HHII", t, kind, n, v) for t, kind, n, v in tags
    )
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8)).ljust(
        120, b"\0"
    ) + b"\x7f"


def float_tiff(values: list[float]) -> bytes:
    return encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")


GIF = encoded(photo().convert("P"), "GIF", save_all=True, append_images=[photo(23, 17).convert("P")] * 3)
JPEG = encoded(photo(), "JPEG")
WEBP = encoded(photo(), "WEBP")

BAD = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"\x89", "unknown data"),
    "text": (b"scratch, dent, crack\n" * 20, "it is text"),
    "svg": (b"<svg xmlns='x'></svg>", "web page or drawing"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "web page or drawing"),
    "noise": (bytes(range(256)) * 4, "unknown data"),
    "gif": (GIF, "it is a GIF, not an allowed kind"),
    "pdf": (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "photoshop": (b"8BPS\0\x01" + bytes(40), "a Photoshop file"),
    "fits": (b"SIMPLE  =                    T" + bytes(100), "a FITS file"),
    "icon": (encoded(photo(), "ICO"), "an icon file"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC picture"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(40), "an AVIF picture"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
    "dicom": (bytes(128) + b"DICM" + bytes(40), "transfer syntax"),
    "array": (b"\x93NUMPY\x01\0" + bytes(40), "a NumPy array"),
    "zip": (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
    "ppm": (encoded(photo(), "PPM"), "allowed are PNG, JPEG, WebP, BMP, TIFF"),
    "png signature only": (b"\x89PNG\r\n\x1a\n", "cut short or damaged"),
    "jpeg start only": (b"\xff\xd8\xff\xe0", "cut short or damaged"),
    "webp half": (WEBP[: len(WEBP) // 2], "cut short or damaged"),
    "bmp header only": (b"BM" + bytes(20), "cut short or damaged"),
    "header bomb": (png_with_size(50_000, 50_000), "far more than 50 million pixels"),
    "large": (png_with_size(9_000, 9_000), "9000 x 9000 pixels, the limit is 50 million"),
    "long": (png_with_size(250_001, 3), "the limit is 250000 a side"),
    "no pixels": (png_with_size(0, 5), "PNG"),
    "wrong checksum": (encoded(photo())[:40] + b"\xff\xff" + encoded(photo())[42:], "damaged"),
    "text bomb": (png_with_texts(80, 1_000_000), "damaged"),
    "nan": (float_tiff([0.5, float("nan")]), "NaN or infinity"),
    "infinite": (float_tiff([0.5, float("inf")]), "NaN or infinity"),
    "negative": (float_tiff([-1.0, 3.0]), "its values go from -1 to 3"),
    "too large": (float_tiff([0.0, 70_000.0]), "its values go from 0 to 70000"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bytes_and_files_are_refused_in_words(case: str, tmp_path: Path) -> None:
    data, words = BAD[case]
    with pytest.raises(ImageError, match=words) as from_bytes:
        read_image(data, name="part 7")
    assert from_bytes.value.source == "part 7"
    path = tmp_path / "part.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=words) as from_file:
        read_image(path)
    assert str(from_file.value).startswith(f"{path}: ")
    assert from_file.value.reason == from_bytes.value.reason
    assert "\n" not in str(from_file.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_truncation_at_every_sixteenth_is_refused(kind: str) -> None:
    whole = encoded(photo(64, 48), kind)
    for part in range(1, 14):
        with pytest.raises(ImageError):
            read_image(whole[: len(whole) * part // 16])


def test_header_bomb_is_refused_fast() -> None:
    start = time.perf_counter()
    with pytest.raises(ImageError):
        read_image(png_with_size(50_000, 50_000))
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"  # the name says nothing; the content decides
    path.write_bytes(encoded(photo(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, np.asarray(photo()))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("source", [str, Path, bytes, Image.Image, np.ndarray])
def test_every_kind_of_source_gives_the_same_pixels(source: type, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo()))
    with Image.open(path) as opened:
        given_as = {
            str: str(path),
            Path: path,
            bytes: path.read_bytes(),
            Image.Image: opened,
            np.ndarray: np.asarray(photo()),
        }
        np.testing.assert_array_equal(read_image(given_as[source]), np.asarray(photo()))


# What each orientation does to an upright picture when it is stored; EXIF 2.32, tag 0x0112.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = np.asarray(photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(read_image(data), upright)
    np.testing.assert_array_equal(read_image(Image.open(io.BytesIO(data))), upright)


@pytest.mark.parametrize("value", [0, 9, "up", b"\xff"])
def test_meaningless_orientation_leaves_the_picture_as_stored(value: object) -> None:
    image = photo()
    image.getexif()[0x0112] = value
    np.testing.assert_array_equal(read_image(image), np.asarray(photo()))


def test_transparency_is_laid_over_white() -> None:
    half = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    half.putpixel((1, 0), (0, 0, 0, 128))
    pixels = read_image(encoded(half))
    assert pixels[0, 0].tolist() == [255, 255, 255]  # the hidden red does not show
    assert pixels[0, 1].tolist() == [127, 127, 127]
    grey = Image.new("LA", (1, 1), (10, 255))
    assert read_image(encoded(grey))[0, 0].tolist() == [10, 10, 10]


def test_palette_with_and_without_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert read_image(encoded(palette))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert read_image(encoded(palette, transparency=0))[0].tolist() == [[255] * 3, [200, 100, 50]]
    assert read_image(encoded(palette, transparency=b"\xff\0"))[0].tolist() == [[10, 20, 30], [255] * 3]


def test_a_transparent_colour_counts_as_transparency() -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (1, 2, 3))
    assert read_image(encoded(image, transparency=(1, 2, 3)))[0].tolist() == [[9, 9, 9], [255] * 3]


def test_cmyk_one_bit_and_grey() -> None:
    cmyk = read_image(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95))
    np.testing.assert_allclose(cmyk[4, 4], [0, 255, 255], atol=6)
    bits = Image.fromarray(np.array([[True, False]]))
    assert read_image(encoded(bits))[0].tolist() == [[255] * 3, [0] * 3]
    assert read_image(encoded(Image.new("L", (1, 1), 77)))[0, 0].tolist() == [77] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_by_its_full_range(kind: str) -> None:
    wide = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    assert read_image(encoded(wide, kind))[0, :, 0].tolist() == [0, 1, 128, 255]


DEPTHS = {10: 1023, 12: 4095, 14: 16383}
HOLDERS = {
    "png": lambda values: png16(values),
    "png-colour": lambda values: png16(np.dstack([values] * 3)),
    "png-alpha": lambda values: png16(np.dstack([values] * 3 + [np.full_like(values, 65535)])),
    "png-grey-alpha": lambda values: png16(np.dstack([values, np.full_like(values, 65535)])),
    "tiff": lambda values: tiff(values),
    "tiff-big-endian": lambda values: tiff(values, order=">"),
    "tiff-colour": lambda values: tiff(np.dstack([values] * 3)),
    "tiff-planes": lambda values: tiff(np.dstack([values] * 3), planar=True, order=">"),
    "tiff-zero-is-white": lambda values: tiff(values.max() - values, photometric=0),
    "tiff-float": lambda values: tiff(values.astype(np.float32)),
    "tiff-int32": lambda values: tiff(values.astype(np.int32)),
    "array": lambda values: values,
    "array-colour": lambda values: np.dstack([values] * 3),
    "pil": lambda values: Image.fromarray(values),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("bits", DEPTHS)
def test_fewer_bits_than_there_is_room_for(holder: str, bits: int) -> None:
    white = DEPTHS[bits]
    values = ramp(white).astype(np.uint16)
    expected = np.rint(values / white * 255)
    guessed = read_picture(HOLDERS[holder](values))
    np.testing.assert_array_equal(guessed.pixels, np.dstack([expected] * 3))
    (note,) = guessed.notes
    assert f"was taken for {white}," in note
    assert "--white" in note
    with reading(white=white):
        said = read_picture(HOLDERS[holder](values))
    np.testing.assert_array_equal(said.pixels, guessed.pixels)
    assert said.notes == ()


def test_the_white_that_is_said_or_declared_is_that_of_every_picture() -> None:
    dark = ramp(90).astype(np.uint16)
    expected = np.rint(dark / 1023 * 255)
    with reading(white=1023):
        np.testing.assert_array_equal(read_image(png16(dark))[:, :, 0], expected)
        np.testing.assert_array_equal(read_image(np.full((2, 2), 99, np.uint8)), 99)  # 8 bits are as they are
    for declared in (
        png16(dark, significant=10),
        tiff(dark, tags={341: 1023}),
        tiff(dark, tags={50717: 1023}),
    ):
        found = read_picture(declared)
        np.testing.assert_array_equal(found.pixels[:, :, 0], expected)
        assert found.notes == ()
    full = read_picture(tiff(dark, tags={341: 65535}))  # so dark that it may be a mistake
    assert full.pixels.max() == 0
    assert "is above 6% of the white that its header declares (65535)" in full.notes[0]
    # By the standard, sBIT tells how many of the upper bits count: values above 10 bits are of 16.
    bright = ramp(65535).astype(np.uint16)
    np.testing.assert_array_equal(read_image(png16(bright, significant=10)), read_image(png16(bright)))
    with reading(white=1000):
        clipped = read_picture(png16(ramp(2000).astype(np.uint16)))
    assert clipped.pixels.max() == 255
    assert "50.0% of its values are above the white of 1000" in clipped.notes[0]


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf")])
def test_a_white_that_is_none(white: float) -> None:
    with pytest.raises(UsageError, match="must be a number above 0"), reading(white=white):
        pass


def test_notes_reach_whoever_asks_and_settings_end_with_their_block() -> None:
    heard: list[tuple[str, str]] = []
    with reading(on_note=lambda name, note: heard.append((name, note))):
        with reading(limits=Limits(max_pixels=10)), pytest.raises(ImageError, match="--max-megapixels"):
            read_image(png16(ramp(1023).astype(np.uint16)))
        read_image(png16(ramp(1023).astype(np.uint16)), name="a")
    read_image(png16(ramp(1023).astype(np.uint16)), name="b")
    assert [name for name, _ in heard] == ["a"]


def test_channels_beside_grey_and_colour() -> None:
    values = ramp(60_000).astype(np.uint16)
    grey = np.rint(values / 257)
    bands = np.dstack([values] * 5)
    for picture in (
        tiff(np.dstack([values, values]), extra=0),
        tiff(bands, photometric=2),
        tiff(bands[:, :, :4]),
    ):
        np.testing.assert_array_equal(read_image(picture)[:, :, 0], grey)
    half = np.full_like(values, 32768)
    shown_over_white = read_image(tiff(np.dstack([values, half]), extra=2))[:, :, 0]
    np.testing.assert_allclose(shown_over_white, grey * 0.502 + 255 * 0.498, atol=1)
    with pytest.raises(ImageError, match="5 channels that are neither grey nor RGB"):
        read_image(tiff(bands, photometric=1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_too(orientation: int) -> None:
    values = ramp(65535, 9, 5).astype(np.uint16)
    stored = np.ascontiguousarray(STORED[orientation](values))
    np.testing.assert_array_equal(
        read_image(tiff(stored, tags={274: orientation}))[:, :, 0], np.rint(values / 257)
    )


def test_values_of_32_bits_count_by_the_highest() -> None:
    assert read_image(encoded(Image.new("I", (1, 1), 65535), "TIFF"))[0, 0].tolist() == [255] * 3
    assert read_image(np.array([[0, 7, 255]], np.int32))[0, :, 1].tolist() == [0, 7, 255]


def test_float_values_by_range() -> None:
    assert read_image(float_tiff([0.0, 0.5, 1.0]))[0, :, 0].tolist() == [0, 128, 255]
    assert read_image(float_tiff([0.0, 100.4, 255.0]))[0, :, 0].tolist() == [0, 100, 255]
    assert read_image(float_tiff([0.0, 65535.0]))[0, :, 0].tolist() == [0, 255]


def test_only_the_first_page_is_read_and_a_note_says_so() -> None:
    other = [Image.new("RGB", (23, 17))] * 2
    several = {
        "page": encoded(photo(), "TIFF", save_all=True, append_images=other),
        "frame": encoded(photo(), "PNG", save_all=True, append_images=other, default_image=True),
    }
    lossy = {
        "MPO": encoded(photo(), "MPO", save_all=True, append_images=other),
        "WebP": encoded(photo(), "WEBP", save_all=True, append_images=other),
    }
    for kind, data in (several | lossy).items():
        found = read_picture(data)
        assert len(found.notes) == 1, kind
        assert re.search(r"only the first of its [23] (page|frame)s was looked at", found.notes[0])
        if kind in several:
            np.testing.assert_array_equal(found.pixels, np.asarray(photo()))
    for single in (JPEG, WEBP, tiff(ramp(9).astype(np.uint8)), encoded(photo())):
        assert read_picture(single).notes == ()


def test_scans_of_a_jpeg_are_counted_before_they_are_decoded() -> None:
    assert read_image(jpeg_of_scans(64, 500)).shape == (64, 64, 3)
    start = time.perf_counter()
    for data in (jpeg_of_scans(2000, 2000), jpeg_of_scans(4000, 1000)):
        with pytest.raises(ImageError, match=r"a JPEG of \d+ scans"):
            read_image(data)
    assert time.perf_counter() - start < 5


def test_a_jpeg_of_twelve_bits_is_named() -> None:
    data = bytearray(JPEG)
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="a JPEG of 12 bits; save it as PNG of 16 bits"):
        read_image(bytes(data))


def test_a_tiff_whose_pages_loop_is_read_once() -> None:
    assert read_image(looping_tiff()).tolist() == [[[127] * 3]]


def test_many_small_text_chunks_do_no_harm() -> None:
    assert read_image(png_with_texts(5_000, 10)).shape == (17, 23, 3)


def test_more_after_the_end_does_no_harm() -> None:
    np.testing.assert_array_equal(
        read_image(encoded(photo()) + b"%PDF-1.7 <script>" * 9), np.asarray(photo())
    )


def test_odd_metadata_neither_warns_nor_fails() -> None:
    data = encoded(photo(), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9)
    np.testing.assert_array_equal(read_image(data), np.asarray(photo()))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3), 9, np.uint8), 9),
        (np.full((2, 3, 1), 9, np.uint8), 9),
        (np.full((2, 3), True), 255),
        (np.full((2, 3, 3), 0.2), 51),
        (np.full((2, 3, 3), 65535, np.uint16), 255),
        (np.full((2, 3), 200, np.int64), 200),
        (np.dstack([np.full((2, 3, 3), 7, np.uint8), np.zeros((2, 3), np.uint8)]), 255),
    ],
)
def test_arrays(array: np.ndarray, expected: int) -> None:
    pixels = read_image(array)
    assert pixels.shape == (2, 3, 3)
    assert np.unique(pixels).tolist() == [expected]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((2, 2, 2), np.uint8), "shape"),
        (np.zeros((3, 0), np.uint8), "no pixels"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2), -3), "values go from -3"),
        (np.array([["a"]]), "must hold numbers"),
        (np.array([[1j]]), "must hold numbers"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(array)
    assert caught.value.source == "<ndarray>"


def test_the_result_is_the_callers_own() -> None:
    array = np.zeros((2, 2, 3), np.uint8)
    read_image(array)[:] = 9
    assert not array.any()


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo()))
    size = path.stat().st_size
    assert read_image(path, limits=Limits(max_bytes=size, max_pixels=23 * 17, max_side=23)).shape == (
        17,
        23,
        3,
    )
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match="MiB, the limit is"):
            read_image(source, limits=Limits(max_bytes=size - 1))
    for source in (path, photo(), np.asarray(photo())):
        with pytest.raises(ImageError, match="23 x 17 pixels"):
            read_image(source, limits=Limits(max_pixels=23 * 17 - 1))
        with pytest.raises(ImageError, match="22 a side"):
            read_image(source, limits=Limits(max_side=22))


def test_the_limit_on_pixels_is_ours_not_that_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(encoded(photo())).shape == (17, 23, 3)
    assert read_image(encoded(photo(), "TIFF")).shape == (17, 23, 3)
    with pytest.raises(ImageError, match="has 23 x 17 pixels"):
        read_image(encoded(photo()), limits=Limits(max_pixels=390))
    with pytest.raises(ImageError, match="far more than 200 million pixels"):
        read_image(png_with_size(50_000, 50_000), limits=Limits(max_pixels=200_000_000, max_side=60_000))
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_raised_limit_lets_large_pictures_in() -> None:
    large = encoded(Image.new("1", (9_746, 9_747), 1))  # 95 million pixels, above Pillow's own limit
    with pytest.raises(ImageError, match="9746 x 9747 pixels, the limit is 94 million"):
        read_image(large, limits=Limits(max_pixels=94_000_000))
    image, _ = decoding._open(large, Limits(max_pixels=200_000_000))
    assert image.size == (9_746, 9_747)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    cases = {
        tmp_path: "it is a folder",
        tmp_path / "pipe.png": "not a regular file",
        tmp_path / "dangling.png": "there is no such file",
        tmp_path / "loop.png": "cannot be read",
        tmp_path / "absent.png": "there is no such file",
        "https://example.org/a.png": "links are not fetched",
        "a\0b": "cannot be read",
        "x" * 5000: "cannot be read",
        7: "a picture is a path",
        None: "a picture is a path",
    }
    for source, words in cases.items():
        with pytest.raises(ImageError, match=words):
            read_image(source)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes as a file name")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff\n.png"))
    path.write_bytes(encoded(photo()))
    assert read_image(path).shape == (17, 23, 3)
    assert find_images(tmp_path).paths == (path,)
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).encode() == shown(path).encode() + b": " + caught.value.reason.encode()
    assert shown(path).endswith("b\\udcff\\n.png")


def test_threads_read_side_by_side() -> None:
    results: list[object] = []
    good, odd = encoded(photo()), encoded(photo(), "TIFF")

    def work() -> None:
        for _ in range(20):
            results.append(np.array_equal(read_image(good), read_image(odd)))
            with pytest.raises(ImageError):
                read_image(png_with_size(50_000, 50_000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80


def only_image_error(data: bytes) -> None:
    try:
        pixels = read_image(data)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


STARTS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
    b"RIFF\x40\0\0\0WEBPVP8 ",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=200))
def test_random_bytes_give_only_image_errors(start: bytes, rest: bytes) -> None:
    only_image_error(start + rest)


WHOLE = [encoded(photo(), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")]
WHOLE += [encoded(photo(), "TIFF", compression="tiff_lzw"), encoded(photo().convert("P"), transparency=3)]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 60),
)
def test_mutated_pictures_give_only_image_errors(
    whole: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(whole)
    for at, value in changes:
        data[at % len(data)] = value
    only_image_error(bytes(data[: len(data) - cut]))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 7)
)
def test_png_headers_that_lie(width: int, height: int, depth: int, colour: int) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 64)) + png_chunk(b"IEND", b"")
    only_image_error(b"\x89PNG\r\n\x1a\n" + header + body)


def test_png_texts_cannot_be_told_apart_from_pixels() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "flawless")
    np.testing.assert_array_equal(read_image(encoded(photo(), pnginfo=info)), np.asarray(photo()))
