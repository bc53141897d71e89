"""Photos compared with one another: who is compared with whom, what is kept, and what is said."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from short_fits import Workshop, noise
from zeroflaw import ImageError, Mutual, UsageError
from zeroflaw.detectors import mutual
from zeroflaw.lab.metrics import image_auroc
from zeroflaw.lab.samples import PRODUCTS, render
from zeroflaw.runtime.features import ImageFeatures
from zeroflaw.runtime.memory import MutualScorer, PatchSpec, rescored
from zeroflaw.runtime.prediction import Prediction


def logits(found: Sequence[Prediction]) -> list[float]:
    return [prediction.logit for prediction in found]


def test_flawed_parts_stand_out_among_the_others() -> None:
    normal = [render("cloth", index=index)[0] for index in range(9)]
    anomalous = [render("cloth", flaw)[0] for flaw in PRODUCTS["cloth"].flaws]
    found = list(Mutual(sizes=(240,)).fit().predict([*normal, *anomalous], maps=True))
    assert (image_auroc([0] * 9 + [1] * 3, logits(found)).value or 0) > 0.95
    assert all(prediction.label for prediction in found[9:])
    assert sum(bool(prediction.label) for prediction in found[:9]) <= 2
    assert found[9].regions()
    said = found[0].threshold_from or ""
    assert said.startswith("Threshold from 12 of the judged photos, most of which must be good: about 5 %")


@pytest.mark.parametrize("settings", [{}, {"neighbours": (1, 2, 3), "words_weight": 0.3}])
def test_neither_order_nor_batches_matter(settings: dict[str, Any], workshop: Workshop) -> None:
    detector = workshop.make("mutual", partners=30, **settings).fit()
    photos = noise(8)
    first = list(detector.predict(photos, maps=True))
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    whole = detector.judge(detector.embed(photos, detector.request(True)), [(40, 50)] * 8, maps=True)
    several = [detector.predict([photos[n] for n in order], maps=True, batch_size=size) for size in (1, 3)]
    for again in ([whole[number] for number in order], *map(list, several)):
        for found, number in zip(again, order, strict=True):
            wanted = first[number]
            assert found.logit == pytest.approx(wanted.logit, abs=1e-3)
            assert found.threshold_logit == pytest.approx(wanted.threshold_logit, abs=1e-3)
            assert found.label == wanted.label
            np.testing.assert_allclose(found.map, wanted.map, atol=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("photos", [noise(1), noise(3), [*noise(3), b"no picture"]])
def test_fewer_than_four_photos_are_refused(photos: list[Any], workshop: Workshop) -> None:
    with pytest.raises(UsageError, match=rf"from 4 on, got {min(3, len(photos))}; give more"):
        list(workshop.make("mutual").fit().predict(photos, on_error=lambda error: None))
    assert list(workshop.make("mutual").fit().predict([])) == []


def test_photos_that_cannot_be_read_are_reported_once_and_the_others_go_on(
    workshop: Workshop, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path, photo in zip(paths, noise(7), strict=True):
        Image.fromarray(photo).save(path)
    detector = workshop.make("mutual").fit()
    without = list(detector.predict([path for path in paths if path.stem not in "03"]))
    for number in (0, 3):
        paths[number].write_bytes(b"no picture")
    errors: list[ImageError] = []
    found = list(detector.predict(paths, on_error=errors.append))
    assert [error.source for error in errors] == [str(paths[0]), str(paths[3])]
    assert [p.source for p in found] == [str(path) for path in paths if path.stem not in "03"]
    np.testing.assert_allclose(logits(found), logits(without), atol=1e-3)
    with pytest.raises(ImageError, match=r"0\.png"):
        list(detector.predict(paths))


def test_no_more_than_partners_and_a_batch_are_held(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    most: dict[int, int] = {}
    alive: list[weakref.ref[ImageFeatures]] = []
    embed = mutual.embed

    def counted(backbone: Any, images: Any, request: Any) -> ImageFeatures:
        nonlocal looked
        looked += len(images)
        found = embed(backbone, images, request)
        alive.append(weakref.ref(found))
        held = sum(len(features) for reference in alive if (features := reference()) is not None)
        most[count] = max(most.get(count, 0), held)
        return found

    monkeypatch.setattr(mutual, "embed", counted)
    detector = workshop.make("mutual").fit()
    for count in (12, 30):
        looked = 0
        assert sum(1 for _ in detector.predict(iter(noise(count)), batch_size=3)) == count
        assert looked == 5 + count
    assert most[12] == most[30] <= 5 + 2 * 3


def test_a_copy_of_a_photo_does_not_vouch_for_it(workshop: Workshop) -> None:
    photos = noise(9)
    for partners in (4, 30):
        detector = workshop.make("mutual", partners=partners).fit()
        found = logits(list(detector.predict([*photos, *photos[:3]])))
        np.testing.assert_allclose(found[:3], found[9:], atol=1e-3)
    assert np.isfinite(logits(list(detector.predict([photos[0]] * 5)))).all()


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_distances_are_means_over_the_nearest_partners(share: float) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 4, 4, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    wide = uniform_filter(rows, (1, 3, 3, 1), mode="nearest")
    by_degree = [
        rows.reshape(6, 16, 5),
        (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).reshape(6, 16, 5),
    ]
    choices = PatchSpec(sizes=(48,), scale=(1.0,), share=share, degrees=(1, 3))
    partners = (0, 2, 3, 5)
    one = MutualScorer(choices, partners={48: by_degree[0][list(partners)]}, partner_numbers=partners)
    features = ImageFeatures(rows[:, 0, 0], (4, 4), patch_features={48: by_degree[0]})
    found = one.distances_from(features, range(6))[48]
    for number in range(6):
        others = [partner for partner in partners if partner != number]
        for patch in range(16):
            near = [sorted(1 - (f[number, patch] @ f[other].T).max() for other in others) for f in by_degree]
            wanted = np.mean([values[: max(1, round(share * len(others)))] for values in near])
            assert found[number, patch] == pytest.approx(wanted, abs=1e-5)


def test_scores_are_smoothed_over_like_images() -> None:
    embeddings, scores = np.random.default_rng(0).uniform(size=(6, 3)).astype(np.float32), np.arange(6.0) ** 2
    found = rescored(scores, embeddings, (1, 2, 4))
    for image, value in zip(embeddings, found, strict=True):
        alike = embeddings @ image
        order = np.argsort(-alike)
        means = [np.average(scores[order[:k]], weights=alike[order[:k]]) for k in (1, 2, 4)]
        assert value == pytest.approx(np.mean(means), rel=1e-6)
    np.testing.assert_array_equal(rescored(scores, embeddings, ()), scores)
    assert np.isfinite(rescored(scores, embeddings, (50,))).all()
