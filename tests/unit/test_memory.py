"""Good photos as a memory: rankings, verdicts, what is remembered, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from short_fits import Workshop, noise
from zeroflaw import Memory, UsageError, corrupt, load
from zeroflaw.lab.samples import PRODUCTS, render
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.memory import MemoryScorer, PatchSpec, coreset
from zeroflaw.towers.patches import patch_features
from zeroflaw.towers.stem import Stem
from zeroflaw.towers.weights import load_backbone

Pictures = list[np.ndarray]


def good(product: str, count: int, seed: int = 0) -> Pictures:
    return [render(product, seed=seed, index=index)[0] for index in range(count)]


def flawed(product: str) -> Pictures:
    return [render(product, flaw)[0] for flaw in PRODUCTS[product].flaws]


@pytest.mark.parametrize(("product", "count"), [("cloth", 1), ("cloth", 3), ("cloth", 4), ("gear", 8)])
def test_flawed_parts_rank_above_good_ones_and_four_photos_give_verdicts(product: str, count: int) -> None:
    detector = Memory().fit(reference=good(product, count))
    found = list(detector.predict([*good(product, 4, seed=1), *flawed(product)], maps=True))
    assert max(p.logit for p in found[:4]) < min(p.logit for p in found[4:])
    assert set(found[0].scores) == {"memory", "words"}
    if count < 4:
        assert {(p.label, p.p_value, p.threshold) for p in found} == {(None, None, None)}
        return
    assert sum(bool(p.label) for p in found[:4]) <= 1
    for prediction in found[4:]:
        assert prediction.label
        assert prediction.regions()
        assert prediction.p_value == pytest.approx(1 / (count + 1))
        assert f"Threshold from {count} good photos" in (prediction.threshold_from or "")


def test_equal_photos_count_once_and_a_flawed_one_is_named_by_its_place() -> None:
    photos = good("cloth", 7)
    reference = [photos[0], photos[0].copy(), flawed("cloth")[0], *photos[1:]]
    detector = Memory(words_weight=0.0).fit(reference=reference)
    assert detector.outliers_ == [2]
    assert detector.twins_ == {1: 0}
    assert detector.calibration_ is not None
    assert len(detector.calibration_.good) == 8
    assert "A memory of 8 good photos" in detector.card_


def saved_again(photo: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def scaled(photo: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(photo).resize((photo.shape[1] * 5 // 4, photo.shape[0] * 5 // 4)))


def brighter(photo: np.ndarray) -> np.ndarray:
    return np.clip(photo * 1.05, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("again", [saved_again, scaled, brighter])
@pytest.mark.parametrize("twice", [(0,), (0, 1, 2, 3, 4)])
def test_photos_that_show_the_same_count_once(again: Any, twice: tuple[int, ...]) -> None:
    photos = good("cloth", 8)
    plain = Memory(words_weight=0.0).fit(reference=photos)
    detector = Memory(words_weight=0.0).fit(reference=[*photos, *(again(photos[place]) for place in twice)])
    assert plain.twins_ == {}
    assert detector.twins_ == {8 + number: place for number, place in enumerate(twice)}
    assert plain.calibration_ is not None
    assert detector.calibration_ is not None
    assert detector.calibration_.threshold == pytest.approx(plain.calibration_.threshold, abs=1e-3)
    assert "A memory of 8 good photos" in detector.card_


def test_photos_of_one_moment_give_no_threshold() -> None:
    one, two = good("gear", 2)
    detector = Memory().fit(reference=[saved_again(one), one, scaled(one), two, brighter(two)])
    assert len(detector.twins_) == 3
    assert detector.calibration_ is None


def test_shown_shifts_are_good_as_well() -> None:
    washers = good("washer", 10)
    noisy = [corrupt(photo, "gaussian_noise", 2, key=str(number)) for number, photo in enumerate(washers[6:])]
    plain = Memory(words_weight=0.0).fit(reference=washers[:6])
    proof = Memory(words_weight=0.0, shifts=("gaussian_noise:2",)).fit(reference=washers[:6])
    assert all(p.label for p in plain.predict(noisy))
    assert sum(bool(p.label) for p in proof.predict(noisy)) <= 1
    assert all(p.label for p in proof.predict(flawed("washer")))
    assert proof.calibration_ is not None
    assert proof.calibration_.shifts == ("gaussian_noise:2",)


def test_photos_are_judged_by_what_the_others_left() -> None:
    rows = np.random.default_rng(0).normal(size=(21, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    memory, queries, owners = rows[:9], rows[9:].reshape(3, 4, 5), np.array([0, 0, 1, 2, 1, 2, 2, 0, 1])
    one = MemoryScorer(PatchSpec(sizes=(48,), scale=(1.0,)), memories={48: memory}, owners={48: owners})
    features: Any = type("Features", (), {"patch_features": {48: queries}})
    found = one.leave_one_out(features, [2, 0, 1])[48]
    for row, photo in enumerate([2, 0, 1]):
        others = [m for m, owner in zip(memory, owners, strict=True) if owner != photo]
        nearest = [min(1 - float(query @ m) for m in others) for query in queries[row]]
        np.testing.assert_allclose(found[row], nearest, atol=1e-6)


def test_copies_belong_to_their_photo_and_have_noise_of_their_own(workshop: Workshop) -> None:
    every = {"copies": ("mirrored", "turned", "brightened"), "shifts": ("gaussian_noise:3",)}
    grey = [np.full((40, 40, 3), level, np.uint8) for level in (100, 160)]
    scorer = workshop.make("memory", **every).fit(reference=grey).scorer_
    memory, owners = scorer.memories[48], scorer.owners[48]
    np.testing.assert_array_equal(np.bincount(owners), [8 * 36] * 2)
    noisy = [memory[owners == photo][-36:] for photo in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max(1).min() > 1e-2
    upright = noise(5)
    plain, proof = (
        workshop.make("memory", copies=copies).fit(reference=upright) for copies in ((), every["copies"])
    )
    for same in (upright[0][:, ::-1], np.rot90(upright[0], 2)):
        one, other = (next(iter(kind.predict([same]))).logit for kind in (plain, proof))
        assert other < one - 1


def test_a_coreset_keeps_what_lies_far_from_the_rest() -> None:
    rows = np.random.default_rng(0).normal(0, 0.01, (600, 16)).astype(np.float32)
    rows[:, 0] += 1
    far = [17, 255, 599]
    rows[far] = np.eye(16, dtype=np.float32)[[3, 4, 5]]
    steps: list[tuple[int, int]] = []
    kept = coreset(rows, 6, 0, lambda done, of: steps.append((done, of)))
    assert set(far) <= set(kept.tolist())
    assert len(set(kept.tolist())) == 6
    assert steps[-1] == (6, 6)
    np.testing.assert_array_equal(coreset(rows, 600, 0), np.arange(600))


def test_a_backbone_without_a_stem_is_compared_at_sizes_of_its_own(workshop: Workshop) -> None:
    detector = workshop.fit("memory")
    widths = {size: memory.shape[1] for size, memory in detector.scorer_.memories.items()}
    assert widths == dict.fromkeys((48, 80), detector.backbone_.patch_width)
    (found,) = detector.predict(noise(1), maps=True)
    assert found.map.shape == (10, 10)
    other = workshop.fit("memory", words="clip-ensemble", sizes=(64, 40), object="nut")
    assert other.scorer_.choices.sizes == (40, 64)


@pytest.mark.parametrize("network", ["mini", "tiny"])
def test_words_and_patches_come_from_one_pass(
    network: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone("mini" if network == "mini" else f"local-dir:{workshop.tiny}")
    native, blocks = backbone.preprocess.image_size, (1, 2)
    images = noise(2, (60, 50))
    apart = backbone.embed_images(images, patches=True, layers=blocks)
    sized = {size: backbone.with_image_size(size) for size in (native, native * 2)}
    with torch.inference_mode():
        wanted = {
            size: patch_features(one.model.vision, one.pixels(images)).numpy() for size, one in sized.items()
        }
    looked: list[tuple[int, ...]] = []
    tower = Stem if network == "mini" else type(backbone.model.vision)
    first = "features" if network == "mini" else "tokens"
    real = getattr(tower, first)

    def counted(self: Any, pixels: Any, *rest: Any) -> Any:
        looked.append(tuple(pixels.shape[-2:]))
        return real(self, pixels, *rest)

    monkeypatch.setattr(tower, first, counted)
    request = FeatureRequest(patches=True, layers=blocks, patch_sizes=tuple(sized))
    found = backbone.embed(images, request)
    assert sorted(looked) == [(native, native), (native * 2, native * 2)]
    np.testing.assert_allclose(found.image, apart.image, atol=1e-5)
    np.testing.assert_allclose(found.patches, apart.patches, atol=1e-5)
    assert found.layers.keys() == apart.layers.keys()
    for size, features in wanted.items():
        np.testing.assert_allclose(found.patch_features[size], features, atol=1e-5)


def test_the_threshold_is_saved_and_can_be_set_again(workshop: Workshop, tmp_path: Path) -> None:
    workshop.make("memory").fit(reference=noise(6)).save(tmp_path / "saved")
    detector: Any = load(tmp_path / "saved")
    assert detector.calibration_.left_out
    assert load(tmp_path / "saved", calibrated=False).calibration_ is None  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"^2 of the 6 good photos are those that the"):
        detector.calibrate([*noise(6)[:2], *noise(4, seed=1)])
    before = detector.calibration_
    assert before is not None
    with pytest.raises(UsageError, match="at least 4"):
        detector.calibrate(noise(2, seed=2))
    assert detector.calibration_ is before  # what is refused changes nothing
    detector.calibrate(noise(20, seed=2))
    assert detector.calibration_.rule == "conformal"
    assert not detector.calibration_.left_out
