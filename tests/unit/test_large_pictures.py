"""Large pictures are resized while others are judged: the same answers, and little memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import png16, ramp
from zeroflaw import Memory, Mutual, WinCLIP, reading
from zeroflaw.detectors import base
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.runtime.preprocess import OPENAI_MEAN, Preprocess, Resized


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        pixels = random.integers(0, 255, (6, 6 + number, 3), np.uint8).repeat(12, 0).repeat(12, 1)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("kind", [WinCLIP, Memory, Mutual])
def test_predictions_are_the_same(
    kind: type[BackboneDetector], photos: list[Path], tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = kind(backbone=f"local-dir:{tiny_backbone}")
    detector.fit(reference=photos[:4]) if detector.needs.reference_images else detector.fit()
    plain = list(detector.predict(photos, maps=True, batch_size=2))
    made: list[Resized] = []
    of = Resized.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Resized, "of", classmethod(lambda *given: made.append(of(*given)) or made[-1]))
    monkeypatch.setattr(base, "LARGE", 0)
    small = list(detector.predict(photos, maps=True, batch_size=2))
    assert len(made) >= len(photos)
    for one, other in zip(plain, small, strict=True):
        assert one.size == other.size
        assert one.logit == pytest.approx(other.logit, abs=1e-4)
        np.testing.assert_allclose(one.map, other.map, atol=1e-4)
        assert one.photo == other.photo


def test_a_picture_is_kept_for_the_networks_that_look_at_it() -> None:
    pixels = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    ways = [Preprocess(image_size=8), Preprocess(image_size=16, resize="shortest")]
    resized = Resized.of(pixels, ways, {})
    assert resized.shape == pixels.shape
    for way in ways:
        np.testing.assert_array_equal(way([resized]), way([pixels]))
    with pytest.raises(KeyError):
        dataclasses.replace(ways[0], mean=(OPENAI_MEAN[0], 0.5, 0.5))([resized])


def test_notes_of_reading_come_with_predictions(tiny_backbone: Path) -> None:
    detector = WinCLIP(backbone=f"local-dir:{tiny_backbone}").fit()
    data = png16(ramp(1023).astype(np.uint16))
    (guessed,) = detector.predict([data])
    assert "--white" in guessed.notes[0]
    assert guessed.to_dict()["notes"] == list(guessed.notes)
    with reading(white=1023):
        (said,) = detector.predict([data])
    assert said.notes == ()
    assert "notes" not in said.to_dict()
    assert said.logit == pytest.approx(guessed.logit, abs=1e-5)
