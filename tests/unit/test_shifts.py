"""Shifts of light, lens and camera: each changes the picture, more with every severity."""

from __future__ import annotations

import numpy as np
import pytest

from zeroflaw.corruptions import corrupt
from zeroflaw.lab.samples import render
from zeroflaw.shifts import SHIFTS


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A rendered part, not square."""
    return render("gear")[0][20:300, 10:340]


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_the_picture_and_the_severer_the_more(name: str, picture: np.ndarray) -> None:
    before = picture.copy()
    moved = []
    for severity in range(1, 6):
        shifted = corrupt(picture, name, severity)
        assert shifted.shape == picture.shape
        assert shifted.dtype == np.uint8
        np.testing.assert_array_equal(shifted, corrupt(picture, name, severity, key="another"))
        moved.append(np.abs(shifted.astype(float) - picture).mean())
    assert moved[0] > 0.2
    assert moved == sorted(set(moved))
    np.testing.assert_array_equal(picture, before)
    assert corrupt(picture[:1, :2], name, 5).shape == (1, 2, 3)


def test_light_goes_where_the_name_says(picture: np.ndarray) -> None:
    mean = picture.astype(float).mean((0, 1))
    warm, cool = (corrupt(picture, name, 3).astype(float).mean((0, 1)) for name in ("warmer", "cooler"))
    assert warm[0] - warm[2] > mean[0] - mean[2] > cool[0] - cool[2]
    assert corrupt(picture, "darker", 2).mean() == pytest.approx(0.7 * picture.mean(), rel=0.01)
    side = corrupt(picture, "side_light", 3) / np.maximum(picture, 1)
    assert side[:, -9:].mean() < 0.7 * side[:, :9].mean()
    assert np.ptp(corrupt(picture, "greyer", 5), axis=2).max() <= 1
