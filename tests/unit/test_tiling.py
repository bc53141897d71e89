"""Large photos in tiles: flaws in their places, no seams, verdicts, and what cannot be cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeroflaw
from zeroflaw import DetectorError, ImageError, UsageError
from zeroflaw.bands import Bands
from zeroflaw.detectors import load, make, open_fitted
from zeroflaw.runtime.tiling import OVERLAP, Mosaic, Tiling

SIDES = st.integers(32, 400)


def bands(photo: np.ndarray, rows: int) -> Bands:
    parts = (photo[top : top + rows] for top in range(0, len(photo), rows))
    return Bands("photo", photo.shape[:2], parts)


def strip(seed: int, *, flaw: tuple[int, int] | None = None, tall: bool = False) -> np.ndarray:
    """A brushed strip of 120 x 1000 pixels, with a dark spot at (row, column) if wanted."""
    random = np.random.default_rng(seed)
    grey = 128 + 10 * np.sin(np.arange(1000) / 7) + random.normal(0, 6, (120, 1000))
    photo = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)
    if flaw is not None:
        photo[flaw[0] : flaw[0] + 16, flaw[1] : flaw[1] + 20] = (20, 20, 160)
    return np.ascontiguousarray(photo.swapaxes(0, 1)) if tall else photo


@given(SIDES, SIDES, SIDES, st.integers(1, 90))
@settings(deadline=None, max_examples=40)
def test_tiles_are_squares_that_cover_the_photo(height: int, width: int, side: int, rows: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    tiling = Tiling.of((height, width), side)
    seen = np.zeros((height, width), bool)
    tiles = list(zip(tiling.places, tiling.cut(bands(photo, rows)), strict=True))
    assert len(tiles) == len(tiling)
    for (top, left), tile in tiles:
        assert tile.shape == (min(side, height, width),) * 2 + (3,)
        np.testing.assert_array_equal(tile, photo[top : top + len(tile), left : left + len(tile)])
        seen[top : top + len(tile), left : left + len(tile)] = True
    assert seen.all()
    for starts in (tiling.tops, tiling.lefts):
        assert all(b - a <= tiling.side * (1 - OVERLAP) + 1 for a, b in pairwise(starts))


def test_a_mosaic_has_no_seams() -> None:
    """Tiles of one smooth surface join to that surface; tiles that disagree fade into one another."""
    tiling = Tiling.of((100, 700), 100)
    mosaic = Mosaic(tiling)
    for top, left in tiling.places:
        x = left + (np.arange(20) + 0.5) * 5
        mosaic.add((top, left), np.tile(x / 100, (20, 1)))
    joined = mosaic.joined()
    assert joined.shape == (20, 140)
    wanted = (np.arange(140) + 0.5) * 5 / 100
    np.testing.assert_allclose(joined[:, 2:-2], np.tile(wanted[2:-2], (20, 1)), atol=0.03)
    uneven = Mosaic(tiling)
    for number, place in enumerate(tiling.places):
        uneven.add(place, np.full((20, 20), float(number % 2)))
    steps = np.abs(np.diff(uneven.joined(), axis=1))
    assert steps.max() < 0.4  # without fading it is 1


@pytest.mark.parametrize("tall", [False, True])
def test_a_small_flaw_of_a_strip_is_found_in_its_place(tall: bool) -> None:
    detector = open_fitted("rwda", {"tile": 120})
    flawed = strip(3, flaw=(60, 730), tall=tall)
    good, bad = detector.predict([strip(1, tall=tall), flawed], maps=True)
    assert bad.logit > good.logit + 1
    assert bad.map is not None
    ratio = bad.size[0] / bad.map.shape[0]
    assert ratio == pytest.approx(bad.size[1] / bad.map.shape[1], rel=0.02)
    row, column = np.unravel_index(bad.map.argmax(), bad.map.shape)
    place = (row * ratio, column * ratio)
    assert np.abs(np.subtract(place, (738, 66) if tall else (66, 738))).max() < 45


@pytest.fixture(scope="module")
def remembering() -> zeroflaw.Memory:
    detector = make("memory", tile=120, rows=600, words_weight=0.1)
    assert isinstance(detector, zeroflaw.Memory)
    return detector.fit(reference=[strip(seed) for seed in range(5)])


def test_memory_gives_verdicts_on_tiles(remembering: zeroflaw.Memory, tmp_path: Path) -> None:
    good, bad = remembering.predict([strip(8), strip(9, flaw=(40, 300))], maps=True)
    assert (good.label, bad.label) == (False, True)
    (region, *_) = bad.regions()
    left, top, width, height = region.box
    assert left <= 300 + 10 <= left + width
    assert top <= 40 + 8 <= top + height
    remembering.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.get_params()["tile"] == 120
    again = list(loaded.predict([strip(8), strip(9, flaw=(40, 300))]))
    assert [one.logit for one in again] == pytest.approx([good.logit, bad.logit], abs=1e-3)
    assert [one.label for one in again] == [False, True]


def test_the_threshold_is_one_of_photos_not_of_tiles(remembering: zeroflaw.Memory) -> None:
    calibration = remembering.calibration_
    assert calibration is not None
    assert len(calibration.good) == 5
    assert calibration.photos is not None
    assert calibration.photos.sizes == ((120, 1000),)
    # The photos' own scores, each without itself, are about what other good photos get.
    others = [one.logit for one in remembering.predict([strip(seed) for seed in range(20, 26)])]
    assert np.mean(others) == pytest.approx(np.mean(calibration.good), abs=1.5)


def test_batches_of_tiles_make_no_difference(remembering: zeroflaw.Memory) -> None:
    photo = strip(9, flaw=(40, 300))
    one, other = (next(iter(remembering.predict([photo], maps=True, batch_size=n))) for n in (1, 7))
    assert one.logit == pytest.approx(other.logit, abs=1e-3)
    np.testing.assert_allclose(one.map, other.map, atol=1e-3)


def test_unreadable_photos_are_left_out(tmp_path: Path) -> None:
    broken, errors = tmp_path / "a.png", []
    broken.write_bytes(b"no picture")
    detector = open_fitted("rwda", {"tile": 120})
    found = list(detector.predict([broken, strip(1)], on_error=errors.append))
    assert [one.source for one in found] == ["image 1"]
    assert len(errors) == 1
    with pytest.raises(ImageError):
        list(detector.predict([broken]))


@pytest.mark.parametrize(
    ("name", "chosen", "says"),
    [
        ("mutual", {"tile": 64}, "cannot judge tiles"),
        ("winclip-plus", {"tile": 64}, "memory can"),
        ("memory", {"tile": 64, "roi": "0,0 1,0 1,1"}, "roi and ignore"),
        ("rwda", {"tile": 31}, "from 32 pixels"),
        ("rwda", {"tile": -1}, "from 0"),
        ("rwda", {"tile": 64.5}, "whole number"),
        ("rwda", {"white": 0.0}, "white"),
    ],
)
def test_what_cannot_be_is_refused(name: str, chosen: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make(name, **chosen)


def test_a_detector_that_saw_photos_keeps_its_tiles(remembering: zeroflaw.Memory, tmp_path: Path) -> None:
    remembering.save(tmp_path / "saved")
    with pytest.raises(UsageError, match="made with tile 120"):
        load(tmp_path / "saved", tile=64)
    with pytest.raises(UsageError, match="from 32 pixels"):
        load("rwda", tile=5)
    with pytest.raises(DetectorError, match="tile"):
        config = tmp_path / "saved" / "config.json"
        config.write_text(config.read_text().replace('"tile": 120', '"tile": 7'))
        load(tmp_path / "saved")


def test_calibration_cuts_as_well(tmp_path: Path) -> None:
    detector = load("rwda", tile=120)
    detector.calibrate([strip(seed) for seed in range(5)])  # type: ignore[attr-defined]
    detector.save(tmp_path / "saved")
    good, bad = load(tmp_path / "saved").predict([strip(8), strip(9, flaw=(40, 300))])
    assert (good.label, bad.label) == (False, True)
