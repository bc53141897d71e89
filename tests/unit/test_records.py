"""Records and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.records import Category, LazyRecords, Record, read_mask


def record(number: int) -> Record:
    return Record("shop", "cup", "test", number % 2, "good", None, Path(f"{number}.png"), None)


def test_lazy_records_are_a_sequence():
    made: list[int] = []
    records = LazyRecords(5, lambda number: made.append(number) or record(number))
    assert (len(records), repr(records), made) == (5, "LazyRecords(5)", [])
    assert records[-1] == record(4)
    assert made == [4]
    assert list(records[1:4][::2]) == [record(1), record(3)]
    with pytest.raises(IndexError):
        records[5]


def test_names_of_a_category():
    plain = Category("shop", "metal_nut", (), (record(1),))
    assert (plain.prompt_name, plain.object_name, plain.domains) == ("metal nut", "metal_nut", ())
    named = Category("shop", "01", (), (), object="product")
    assert (named.prompt_name, named.object_name, named.pixel_test) == ("product", "product", ())


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        record(0).label = 1  # type: ignore[misc]


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


class TestReadMask:
    marked = np.zeros((12, 8), dtype=bool)
    marked[2:5, 3:7] = True

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
    @pytest.mark.parametrize("extension", ["png", "bmp", "tif"])
    def test_modes(self, tmp_path, mode, extension):
        path = saved(tmp_path / f"m.{extension}", self.marked.astype(np.uint8) * 255, mode)
        mask = read_mask(path, (12, 8))
        assert mask.dtype == bool
        assert np.array_equal(mask, self.marked)

    @pytest.mark.parametrize("value", [1, 7, 255])
    def test_any_number_above_zero_is_a_defect(self, tmp_path, value):
        path = saved(tmp_path / "m.png", self.marked.astype(np.uint8) * value)
        assert np.array_equal(read_mask(path, (12, 8)), self.marked)

    def test_jpeg_is_cut_at_the_middle(self, tmp_path):
        marked = np.zeros((64, 64), dtype=bool)
        marked[13:45, 13:45] = True
        path = saved(tmp_path / "m.jpg", marked.astype(np.uint8) * 255)
        assert np.asarray(Image.open(path))[~marked].max() > 0  # black that is not quite black
        assert np.array_equal(read_mask(path, (64, 64)), marked)

    def test_same_proportions_take_the_nearest_pixel(self, tmp_path):
        path = saved(tmp_path / "m.png", self.marked)
        assert np.array_equal(read_mask(path, (36, 24)), self.marked.repeat(3, 0).repeat(3, 1))
        big = saved(tmp_path / "big.png", self.marked.repeat(3, 0).repeat(3, 1))
        assert np.array_equal(read_mask(big, (12, 8)), self.marked)

    @pytest.mark.parametrize("shape", [(341, 512), (342, 512), (334, 500), (2001, 3000)])
    def test_sides_rounded_to_whole_pixels_are_the_same_proportions(self, tmp_path, shape):
        path = saved(tmp_path / "m.png", np.ones((667, 1000), dtype=bool))
        assert read_mask(path, shape).shape == shape

    @pytest.mark.parametrize("shape", [(8, 12), (12, 9), (11, 8), (24, 18), (6, 6), (0, 0)])
    def test_other_proportions_are_refused(self, tmp_path, shape):
        path = saved(tmp_path / "m.png", self.marked)
        said = rf"m\.png' should fit an image of {shape[1]} x {shape[0]} pixels but has 8 x 12; use"
        with pytest.raises(DatasetError, match=said):
            read_mask(path, shape)

    def test_masks_in_a_folder_are_united(self, tmp_path):
        with pytest.raises(DatasetError, match=r"masks are wanted in '.*', but there is none"):
            read_mask(tmp_path, (5, 7))
        expected = np.zeros((5, 7), dtype=bool)
        for name, value, place in (("000.png", 254, (1, 2)), ("001.png", 7, (4, 6))):
            one = np.zeros((5, 7), dtype=np.uint8)
            one[place], expected[place] = value, True
            saved(tmp_path / name, one)
        (tmp_path / "readme.txt").touch()
        (tmp_path / "._000.png").touch()
        assert np.array_equal(read_mask(tmp_path, (5, 7)), expected)
        saved(tmp_path / "000.png", np.zeros((7, 5), np.uint8))
        with pytest.raises(
            DatasetError, match=r"000\.png' should fit an image of 7 x 5 pixels but has 5 x 7"
        ):
            read_mask(tmp_path, (5, 7))

    def test_unreadable_mask(self, tmp_path):
        with pytest.raises(ImageError, match="there is no such file"):
            read_mask(tmp_path / "none.png", (4, 4))
        (tmp_path / "bad.png").write_bytes(b"\x89PNG but no more")
        with pytest.raises(ImageError, match="damaged"):
            read_mask(tmp_path / "bad.png", (4, 4))
