"""DICOM as X-ray systems write it: levels, windows, frames, run lengths, and what is refused."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from pictures import dicom_file
from zeroflaw import ImageError, Limits, find_images, reading
from zeroflaw.images import Picture, read_image, read_picture

pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")

RAMP = np.arange(48 * 64).reshape(48, 64)  # up to 3071


def grey(data: bytes) -> np.ndarray:
    pixels = read_image(data)
    np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 2])
    return pixels[:, :, 0]


def levels(values: np.ndarray, white: float) -> np.ndarray:
    return np.rint(np.clip(values, 0, white).astype(np.float64) * 255 / white).astype(np.uint8)


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_white_is_that_of_the_stored_bits(bits: int, rle: bool) -> None:
    values = (RAMP % 2**bits).astype(np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(grey(dicom_file(values, stored=bits, rle=rle)), levels(values, 2**bits - 1))


def test_a_white_that_is_given_counts_for_deep_values_without_a_window() -> None:
    with reading(white=1023):
        np.testing.assert_array_equal(grey(dicom_file(RAMP.astype(np.uint16), stored=12)), levels(RAMP, 1023))
        eight = (RAMP % 256).astype(np.uint8)
        np.testing.assert_array_equal(grey(dicom_file(eight, stored=8)), eight)
        windowed = dicom_file(RAMP.astype(np.uint16), stored=12, WindowCenter=1000.5, WindowWidth=2001)
        assert grey(windowed).max() == 255


def test_monochrome1_is_inverted() -> None:
    data = dicom_file(RAMP.astype(np.uint16), stored=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(grey(data), 255 - levels(RAMP, 4095))


@pytest.mark.parametrize("inverted", [False, True])
def test_window_and_rescale(inverted: bool) -> None:
    kind = "MONOCHROME1" if inverted else "MONOCHROME2"
    # Stored values less 1000 are shown from 0 to 1000: black up to 1000, white from 2000 on.
    data = dicom_file(
        RAMP.astype(np.uint16),
        stored=12,
        RescaleSlope=1,
        RescaleIntercept=-1000,
        WindowCenter=500.5,
        WindowWidth=1001,
        PhotometricInterpretation=kind,
    )
    wanted = levels(RAMP - 1000, 1000)
    found = 255 - grey(data) if inverted else grey(data)
    np.testing.assert_allclose(found.astype(int), wanted, atol=1)


def test_signed_values_without_a_window_keep_their_range() -> None:
    values = (RAMP - 1500).astype(np.int16)
    found = grey(dicom_file(values, stored=12))
    np.testing.assert_array_equal(found, levels(RAMP - 1500 + 2048, 4095))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("rle", [False, True])
def test_colour(planes: bool, rle: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(read_image(dicom_file(pixels, stored=8, planes=planes, rle=rle)), pixels)


def test_the_first_of_several_frames_is_looked_at_and_said() -> None:
    frames = np.stack([RAMP, RAMP[::-1]]).astype(np.uint16)
    picture = read_picture(dicom_file(frames, stored=12, frames=True))
    np.testing.assert_array_equal(picture.pixels[:, :, 0], levels(RAMP, 4095))
    assert isinstance(picture, Picture)
    assert picture.notes == (
        "only the first of its 2 frames was looked at; save each as a picture of its own",
    )


def test_limits_come_before_decoding() -> None:
    with reading(limits=Limits(max_pixels=1000)), pytest.raises(ImageError, match="--max-megapixels"):
        read_image(dicom_file(RAMP.astype(np.uint16), stored=12))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "neither grey nor RGB"),
        ({"BitsAllocated": 1}, "neither grey nor RGB"),
        ({"SamplesPerPixel": 3}, "neither grey nor RGB"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "damaged"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 40_000}, "damaged"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read_image(dicom_file(RAMP.astype(np.uint16), stored=12, **change))


@pytest.mark.parametrize(
    ("syntax", "says"),
    [
        ("1.2.840.10008.1.2.1.99", "compressed"),  # deflated: the header would unpack without bound
        ("1.2.840.10008.1.2.4.70", "compressed"),
        ("nonsense", "compressed"),
    ],
)
def test_other_ways_to_write_pixels_are_refused(syntax: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read_image(dicom_file(RAMP.astype(np.uint16), stored=12, syntax=syntax))


def test_run_lengths_that_unpack_to_more_are_refused() -> None:
    bomb = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 60
    with pytest.raises(ImageError, match="more than its size"):
        read_image(dicom_file(np.zeros((8, 8), np.uint8), stored=8, packed=bomb))


def test_a_header_without_end_is_refused() -> None:
    many = struct.pack("<HH2sH", 0x0010, 0x4000, b"LO", 4) + b"abcd"
    data = dicom_file(RAMP.astype(np.uint16), stored=12)
    start = data.index(b"\x08\0")  # after the elements that say how it is written
    with pytest.raises(ImageError, match=r"MiB|damaged|pixels"):
        read_image(data[:start] + many * 200_000)


def test_files_cut_short() -> None:
    data = dicom_file(RAMP.astype(np.uint16), stored=12)
    for length in (131, 140, 300, len(data) // 2, len(data) - 10):
        with pytest.raises(ImageError):
            read_image(data[:length])


def test_they_are_found_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(RAMP.astype(np.uint16), stored=12))
    assert find_images(tmp_path).paths == (path,)
    assert read_image(path).shape == (48, 64, 3)


def test_without_the_extra_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom_file(RAMP.astype(np.uint16), stored=12)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"pip install 'zeroflaw\[dicom\]'"):
        read_image(data)
