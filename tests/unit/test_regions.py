"""Regions of maps, run lengths, and what part of an image is looked at."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy.ndimage import label

from zeroflaw.errors import ImageError, UsageError
from zeroflaw.report.exports import coco
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.regions import (
    REACH,
    Region,
    anomalous,
    confined,
    cut_regions,
    find_regions,
    from_run_lengths,
    lower_edge,
    pasted,
    patch_mask,
    region_of_interest,
    run_lengths,
)
from zeroflaw.runtime.scores import expit, logit

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def test_regions_are_boxes_areas_shares_and_peaks_the_highest_first() -> None:
    picture = np.zeros((10, 20), np.float32)
    picture[1:3, 2:5] = 0.6
    picture[2, 4] = 0.7
    picture[3, 5] = 0.65  # touches at a corner
    picture[8, 19] = 0.9
    assert find_regions(picture, 0.6) == [
        Region(box=(19, 8, 1, 1), area=1, share=0.5, peak=pytest.approx(0.9), peak_at=(19, 8)),
        Region(box=(2, 1, 4, 3), area=7, share=3.5, peak=pytest.approx(0.7), peak_at=(4, 2)),
    ]
    assert [region.area for region in find_regions(picture, 0.6, least=2)] == [7]
    assert find_regions(picture, 0.95) == []
    assert find_regions(picture, 0.6)[0].to_dict() == {
        "box": [19, 8, 1, 1],
        "area": 1,
        "share": 0.5,
        "peak": 0.9,
        "peak_at": [19, 8],
    }


def test_a_region_goes_on_to_what_touches_and_nearly_passes() -> None:
    line, below, far = 0.6, float(expit(logit(0.6) - 0.4)), float(expit(logit(0.6) - 0.6))
    picture = np.zeros((8, 12), np.float32)
    picture[1, 1:6] = [0.7, below, below, far, below]  # the last one is cut off
    picture[6, 2:9] = below  # nowhere does it pass
    ((region, inside),) = cut_regions(picture, line)
    assert (region.box, region.area, region.peak_at) == ((1, 1, 3, 1), 3, (1, 1))
    mask = anomalous(picture, line)
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [1, 3]]
    assert (pasted(inside, region.box, (8, 12)) == mask).all()
    assert not anomalous(picture, 0.71).any()
    assert lower_edge(0.0) == 0.0
    assert lower_edge(1.0) == 1.0
    assert lower_edge(0.97) == pytest.approx(expit(logit(0.97) - REACH))


def test_a_large_image_has_nearly_the_mask_of_its_map(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.zeros((12, 12), np.float32)
    grid[2:4, 2:9], grid[3, 3] = 0.55, 0.8
    grid[8:10, 8:10] = 0.55
    prediction = Prediction("x", 0.9, 2.0, {}, (240, 320), map=grid, map_threshold=0.6)
    whole = prediction.mask()
    monkeypatch.setattr("zeroflaw.runtime.prediction.LARGE", 5000)
    coarse = prediction.mask()
    assert coarse.shape == whole.shape
    assert whole[:160].any()
    assert not whole[160:].any()
    assert not coarse[160:].any()
    assert (whole != coarse).sum() < 0.1 * whole.sum()
    assert sum(region.area for region in prediction.regions()) == pytest.approx(whole.sum(), rel=0.1)


def test_boxes_of_regions_may_overlap_but_their_masks_do_not() -> None:
    picture = np.ones((5, 5), np.float32)
    picture[1:4, 1:4] = 0
    picture[2, 2] = 1
    found = cut_regions(picture, 0.5)
    assert sorted(region.area for region, _ in found) == [1, 16]
    total = sum(pasted(inside, region.box, (5, 5)).astype(int) for region, inside in found)
    np.testing.assert_array_equal(total, picture)


@given(masks)
def test_run_lengths_come_back_and_regions_cover_the_mask(mask: np.ndarray) -> None:
    counts = run_lengths(mask)
    assert sum(counts) == mask.size
    assert all(count > 0 for count in counts[1:])
    np.testing.assert_array_equal(from_run_lengths(counts, mask.shape), mask)
    cut = cut_regions(mask.astype(np.float32), 0.5)
    assert len(cut) == label(mask, np.ones((3, 3)))[1]
    assert sum(region.area for region, _ in cut) == mask.sum()


@given(masks)
def test_run_lengths_are_those_of_the_coco_api(mask: np.ndarray) -> None:
    api = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    encoded = api.encode(np.asfortranarray(mask.astype(np.uint8)))
    mine = api.frPyObjects({"size": list(mask.shape), "counts": run_lengths(mask)}, *mask.shape)
    assert mine == encoded
    assert api.area(mine) == mask.sum()


def test_a_polygon_in_pixels_or_shares() -> None:
    square = region_of_interest("2,1 6,1 6,4 2,4", (8, 10))
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(square, expected)
    half = region_of_interest(" 0,0 0.5,0  .5,1 0,1 ", (80, 100))
    assert half[:, :50].all()
    assert not half[:, 50:].any()
    assert region_of_interest("0,0 1,0 0,1", (50, 50)).sum() == 50 * 49 / 2  # no pixel on the diagonal


def test_a_picture_marks_what_is_not_black(tmp_path: Path) -> None:
    marks = np.zeros((4, 6), np.uint8)
    marks[:2, :3] = 1
    Image.fromarray(marks).save(tmp_path / "roi.png")
    wide = region_of_interest(str(tmp_path / "roi.png"), (8, 12))
    assert wide[:4, :6].all()
    assert wide.sum() == 24
    Image.fromarray(marks * 255).save(tmp_path / "roi.jpg", quality=60)
    assert abs(int(region_of_interest(str(tmp_path / "roi.jpg"), (4, 6)).sum()) - 6) <= 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("1,2 3,4", "three corners"),
        ("1,2 3,4 1.2.3,5", "corners are numbers"),
        ("90,90 95,90 95,95", "marks nothing"),
    ],
)
def test_what_marks_nothing_is_refused(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        region_of_interest(spec, (20, 20))


def test_a_region_of_interest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        region_of_interest(str(tmp_path / "none.png"), (4, 4))
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    with pytest.raises(UsageError, match="marks nothing"):
        region_of_interest(str(tmp_path / "black.png"), (4, 4))


def test_nothing_is_found_outside_of_the_region_of_interest() -> None:
    values = np.array([[0.9, 0.2], [0.3, 0.9]], np.float32)
    inside = np.zeros((20, 20), bool)
    inside[:, :9] = True
    made = Prediction("a", 0.5, 0.0, {}, (20, 20), map=values, map_threshold=0.5)
    assert len(made.regions()) == 2 or made.regions()[0].box[2] > 9
    held = made.confined(inside)
    assert held.map is not None
    assert not held.map[:, 9:].any()
    hot = dataclasses.replace(made, map=np.full((4, 4), 0.9, np.float32)).confined(inside)
    np.testing.assert_array_equal(hot.mask(), inside)
    np.testing.assert_array_equal(held.mask(), made.mask() & inside)
    assert all(region.box[0] + region.box[2] <= 9 for region in held.regions())
    np.testing.assert_array_equal(confined(values, np.ones((20, 20), bool)), made.resized_map())


@pytest.mark.parametrize("size", [(30, 30), (31, 47), (7, 5)])
def test_patches_of_a_mask(size: tuple[int, int]) -> None:
    assert patch_mask(np.ones(size, bool), (3, 3)).all()
    left = np.zeros(size, bool)
    left[:, : round(size[1] * 2 / 3)] = True
    np.testing.assert_array_equal(patch_mask(left, (3, 3)), [[True, True, False]] * 3)
    dot = np.zeros(size, bool)
    dot[-1, -1] = True  # too small for any patch: the one it lies in
    assert np.argwhere(patch_mask(dot, (3, 3))).tolist() == [[2, 2]]


@given(st.integers(1, 9), st.integers(1, 9))
def test_shares_of_patches_are_exact(rows: int, columns: int) -> None:
    mask = np.random.default_rng(rows).random((rows * 3, columns * 4)) < 0.5
    share = mask.reshape(rows, 3, columns, 4).mean((1, 3))
    np.testing.assert_array_equal(patch_mask(mask, (rows, columns)), share >= min(0.5, share.max()) - 1e-9)


def test_regions_need_a_threshold_of_the_map() -> None:
    made = Prediction("a", 0.5, 0.0, {}, (4, 4), map=np.ones((2, 2), np.float32))
    for attempt in (made.regions, made.mask, lambda: coco([made])):
        with pytest.raises(UsageError, match="need a threshold of the map"):
            attempt()
    with pytest.raises(UsageError, match="none was computed"):
        dataclasses.replace(made, map=None, map_threshold=0.5).regions()
