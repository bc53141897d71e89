"""TIFF beyond Pillow: planes, depths, channels, pages, and what a file says of its white."""

from __future__ import annotations

import io
import itertools
import struct
import sys

import numpy as np
import pytest

from pictures import ramp, tiff
from zeroflaw.images import read_picture
from zeroflaw.tiff import TiffError, decode, pages

MOST = 1 << 24


def values_of(dtype: object, channels: int) -> np.ndarray:
    drawn = np.random.default_rng(0).random((37, 50, channels))
    return (drawn if np.dtype(dtype).kind == "f" else drawn * 120).astype(dtype)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_values_come_back_whatever_the_layout(dtype: str, channels: int, order: str) -> None:
    values = values_of(dtype, channels)
    for planar, deflate, tile in itertools.product((False, True), (False, True), (None, (16, 32))):
        for predictor in {False, deflate and values.dtype.kind != "f"}:
            data = tiff(values, order=order, planar=planar, deflate=deflate, predictor=predictor, tile=tile)
            (page,) = pages(data)
            np.testing.assert_array_equal(decode(data, page, MOST), values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_packed_bits(bits: int, order: str) -> None:
    values = ramp(2**bits - 1, 13, 9).astype(np.uint16)
    data = tiff(values, bits=bits, order=order)
    (page,) = pages(data)
    assert page.white() == 2**bits - 1
    np.testing.assert_array_equal(decode(data, page, MOST)[:, :, 0], values)
    found = read_picture(data)
    assert found.notes == ()
    np.testing.assert_array_equal(found.pixels[:, :, 0], np.rint(values / (2**bits - 1) * 255))


@pytest.mark.parametrize(
    ("tags", "white"),
    [
        ({341: 1023}, 1023),
        ({50717: 4000}, 4000),
        ({281: 900}, 1023),  # perhaps of this picture alone: the next full depth
        ({281: 1024}, 2047),
        ({281: 0}, None),
        ({}, None),
    ],
)
def test_the_white_that_a_file_declares(tags: dict[int, int], white: float | None) -> None:
    (page,) = pages(tiff(ramp(900).astype(np.uint16), tags=tags))
    assert page.white() == white


def test_pages_are_full_ones_and_loops_end() -> None:
    assert len(pages(tiff(ramp(9).astype(np.uint8), pages=3))) == 3
    assert pages(tiff(ramp(9).astype(np.uint8), thumbnail=True)) == []
    assert len(pages(tiff(ramp(9).astype(np.uint8), pages=500))) == 100
    assert pages(b"II*\0") == pages(b"") == pages(b"MM\0*\xff\xff\xff\xff") == []
    loop = bytearray(tiff(ramp(9).astype(np.uint8)))
    at = struct.unpack_from("<I", loop, 4)[0]
    count = struct.unpack_from("<H", loop, at)[0]
    struct.pack_into("<I", loop, at + 2 + 12 * count, at)
    assert len(pages(bytes(loop))) == 1


def test_what_cannot_be_decoded_is_said() -> None:
    plain = values_of(np.uint16, 3)
    for data, said in {
        tiff(plain)[:3000]: None,  # no directory: no page
        tiff(plain, photometric=5): "3 channels of 16 bits, neither grey nor RGB",
        tiff(plain, tags={259: 99}): "compression 99",
        tiff(plain, tags={257: 4_000_000_000}): "more than 16 MiB",
        tiff(plain, tags={257: 90}): "cut short or damaged",
        tiff(plain, tile=(1, 1), tags={322: 0}): "cut short or damaged",
        tiff(plain, deflate=True, tags={259: 1}): "ends early",
        tiff(plain, tags={259: 8}): "cut short or damaged",
    }.items():
        if said is None:
            assert pages(data) == []
            continue
        (page,) = pages(data)
        with pytest.raises(TiffError, match=said):
            decode(data, page, MOST)


def test_a_deflated_bomb_takes_no_more_than_it_should() -> None:
    data = tiff(np.zeros((40, 40), np.uint16), deflate=True, tags={257: 14})
    (page,) = pages(data)
    assert decode(data, page, MOST).shape == (14, 40, 1)
    with pytest.raises(TiffError, match="too many pieces"):
        many = tiff(np.zeros((600, 600), np.uint16), tile=(1, 1))
        decode(many, pages(many)[0], MOST)


def test_other_compressions_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(values_of(np.uint16, 2), tags={259: 5})
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        TiffError, match=r"2 channels of 16 bits, compressed by LZW, for which .*zeroflaw\[tiff\]"
    ):
        decode(data, pages(data)[0], MOST)


def test_tifffile_reads_what_is_not_decoded_here() -> None:
    tifffile = pytest.importorskip("tifffile")
    values = values_of(np.float32, 3)
    for planar, shape in (("contig", values), ("separate", values.transpose(2, 0, 1))):
        stream = io.BytesIO()
        options = {"photometric": "rgb", "compression": "lzma", "planarconfig": planar}
        tifffile.imwrite(stream, shape, **options)
        (page,) = pages(stream.getvalue())
        assert not page.is_plain
        np.testing.assert_array_equal(decode(stream.getvalue(), page, MOST), values)
        with pytest.raises(TiffError, match="could not be read"):
            decode(stream.getvalue()[:2000] + b"x" * 9000, page, MOST)
