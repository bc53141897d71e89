"""The masked-autoencoder detector: what it makes of errors, its parameters, and what it saves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mae_folder import CONFIG, constant_state, random_state, write_mae
from zeroflaw import load
from zeroflaw.detectors import make
from zeroflaw.detectors.maeday import MAEDAY, MAEDAYScorer, MAEDAYSpec
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.features import ImageFeatures
from zeroflaw.runtime.folder import SavedDetector, read_folder


def pictures(count: int = 3, size: tuple[int, int] = (48, 48)) -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_mae(tmp_path / "mae")


def detector(folder: Path, **parameters: Any) -> MAEDAY:
    return MAEDAY(backbone=f"local-dir:{folder}", device="cpu", **parameters)


def judged(errors: np.ndarray, sigma: float, kernel: int) -> np.ndarray:
    """Smoothed errors (S, S) of one image, from what the scorer says of them."""
    scorer = MAEDAYScorer(np.zeros((1, 1), np.int64), MAEDAYSpec(blur_sigma=sigma, blur_kernel=kernel))
    features = ImageFeatures(errors.reshape(1, -1).astype(np.float32), errors.shape)  # type: ignore[arg-type]
    found = scorer.judge(features, [errors.shape], maps=True)  # type: ignore[list-item]
    assert found.maps is not None
    assert found.logits[0] == found.maps[0].max() == found.scores["error"][0]
    return np.exp(found.maps[0])


def test_the_blur_keeps_constants_sums_to_one_and_mirrors() -> None:
    np.testing.assert_allclose(judged(np.full((9, 9), 3.0), 1.4, 7), 3, rtol=1e-6)
    point = np.zeros((9, 9))
    point[4, 4] = 1
    spread = judged(point, 1.4, 7)
    assert spread.sum() == pytest.approx(1)
    assert spread[4, 5] / spread[4, 4] == pytest.approx(math.exp(-0.5 / 1.4**2))
    assert (spread > 1e-9).sum() == 49
    np.testing.assert_allclose(judged(point, 0.0, 7), point, atol=1e-300)
    edge = np.zeros((9, 9))
    edge[:, 1] = 1  # seen a second time across the border, where column 0 is not
    mirrored, share = judged(edge, 1.4, 7)[4], np.exp(-0.5 * np.square(np.arange(3) / 1.4))
    assert mirrored[0] / mirrored[1] == pytest.approx(2 * share[1] / (share[0] + share[2]), rel=1e-6)


def test_an_answer_does_not_depend_on_the_batch(folder: Path) -> None:
    fitted = detector(folder, masks=5, mask_drawing="balanced").fit()
    images = pictures(5)
    for image, among in zip(images, fitted.predict(images, maps=True, batch_size=5), strict=True):
        (alone,) = fitted.predict([image], maps=True)
        assert alone.logit == pytest.approx(among.logit, abs=1e-5)
        np.testing.assert_allclose(alone.map, among.map, atol=1e-6)


def test_the_score_is_the_largest_value_of_the_map(folder: Path) -> None:
    (found,) = detector(folder).fit().predict(pictures(1, (30, 70)), maps=True)
    assert found.map is not None
    assert found.map.shape == (48, 48)
    assert found.score == pytest.approx(float(found.map.max()), abs=1e-6)
    assert found.scores == {"error": found.score}
    assert found.resized_map().shape == (30, 70)


def test_no_error_at_all_still_has_finite_log_odds(tmp_path: Path) -> None:
    folder = write_mae(tmp_path / "mae", state=constant_state(CONFIG), preprocessor={"image_mean": [0, 0, 0]})
    black = np.zeros((20, 20, 3), dtype=np.uint8)
    (found,) = detector(folder).fit().predict([black], maps=True)
    assert math.isfinite(found.logit)
    assert 0 <= found.score < 1e-300
    assert found.map is not None
    assert float(found.map.max()) == 0


def test_targets_follow_the_configuration_unless_told_otherwise(tmp_path: Path) -> None:
    plain = write_mae(tmp_path / "plain")
    trained = write_mae(tmp_path / "normalised", config={"norm_pix_loss": True})

    def logits(targets: Any) -> list[float]:
        return [next(detector(f, targets=targets).fit().predict(pictures(1))).logit for f in (plain, trained)]

    pixels, normalised = logits("pixels"), logits("normalised")
    assert pixels[0] == pytest.approx(pixels[1], abs=1e-5)
    assert normalised[0] == pytest.approx(normalised[1], abs=1e-5)
    assert logits("auto") == pytest.approx([pixels[0], normalised[1]], abs=1e-5)
    assert abs(pixels[0] - normalised[0]) > 1e-3


def test_errors_are_shared_where_only_the_blur_differs(folder: Path) -> None:
    keys = {
        detector(folder, **change).feature_key for change in ({}, {"blur_sigma": 0.0}, {"blur_kernel": 3})
    }
    assert len(keys) == 1
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"masks": 31},
        {"mask_ratio": 0.7},
        {"mask_drawing": "balanced"},
        {"error": "all"},
        {"targets": "pixels"},
        {"dtype": "bfloat16"},
    ]
    keys |= {detector(folder, **change).feature_key for change in changes}
    assert len(keys) == 1 + len(changes)


def test_weights_that_overflow_are_reported(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    state["decoder.decoder_pred.weight"] *= 1e30
    fitted = detector(write_mae(tmp_path / "mae", state=state)).fit()
    with pytest.raises(DetectorError, match="errors that are not finite numbers"):
        list(fitted.predict(pictures(1)))


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> SavedDetector:
    """A saved detector of three masks, which show 9 of 36 patches."""
    detector(folder, masks=3, error="all", seed=9).fit().save(tmp_path / "saved")
    return read_folder(tmp_path / "saved")


def test_a_saved_detector_keeps_its_masks(saved: SavedDetector) -> None:
    visible = MAEDAY.from_saved(saved).scorer_.arrays()["visible"]
    np.testing.assert_array_equal(visible, saved.arrays["visible"])
    assert (visible.shape, visible.dtype) == ((3, 9), np.int64)
    assert "3 random masks hide 75% of the patches" in saved.card
    assert "Images seen: none" in saved.card


rows = np.arange(9)[None].repeat(3, 0)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"visible": np.zeros((3, 9), np.int64)},
        {"visible": rows - 1},
        {"visible": rows + 28},
        {"visible": rows.astype(np.float32)},
        {"visible": rows[:, :8]},
        {"visible": rows[0]},
        {"visible": rows, "hidden": rows},
    ],
)
def test_saved_masks_that_are_none_are_refused(arrays: dict[str, np.ndarray], saved: SavedDetector) -> None:
    with pytest.raises(DetectorError, match=r"'visible'|scorer does not fit"):
        MAEDAY.from_saved(dataclasses.replace(saved, arrays=arrays))


@pytest.mark.parametrize(
    "spec", [{}, {"blur_sigma": -1.0, "blur_kernel": 7}, {"blur_sigma": 1, "blur_kernel": 0}]
)
def test_a_saved_blur_that_is_none_is_refused(spec: dict[str, Any], saved: SavedDetector) -> None:
    with pytest.raises(DetectorError, match=r"'scorer' in config\.json: blur"):
        MAEDAY.from_saved(dataclasses.replace(saved, scorer={"kind": "maeday", **spec}))


def test_other_weights_than_those_it_was_fitted_on_are_refused(saved: SavedDetector, tmp_path: Path) -> None:
    write_mae(tmp_path / "other", seed=1)
    write_mae(tmp_path / "same weights", config={"norm_pix_loss": True})
    for name, says in (("other", "sha256"), ("same weights", "configuration")):
        with pytest.raises(DetectorError, match=says):
            load(tmp_path / "saved", backbone=f"local-dir:{tmp_path / name}")


@pytest.mark.parametrize("backbone", ["mini", "ViT-B-16/openai", "facebook/vit-mae-base"])
def test_other_backbones_are_refused_before_any_work(backbone: str) -> None:
    with pytest.raises(UsageError, match=r"weights with a decoder are needed.*local-dir:FOLDER"):
        make("maeday", backbone=backbone).fit()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("masks", 0),
        ("mask_ratio", 1.0),
        ("mask_drawing", "fair"),
        ("error", "visible"),
        ("blur_sigma", math.nan),
        ("blur_kernel", 4),
    ],
)
def test_parameters_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be"):
        make("maeday", **{name: value})


def test_masks_that_leave_a_patch_unsaid_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="use more masks"):
        detector(folder, masks=1).fit()
    assert detector(folder, masks=1, error="all", blur_kernel=97).fit().is_fitted
