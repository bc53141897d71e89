"""The masked-autoencoder detector: what it makes of errors, its parameters, and what it saves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mae_folder import CONFIG, constant_state, random_state, write_mae
from zeroflaw import load
from zeroflaw.detectors import make
from zeroflaw.detectors.maeday import MAEDAY, blur
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.folder import read_folder


def pictures(count: int = 3, size: tuple[int, int] = (48, 48)) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_mae(tmp_path / "mae")


def detector(folder: Path, **parameters: Any) -> MAEDAY:
    return MAEDAY(backbone=f"local-dir:{folder}", device="cpu", **parameters)


# --- the detector


def test_the_blur_keeps_constants_sums_to_one_and_mirrors() -> None:
    constant = torch.full((1, 9, 9), 3.0, dtype=torch.float64)
    torch.testing.assert_close(blur(constant, 1.4, 7), constant)
    point = torch.zeros(1, 9, 9, dtype=torch.float64)
    point[0, 4, 4] = 1
    spread = blur(point, 1.4, 7)[0]
    assert float(spread.sum()) == pytest.approx(1)
    assert float(spread[4, 5] / spread[4, 4]) == pytest.approx(math.exp(-0.5 / 1.4**2))
    assert int(spread.count_nonzero()) == 49
    torch.testing.assert_close(blur(point, 1e-200, 7), point)


def test_an_answer_does_not_depend_on_the_batch(folder: Path) -> None:
    fitted = detector(folder, masks=5, mask_drawing="balanced").fit()
    images = pictures(5)
    together = list(fitted.predict(images, maps=True, batch_size=5))
    for image, among in zip(images, together, strict=True):
        (alone,) = fitted.predict([image], maps=True)
        assert alone.logit == pytest.approx(among.logit, abs=1e-5)
        assert alone.map is not None
        assert among.map is not None
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
    image = pictures(1)

    def logit(folder: Path, targets: Any) -> float:
        return next(detector(folder, targets=targets).fit().predict(image)).logit

    pixels = [logit(plain, "auto"), logit(plain, "pixels"), logit(trained, "pixels")]
    normalised = [logit(trained, "auto"), logit(trained, "normalised"), logit(plain, "normalised")]
    assert pixels == pytest.approx([pixels[0]] * 3, abs=1e-5)
    assert normalised == pytest.approx([normalised[0]] * 3, abs=1e-5)
    assert abs(pixels[0] - normalised[0]) > 1e-2


def test_maps_are_shared_where_only_the_blur_differs(folder: Path) -> None:
    keys = {detector(folder, **change).share_key for change in ({}, {"blur_sigma": 0.0}, {"blur_kernel": 3})}
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
    keys |= {detector(folder, **change).share_key for change in changes}
    assert len(keys) == 1 + len(changes)


def test_weights_that_overflow_are_reported(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    state["decoder.decoder_pred.weight"] *= 1e30
    fitted = detector(write_mae(tmp_path / "mae", state=state)).fit()
    with pytest.raises(DetectorError, match="errors that are not finite numbers"):
        list(fitted.predict(pictures(1)))


def test_a_saved_detector_keeps_its_masks(folder: Path, tmp_path: Path) -> None:
    fitted = detector(folder, masks=3, error="all", seed=9).fit()
    fitted.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, MAEDAY)
    assert loaded.visible_ is not None
    assert fitted.visible_ is not None
    assert torch.equal(loaded.visible_, fitted.visible_)
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "3 random masks hide 75% of the patches" in card
    assert "Images seen: none" in card


@pytest.mark.parametrize(
    "broken",
    [
        torch.zeros(3, 9, dtype=torch.int64),
        torch.arange(9).repeat(3, 1) - 1,
        torch.arange(9).repeat(3, 1) + 28,
        torch.arange(9).repeat(3, 1).float(),
        torch.arange(8).repeat(3, 1),
    ],
)
def test_saved_masks_that_are_none_are_refused(broken: Tensor, folder: Path, tmp_path: Path) -> None:
    detector(folder, masks=3, error="all").fit().save(tmp_path / "saved")
    saved = read_folder(tmp_path / "saved")
    saved.tensors["visible"] = broken
    with pytest.raises(DetectorError, match="visible"):
        MAEDAY.from_saved(saved)


def test_other_weights_than_those_it_was_fitted_on_are_refused(folder: Path, tmp_path: Path) -> None:
    detector(folder).fit().save(tmp_path / "saved")
    write_mae(tmp_path / "other", seed=1)
    write_mae(tmp_path / "same weights", config={"norm_pix_loss": True})
    with pytest.raises(DetectorError, match="sha256"):
        load(tmp_path / "saved", backbone=f"local-dir:{tmp_path / 'other'}")
    with pytest.raises(DetectorError, match="configuration"):
        load(tmp_path / "saved", backbone=f"local-dir:{tmp_path / 'same weights'}")


@pytest.mark.parametrize("backbone", ["mini", "ViT-B-16/openai", "facebook/vit-mae-base"])
def test_other_backbones_are_refused_before_any_work(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights must not be looked for")

    monkeypatch.setattr("zeroflaw.detectors.maeday.load_autoencoder", never)
    with pytest.raises(UsageError, match=r"weights with a decoder are needed.*local-dir:FOLDER"):
        make("maeday", backbone=backbone).fit()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("masks", 0),
        ("masks", 2.0),
        ("mask_ratio", 0.0),
        ("mask_ratio", 1.0),
        ("mask_drawing", "fair"),
        ("error", "visible"),
        ("targets", "colours"),
        ("blur_sigma", -1.0),
        ("blur_sigma", math.nan),
        ("blur_kernel", 4),
        ("blur_kernel", 0),
    ],
)
def test_parameters_out_of_range_are_named(name: str, value: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match=name):
        detector(folder, **{name: value}).fit()


def test_parameters_that_the_image_cannot_bear_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="use more masks"):
        detector(folder, masks=1).fit()
    with pytest.raises(UsageError, match="blur_kernel must be below 96"):
        detector(folder, blur_kernel=97).fit()
    assert detector(folder, blur_kernel=95).fit().is_fitted
    with pytest.raises(UsageError, match="no use for reference"):
        detector(folder).fit(reference=pictures(1))
