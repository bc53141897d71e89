"""AnomalyCLIP: what it can learn from, and what it learns."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelled_set import write_labelled_set
from short_fits import Workshop, noise
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip.learning import compute, training_records
from zeroflaw.errors import UsageError
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import Dataset, open_mvtec
from zeroflaw.towers.weights import load_backbone


@pytest.fixture(scope="module")
def auxiliary(workshop: Workshop) -> Dataset:
    found: Dataset = workshop.given("anomalyclip")["auxiliary"]
    return found


@pytest.mark.parametrize(("good", "flawed"), [(2, 0), (0, 2)])
def test_a_data_set_without_both_kinds(good: int, flawed: int, workshop: Workshop, tmp_path: Path) -> None:
    one_sided = open_mvtec(write_labelled_set(tmp_path, good=good, flawed=flawed))
    with pytest.raises(UsageError, match=f"has {2 * good} good and {2 * flawed} flawed ones"):
        workshop.make("anomalyclip").fit(auxiliary=one_sided)


def test_a_data_set_without_masks(workshop: Workshop, auxiliary: Dataset, tmp_path: Path) -> None:
    bare = open_mvtec(write_labelled_set(tmp_path, masks=False))
    with pytest.raises(UsageError, match=r"no flawed test image of '.*' has one.*focal_loss=false"):
        workshop.make("anomalyclip").fit(auxiliary=bare)
    for settings in ({"focal_loss": False, "dice_loss": False}, {"map_weight": 0.0}):
        assert workshop.make("anomalyclip", **settings).fit(auxiliary=bare).is_fitted
    category = auxiliary.categories[0]
    some = tuple(dataclasses.replace(r, mask=None) if "0" in r.image.name else r for r in category.test)
    mixed = Dataset("mixed", (dataclasses.replace(category, test=some),))
    assert [len(training_records(mixed, masks=masks)) for masks in (True, False)] == [5, 6]


def test_flaws_are_told_from_good_images(workshop: Workshop, auxiliary: Dataset) -> None:
    records = training_records(auxiliary, masks=True)
    flawed = np.array([record.label == 1 for record in records])

    def gap(rate: float) -> float:
        detector = workshop.fit("anomalyclip", epochs=25, learning_rate=rate)
        logits = np.array([p.logit for p in detector.predict([record.image for record in records])])
        return float(logits[flawed].mean() - logits[~flawed].mean())

    assert gap(0.02) > max(0.5, 2 * gap(1e-12))


def test_every_switch_changes_what_is_learned(workshop: Workshop) -> None:
    changes: dict[str, Any] = {
        "image_loss": False,
        "focal_loss": False,
        "dice_loss": False,
        "map_weight": 1.0,
        "focal_gamma": 0.5,
        "dice_smoothing": 100.0,
        "class_norm": True,
        "deep_depth": 1,
        "seed": 1,
        "batch_size": 5,
        "beta1": 0.9,
        "anomalous_words": "broken object.",
    }
    settings = [{}, *({name: value} for name, value in changes.items())]
    found = [workshop.fit("anomalyclip", epochs=1, **given).scorer_.head.weight for given in settings]
    assert all(np.abs(one - other).max() > 1e-5 for one, other in combinations(found, 2))


def test_only_the_prompts_are_learned(workshop: Workshop) -> None:
    detector = workshop.fit("anomalyclip")
    fresh = load_backbone(f"local-dir:{workshop.tiny}", device="cpu").model.state_dict()
    assert all(torch.equal(fresh[name], t) for name, t in detector.backbone_.model.state_dict().items())


def test_features_are_those_of_prediction_and_masks_lie_on_the_image(
    workshop: Workshop, auxiliary: Dataset
) -> None:
    detector = workshop.fit("anomalyclip", image_size=40)
    backbone, records = detector.resized(detector.backbone_), training_records(auxiliary, masks=True)
    found = compute(backbone, detector.path(backbone), records, maps=True, memory=1)
    row = next(number for number, record in enumerate(records) if record.label)
    good = next(number for number, record in enumerate(records) if not record.label)
    batch = found.rows(torch.tensor([row, good]), torch.device("cpu"))
    picture = read_image(records[row].image)
    one = detector.embed([picture], detector.request(True))
    np.testing.assert_allclose(batch.image[0], one.image[0], atol=1e-5)
    np.testing.assert_allclose(batch.patches[0, 0], one.layers[2][0], atol=1e-5)
    # The picture is 32 wide and 40 high, the network's input 40 x 40.
    red = Image.fromarray(picture[..., 0] > 200).convert("L").resize((40, 40), Image.Resampling.BILINEAR)
    assert (batch.masks[0].numpy() == (np.asarray(red) > 127)).mean() > 0.99
    assert 0 < batch.masks[0].float().mean() < 0.5
    assert not batch.masks[1].any()


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_extreme_temperatures_stay_finite(temperature: float, workshop: Workshop) -> None:
    detector = workshop.fit("anomalyclip", epochs=1, temperature=temperature)
    for found in detector.predict([np.zeros((1, 1, 3), dtype=np.uint8), *noise(1)], maps=True):
        assert np.isfinite(found.logit)
        assert ((found.map >= 0) & (found.map <= 1)).all()


def test_the_published_sizes_follow_from_the_published_backbone() -> None:
    towers = SimpleNamespace(vision=SimpleNamespace(layers=24), text=SimpleNamespace(layers=12))
    large: Any = SimpleNamespace(model=SimpleNamespace(config=towers))
    path = AnomalyCLIP().path(large)
    assert (path.blocks, path.layers, AnomalyCLIP().depth(large)) == (19, (24,), 9)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "1 epoch on 6 good and 6 flawed images of other products, from their labels and their masks"),
        ({"image_loss": False, "dice_loss": False}, "products, from their masks (focal loss)."),
        ({"map_weight": 0.0, "n_ctx": 5}, "\\[W4\\] \\[W5\\] damaged object.”,\nlearned in"),
        ({"deep_depth": 1}, "- Learned tokens: 12 before each prompt, 4 in each of 0 later text blocks\n"),
    ],
)
def test_the_model_card_says_what_was_learned_and_from_what(
    settings: dict[str, Any], says: str, workshop: Workshop
) -> None:
    assert says in workshop.fit("anomalyclip", epochs=1, **settings).card_
