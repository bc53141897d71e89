"""AnomalyCLIP: what it refuses, what it learns, and that an interrupted fit ends like a whole one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelled_set import write_labelled_set
from zeroflaw import load
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip.learning import compute, digest, training_records
from zeroflaw.detectors.anomalyclip.detector import LocalScorer
from zeroflaw.errors import DetectorError, UsageError, WordsError
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import Dataset, open_mvtec
from zeroflaw.towers.weights import load_backbone

PICTURE = np.random.default_rng(3).integers(0, 256, (30, 44, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def auxiliary(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("auxiliary"), good=3, flawed=3)


@pytest.fixture
def new(tiny_backbone: Path) -> Callable[..., AnomalyCLIP]:
    """Make a detector on the tiny backbone."""
    return lambda **given: AnomalyCLIP(backbone=f"local-dir:{tiny_backbone}", **{"epochs": 2, **given})


def dataset(root: Path, **options: Any) -> Dataset:
    return open_mvtec(write_labelled_set(root, **options))


def changed(auxiliary: Dataset, **changes: Any) -> Dataset:
    """The same in one category, with changed records."""
    records = tuple(dataclasses.replace(record, **changes) for c in auxiliary for record in c.test)
    return Dataset("changed", (dataclasses.replace(auxiliary.categories[0], test=records),))


def learned(detector: AnomalyCLIP) -> dict[str, bytes]:
    assert detector.fitted_ is not None
    arrays = {**detector.fitted_.learned, **detector.scorer_.arrays()}
    return {name: array.tobytes() for name, array in arrays.items()}


class TestRefusals:
    @pytest.mark.parametrize(("good", "flawed"), [(2, 0), (0, 2)])
    def test_a_data_set_without_both_kinds(self, good: int, flawed: int, new: Any, tmp_path: Path) -> None:
        one_sided = dataset(tmp_path, good=good, flawed=flawed)
        with pytest.raises(UsageError, match=f"has {2 * good} good and {2 * flawed} flawed ones"):
            new().fit(auxiliary=one_sided)

    def test_a_data_set_without_masks(self, new: Any, tmp_path: Path) -> None:
        bare = dataset(tmp_path, masks=False)
        with pytest.raises(UsageError, match=r"no flawed test image of '.*' has one.*focal_loss=false"):
            new().fit(auxiliary=bare)
        for settings in ({"focal_loss": False, "dice_loss": False}, {"map_weight": 0.0}):
            assert new(**settings).fit(auxiliary=bare).is_fitted

    def test_features_that_take_too_much_memory(self, new: Any, auxiliary: Dataset) -> None:
        gone = changed(auxiliary, image=Path("gone.png"))  # whoever opens one fails otherwise
        with pytest.raises(UsageError, match=r"of 12 images would take 0.47 GiB.*feature_memory"):
            new(feature_memory=0.001, image_size=4096).fit(auxiliary=gone)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"image_size": 50}, "multiple of 8"),
            ({"value_blocks": 3}, "may have 1 to 2 blocks, got 3"),
            ({"map_layers": (1,), "value_blocks": 1}, "runs through the blocks 2 to 2"),
            ({"deep_depth": 3}, "deep tokens for at most 1 blocks"),
            ({"deep_tokens": 13}, "deep_tokens must be at most 12"),
            ({"n_ctx": 100}, "a prompt may have 77 tokens"),
            ({"interpolation": "nearest"}, "interpolation must be one of bicubic, bilinear"),
            ({"map_grid": "pixel"}, "map_grid must be one of patches, pixels"),
            ({"map_layers": (0,)}, "map_layers"),
            ({"image_loss": False, "map_weight": 0.0}, "at least one of image_loss"),
            ({"image_loss": False, "focal_loss": False, "dice_loss": False}, "at least one of image_loss"),
            ({"beta1": 1.0}, "beta1 must be a number from 0 to below 1"),
        ],
    )
    def test_parameters(self, settings: dict[str, Any], message: str, new: Any, auxiliary: Dataset) -> None:
        gone = changed(auxiliary, image=Path("gone.png"))
        with pytest.raises((UsageError, WordsError), match=message):
            new(**settings).fit(auxiliary=gone)


class TestLearning:
    def test_flaws_are_told_from_good_images(self, new: Any, auxiliary: Dataset) -> None:
        records = training_records(auxiliary, masks=True)
        flawed = np.array([record.label == 1 for record in records])

        def gap(rate: float) -> float:
            detector = new(epochs=25, learning_rate=rate).fit(auxiliary=auxiliary)
            logits = np.array([p.logit for p in detector.predict([record.image for record in records])])
            return float(logits[flawed].mean() - logits[~flawed].mean())

        assert gap(0.02) > max(0.5, 2 * gap(1e-12))

    def test_every_switch_changes_what_is_learned(self, new: Any, auxiliary: Dataset) -> None:
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
        fits = [new(epochs=1, **given).fit(auxiliary=auxiliary) for given in settings]
        found = [detector.scorer_.head.weight for detector in fits]
        assert all(np.abs(one - other).max() > 1e-5 for one, other in combinations(found, 2))

    def test_only_the_prompts_are_learned_and_no_global_state_moves(
        self, new: Any, auxiliary: Dataset, tiny_backbone: Path
    ) -> None:
        before = torch.get_rng_state()
        detector = new().fit(auxiliary=auxiliary)
        assert torch.equal(before, torch.get_rng_state())
        fresh = load_backbone(f"local-dir:{tiny_backbone}", device="cpu").model.state_dict()
        assert all(torch.equal(fresh[name], t) for name, t in detector.backbone_.model.state_dict().items())

    def test_flawed_images_without_a_mask_are_left_out(self, auxiliary: Dataset) -> None:
        category = auxiliary.categories[0]
        bare = tuple(dataclasses.replace(r, mask=None) if "0" in r.image.name else r for r in category.test)
        mixed = Dataset("mixed", (dataclasses.replace(category, test=bare),))
        assert [len(training_records(mixed, masks=masks)) for masks in (True, False)] == [5, 6]

    def test_features_are_those_of_prediction_and_masks_lie_on_the_image(
        self, new: Any, auxiliary: Dataset
    ) -> None:
        detector = new(image_size=40).fit(auxiliary=auxiliary)
        backbone, records = detector.resized(detector.backbone_), training_records(auxiliary, masks=True)
        found = compute(backbone, detector.path(backbone), records, maps=True, memory=1, progress=None)
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


class TestResume:
    @pytest.mark.parametrize("after", [1, 2])
    def test_an_interrupted_fit_ends_the_same(
        self, after: int, new: Any, auxiliary: Dataset, tmp_path: Path
    ) -> None:
        whole, path, seen = new(epochs=3).fit(auxiliary=auxiliary), tmp_path / "fit.checkpoint", []

        def stop(stage: str, done: int, total: int) -> None:
            if stage == "epochs" and done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            new(epochs=3).fit(auxiliary=auxiliary, checkpoint=path, progress=stop)
        again = new(epochs=3).fit(
            auxiliary=auxiliary, checkpoint=path, progress=lambda stage, done, _: seen.append((stage, done))
        )
        assert [done for stage, done in seen if stage == "epochs"] == list(range(after + 1, 4))
        assert learned(again) == learned(whole)

    def test_a_checkpoint_of_another_fit_is_refused_before_work(
        self, new: Any, auxiliary: Dataset, tmp_path: Path
    ) -> None:
        path, other = tmp_path / "fit.checkpoint", dataset(tmp_path / "other", good=4)
        new(epochs=1).fit(auxiliary=auxiliary, checkpoint=path)
        seen: list[str] = []
        for detector, data in ((new(epochs=1, seed=1), auxiliary), (new(epochs=1), other)):
            with pytest.raises(UsageError, match=r"other values of (seed|data);"):
                detector.fit(auxiliary=data, checkpoint=path, progress=lambda stage, *_: seen.append(stage))
        assert seen == []
        with pytest.raises(UsageError, match=r"gone\.png of the auxiliary data set cannot be read"):
            new().fit(auxiliary=changed(auxiliary, image=Path("gone.png")), checkpoint=path)

    def test_folders_of_masks_belong_to_the_data(self, auxiliary: Dataset, tmp_path: Path) -> None:
        before = digest(changed(auxiliary, mask=tmp_path).categories[0].test)
        (tmp_path / "0.png").write_bytes(b"a mask")
        assert digest(changed(auxiliary, mask=tmp_path).categories[0].test) != before


def test_features_are_shared_only_where_they_are_the_same(new: Any) -> None:
    path = {"image_size": 64, "value_blocks": 1, "map_layers": (2,), "class_norm": True}
    other = {**path, "interpolation": "bicubic", "dtype": "bfloat16"}
    keys = {new(**{name: value}).feature_key for name, value in other.items()}
    assert len(keys | {new().feature_key}) == 1 + len(other)
    assert new(sigma=1.0, seed=4, n_ctx=4, map_grid="pixels").feature_key == new().feature_key


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_extreme_temperatures_stay_finite(temperature: float, new: Any, auxiliary: Dataset) -> None:
    detector = new(epochs=1, temperature=temperature).fit(auxiliary=auxiliary)
    for found in detector.predict([np.zeros((1, 1, 3), dtype=np.uint8), PICTURE], maps=True):
        assert np.isfinite(found.logit)
        assert ((found.map >= 0) & (found.map <= 1)).all()


def test_the_published_sizes_follow_from_the_published_backbone(new: Any) -> None:
    towers = SimpleNamespace(vision=SimpleNamespace(layers=24), text=SimpleNamespace(layers=12))
    large: Any = SimpleNamespace(model=SimpleNamespace(config=towers))
    assert (new().path(large).blocks, new().path(large).layers, new().depth(large)) == (19, (24,), 9)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "1 epoch on 6 good and 6 flawed images of other products, from their labels and their masks"),
        ({"image_loss": False, "dice_loss": False}, "products, from their masks (focal loss)."),
        ({"map_weight": 0.0}, "products, from their labels."),
        ({"n_ctx": 5}, "[W4] [W5] damaged object."),
        ({"deep_depth": 1}, "- Learned tokens: 12 before each prompt, 4 in each of 0 later text blocks\n"),
    ],
)
def test_the_model_card_says_what_was_learned_and_from_what(
    settings: dict[str, Any], says: str, new: Any, auxiliary: Dataset
) -> None:
    assert says in new(epochs=1, **settings).fit(auxiliary=auxiliary).card_


def test_a_saved_scorer_must_fit_its_parameters(new: Any, auxiliary: Dataset, tmp_path: Path) -> None:
    detector = new(epochs=1).fit(auxiliary=auxiliary)
    detector.save(tmp_path / "detector")
    path = tmp_path / "detector" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "scorer": {**config["scorer"], "sigma": 1.0}}), encoding="utf-8")
    with pytest.raises(DetectorError, match="the saved scorer does not fit the parameters"):
        load(tmp_path / "detector")
    spec, arrays = detector.scorer_.spec(), detector.scorer_.arrays()
    with pytest.raises(DetectorError, match="one pair of prompts"):
        LocalScorer.read(spec, {name.replace("prompt", "head"): array for name, array in arrays.items()})
