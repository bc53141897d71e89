"""AnomalyCLIP: what it refuses, what it learns, and that an interrupted fit ends like a whole one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelled_set import write_labelled_set
from zeroflaw.detectors import anomalyclip_training
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip_features import compute, training_records
from zeroflaw.detectors.anomalyclip_training import Objective
from zeroflaw.errors import DatasetError, ImageError, UsageError, WordsError
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import Dataset, open_mvtec
from zeroflaw.towers.weights import load_backbone


@pytest.fixture(scope="module")
def auxiliary(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_mvtec(write_labelled_set(tmp_path_factory.mktemp("auxiliary"), good=3, flawed=3))


@pytest.fixture
def new(tiny_backbone: Path) -> Any:
    """Make a detector on the tiny backbone."""

    def make(**parameters: Any) -> AnomalyCLIP:
        return AnomalyCLIP(backbone=f"local-dir:{tiny_backbone}", **{"epochs": 2, **parameters})

    return make


def dataset(root: Path, **options: Any) -> Dataset:
    return open_mvtec(write_labelled_set(root, **options))


def state(detector: AnomalyCLIP) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in detector._state().items()}


class TestRefusals:
    def test_a_data_set_without_both_kinds(self, new: Any, tmp_path: Path) -> None:
        for name, (good, flawed) in {"a": (2, 0), "b": (0, 2)}.items():
            one_sided = dataset(tmp_path / name, good=good, flawed=flawed)
            with pytest.raises(UsageError, match=f"has {2 * good} good and {2 * flawed} flawed ones"):
                new().fit(auxiliary=one_sided)

    def test_a_data_set_without_masks(self, new: Any, tmp_path: Path) -> None:
        bare = dataset(tmp_path, masks=False)
        with pytest.raises(UsageError, match=r"no flawed test image of '.*' has one.*focal_loss=false"):
            new().fit(auxiliary=bare)
        for settings in ({"focal_loss": False, "dice_loss": False}, {"map_weight": 0}):
            assert new(**settings).fit(auxiliary=bare).is_fitted

    def test_no_data_set(self, new: Any) -> None:
        with pytest.raises(UsageError, match="needs a data set of other products"):
            new().fit()

    def test_features_that_take_too_much_memory(self, new: Any, auxiliary: Dataset) -> None:
        with pytest.raises(UsageError, match=r"of 12 images would take 0.30 GiB.*feature_memory"):
            new(feature_memory=0.001, image_size=4096).fit(auxiliary=_unreadable(auxiliary))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"image_size": 50}, "multiple of 8"),
            ({"value_blocks": 3}, "may have 1 to 2 blocks, got 3"),
            ({"map_layers": (1,), "value_blocks": 1}, "runs through the blocks 2 to 2"),
            ({"deep_depth": 3}, "deep_depth may be at most 2"),
            ({"deep_tokens": 13}, "deep_tokens must be a whole number from 1 to 12"),
            ({"n_ctx": 100}, "a prompt may have 77 tokens"),
            ({"interpolation": "nearest"}, "interpolation must be one of bicubic, bilinear"),
            ({"image_loss": False, "map_weight": 0}, "at least one of image_loss"),
            ({"image_loss": False, "focal_loss": False, "dice_loss": False}, "at least one of image_loss"),
            ({"temperature": 0}, "temperature must be a number from"),
            ({"beta1": 1.0}, "beta1 must be a number from"),
            ({"epochs": 0}, "epochs must be a whole number"),
            ({"sigma": -1}, "sigma must be a number"),
        ],
    )
    def test_parameters(self, settings: dict[str, Any], message: str, new: Any, auxiliary: Dataset) -> None:
        seen: list[str] = []
        with pytest.raises(UsageError, match=message):
            new(**settings).fit(auxiliary=auxiliary, progress=lambda stage, *_: seen.append(stage))
        assert seen == []

    def test_words_that_do_not_fit(self, new: Any, auxiliary: Dataset) -> None:
        with pytest.raises(WordsError, match="a prompt may be 77 tokens long"):
            new(anomalous_words="damaged " * 80).fit(auxiliary=auxiliary)

    def test_a_broken_image_and_a_mask_of_other_proportions(self, new: Any, tmp_path: Path) -> None:
        broken = dataset(tmp_path)
        mask = broken.categories[0].test[0].mask or broken.categories[0].test[-1].mask
        assert mask is not None
        Image.fromarray(np.ones((7, 90), dtype=np.uint8)).save(mask)
        with pytest.raises(DatasetError, match="should fit an image of 32 x 40"):
            new().fit(auxiliary=broken)
        broken.categories[0].test[0].image.write_bytes(b"no picture")
        with pytest.raises(ImageError):
            new().fit(auxiliary=broken)


def _unreadable(auxiliary: Dataset) -> Dataset:
    """The same records, with images that do not exist: whoever opens one fails otherwise."""
    category = auxiliary.categories[0]
    records = tuple(
        dataclasses.replace(record, image=Path("gone.png")) for c in auxiliary for record in c.test
    )
    return Dataset(auxiliary.name, (dataclasses.replace(category, test=records),))


class TestLearning:
    def test_a_loss_falls_and_what_was_seen_is_kept(
        self, new: Any, auxiliary: Dataset, tmp_path: Path
    ) -> None:
        detector = new(epochs=25, learning_rate=0.02).fit(auxiliary=auxiliary)
        before, after = (
            self._loss(new(epochs=1, learning_rate=1e-12), auxiliary),
            self._loss(detector, auxiliary),
        )
        assert after < 0.8 * before
        records = training_records(auxiliary, masks=True)
        scores = [p.logit for p in detector.predict([record.image for record in records])]
        flawed = [s for s, record in zip(scores, records, strict=True) if record.label]
        good = [s for s, record in zip(scores, records, strict=True) if not record.label]
        assert np.mean(flawed) > np.mean(good)
        assert detector.seen_["auxiliary"]["categories"].keys() == {"cup", "lid"}
        assert "25 epochs on 6 good and 6 flawed images" in detector.model_card()
        assert "[W12] damaged object." in detector.model_card()

    @staticmethod
    def _loss(detector: AnomalyCLIP, auxiliary: Dataset) -> float:
        if not detector.is_fitted:
            detector.fit(auxiliary=auxiliary)
        backbone = detector.backbone_
        records = training_records(auxiliary, masks=True)
        found = compute(backbone, detector.path(backbone), records, maps=True, memory=1, progress=None)
        assert detector.text_ is not None
        terms = Objective(0.07, True, True, True, 4.0, 2.0, 1e-5, 1.0).terms(
            detector.text_, found.rows(torch.arange(len(found)))
        )
        return float(sum(terms.values()))

    def test_every_switch_changes_what_is_learned(self, new: Any, auxiliary: Dataset) -> None:
        changes: list[dict[str, Any]] = [
            {},
            {"image_loss": False},
            {"focal_loss": False},
            {"dice_loss": False},
            {"map_weight": 1.0},
            {"focal_gamma": 0.5},
            {"dice_smoothing": 100.0},
            {"class_norm": True},
            {"deep_depth": 1},
            {"seed": 1},
            {"batch_size": 5},
            {"beta1": 0.9},
            {"anomalous_words": "broken object."},
        ]
        found = [state(new(epochs=1, **change).fit(auxiliary=auxiliary))["text"] for change in changes]
        assert len(set(found)) == len(changes)

    def test_only_the_prompts_are_learned_and_no_global_state_moves(
        self, new: Any, auxiliary: Dataset, tiny_backbone: Path
    ) -> None:
        before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        detector = new().fit(auxiliary=auxiliary)
        assert torch.equal(before, torch.get_rng_state())
        assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002
        fresh = load_backbone(f"local-dir:{tiny_backbone}", device="cpu").model.state_dict()
        assert all(torch.equal(fresh[name], t) for name, t in detector.backbone_.model.state_dict().items())

    def test_flawed_images_without_a_mask_are_left_out(self, auxiliary: Dataset) -> None:
        category = auxiliary.categories[0]
        bare = tuple(dataclasses.replace(r, mask=None) if "0" in r.image.name else r for r in category.test)
        mixed = Dataset("mixed", (dataclasses.replace(category, test=bare),))
        assert len(training_records(mixed, masks=True)) == 5
        assert len(training_records(mixed, masks=False)) == 6

    def test_features_are_those_of_prediction_and_masks_lie_on_the_image(
        self, new: Any, auxiliary: Dataset
    ) -> None:
        detector = new(image_size=40).fit(auxiliary=auxiliary)
        backbone = detector.sized(detector.backbone_)
        records = training_records(auxiliary, masks=True)
        found = compute(backbone, detector.path(backbone), records, maps=True, memory=1, progress=None)
        row = next(number for number, record in enumerate(records) if record.label)
        batch = found.rows(torch.tensor([row, 0]))
        picture = read_image(records[row].image)
        one = detector.embed([picture], detector.request(True))
        assert torch.equal(batch.image[0], one.image[0])
        assert torch.equal(batch.patches[0, 0], one.patches[0])
        red = picture[..., 0] > 200  # the picture is 32 wide and 40 high, the network's input 40 x 40
        wanted = (
            np.asarray(Image.fromarray(red).convert("L").resize((40, 40), Image.Resampling.BILINEAR)) > 127
        )
        assert (batch.masks[0].numpy() == wanted).mean() > 0.99
        assert 0 < batch.masks[0].float().mean() < 0.5
        assert not batch.masks[1].any() or records[0].label == 1


class TestResume:
    @pytest.mark.parametrize("after", [1, 2])
    def test_an_interrupted_fit_ends_the_same(
        self, after: int, new: Any, auxiliary: Dataset, tmp_path: Path
    ) -> None:
        whole = new(epochs=3).fit(auxiliary=auxiliary)
        path = tmp_path / "fit.checkpoint"

        def stop(stage: str, done: int, total: int) -> None:
            if stage == "epochs" and done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            new(epochs=3).fit(auxiliary=auxiliary, checkpoint=path, progress=stop)
        seen: list[int] = []
        again = new(epochs=3).fit(
            auxiliary=auxiliary,
            checkpoint=path,
            progress=lambda stage, done, _: seen.append(done) if stage == "epochs" else None,
        )
        assert seen == list(range(after + 1, 4))
        assert state(again) == state(whole)
        assert state(new(epochs=3).fit(auxiliary=auxiliary, checkpoint=path)) == state(whole)

    def test_a_checkpoint_of_another_fit_is_refused_before_work(
        self, new: Any, auxiliary: Dataset, tmp_path: Path
    ) -> None:
        path = tmp_path / "fit.checkpoint"
        new(epochs=1).fit(auxiliary=auxiliary, checkpoint=path)
        seen: list[str] = []
        other = dataset(tmp_path / "other", good=4)
        for detector, data in ((new(epochs=1, seed=1), auxiliary), (new(epochs=1), other)):
            with pytest.raises(UsageError, match=r"other values of (parameters|data)"):
                detector.fit(auxiliary=data, checkpoint=path, progress=lambda stage, *_: seen.append(stage))
        assert seen == []

    def test_a_loss_that_is_no_number_stops_and_leaves_the_last_checkpoint(
        self, new: Any, auxiliary: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, kept = tmp_path / "fit.checkpoint", []

        def spoil(stage: str, done: int, total: int) -> None:
            if stage == "epochs":
                kept.append(path.read_bytes())
                monkeypatch.setattr(anomalyclip_training, "dice_loss", lambda *_: torch.tensor(float("nan")))

        with pytest.raises(UsageError, match=r"stopped at step 3: .*focal [\d.]+, dice nan; seed 7\)"):
            new(epochs=3, seed=7).fit(auxiliary=auxiliary, checkpoint=path, progress=spoil)
        assert [path.read_bytes()] == kept


def test_features_are_shared_only_where_they_are_the_same(new: Any) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"image_size": 64},
        {"value_blocks": 1},
        {"map_layers": (2,)},
        {"class_norm": True},
        {"interpolation": "bicubic"},
        {"dtype": "bfloat16"},
    ]
    keys = [new(**change).share_key for change in changes]
    assert len(set(keys)) == len(changes)
    assert new(sigma=1.0, seed=4, n_ctx=3).share_key == keys[0]


def test_extreme_temperatures_stay_finite(new: Any, auxiliary: Dataset) -> None:
    pictures = [np.zeros((1, 1, 3), dtype=np.uint8), np.full((9, 30, 3), 255, dtype=np.uint8)]
    for temperature in (1e-6, 1e6):
        detector = new(epochs=1, temperature=temperature).fit(auxiliary=auxiliary)
        for found in detector.predict(pictures, maps=True):
            assert np.isfinite(found.logit)
            assert found.map is not None
            assert ((found.map >= 0) & (found.map <= 1)).all()


def test_the_published_sizes_follow_from_the_published_backbone(new: Any, tiny_backbone: Path) -> None:
    backbone = load_backbone(f"local-dir:{tiny_backbone}", device="cpu")
    assert (new().path(backbone).blocks, new().shape(backbone).depth) == (2, 2)
    config = backbone.model.config
    vision, text = dataclasses.replace(config.vision, layers=24), dataclasses.replace(config.text, layers=12)
    large = dataclasses.replace(backbone)
    large.model = _Shape(dataclasses.replace(config, vision=vision, text=text))  # type: ignore[assignment]
    assert (new().path(large).blocks, new().shape(large).depth) == (19, 9)


@dataclasses.dataclass
class _Shape:
    config: Any


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "flawed images of other products, from their labels and their masks (focal and Dice loss)."),
        ({"image_loss": False, "dice_loss": False}, "products, from their masks (focal loss)."),
        ({"map_weight": 0}, "products, from their labels."),
        ({"deep_depth": 1}, "- Learned tokens: 12 before each prompt, none in later text blocks\n"),
        ({"deep_depth": 2}, "- Learned tokens: 12 before each prompt, 4 in the text block 2\n"),
    ],
)
def test_the_model_card_says_what_was_learned_and_from_what(
    settings: dict[str, Any], says: str, new: Any, auxiliary: Dataset
) -> None:
    assert says in new(epochs=1, **settings).fit(auxiliary=auxiliary).model_card()
