"""The masked-autoencoder detector: what it makes of errors, and which weights it takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mae_folder import CONFIG, constant_state, random_state, write_mae
from short_fits import Workshop, noise
from zeroflaw import load
from zeroflaw.detectors.maeday import MAEDAYScorer, MAEDAYSpec
from zeroflaw.errors import DetectorError
from zeroflaw.runtime.features import ImageFeatures


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


def test_the_score_is_the_largest_value_of_the_map(workshop: Workshop) -> None:
    (found,) = workshop.fit("maeday").predict(noise(1, (30, 70)), maps=True)
    assert found.map.shape == (48, 48)
    assert found.score == pytest.approx(float(found.map.max()), abs=1e-6)
    assert found.scores == {"error": found.score}


def test_no_error_at_all_still_has_finite_log_odds(workshop: Workshop, tmp_path: Path) -> None:
    folder = write_mae(tmp_path / "mae", state=constant_state(CONFIG), preprocessor={"image_mean": [0, 0, 0]})
    black = np.zeros((20, 20, 3), dtype=np.uint8)
    (found,) = workshop.fit("maeday", backbone=f"local-dir:{folder}").predict([black], maps=True)
    assert math.isfinite(found.logit)
    assert 0 <= found.score < 1e-300
    assert float(found.map.max()) == 0


def test_targets_follow_the_configuration_unless_told_otherwise(workshop: Workshop, tmp_path: Path) -> None:
    folders = write_mae(tmp_path / "plain"), write_mae(tmp_path / "norm", config={"norm_pix_loss": True})

    def logits(targets: str) -> list[float]:
        fits = [workshop.fit("maeday", backbone=f"local-dir:{f}", targets=targets) for f in folders]
        return [next(detector.predict(noise(1))).logit for detector in fits]

    pixels, normalised = logits("pixels"), logits("normalised")
    assert pixels[0] == pytest.approx(pixels[1], abs=1e-5)
    assert normalised[0] == pytest.approx(normalised[1], abs=1e-5)
    assert logits("auto") == pytest.approx([pixels[0], normalised[1]], abs=1e-5)
    assert abs(pixels[0] - normalised[0]) > 1e-3


def test_weights_that_overflow_are_reported(workshop: Workshop, tmp_path: Path) -> None:
    state = random_state(CONFIG)
    state["decoder.decoder_pred.weight"] *= 1e30
    folder = write_mae(tmp_path / "mae", state=state)
    with pytest.raises(DetectorError, match="errors that are not finite numbers"):
        list(workshop.fit("maeday", backbone=f"local-dir:{folder}").predict(noise(1)))


def test_other_weights_than_those_it_was_fitted_on_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    detector = workshop.fit("maeday", masks=3, error="all")
    assert detector.scorer_.visible.shape == (3, 9)
    assert "3 random masks hide 75% of the patches" in detector.card_
    detector.save(tmp_path / "saved")
    write_mae(tmp_path / "other", seed=1)
    write_mae(tmp_path / "same weights", config={"norm_pix_loss": True})
    for name, says in (("other", "sha256"), ("same weights", "configuration")):
        with pytest.raises(DetectorError, match=says):
            load(tmp_path / "saved", backbone=f"local-dir:{tmp_path / name}")
