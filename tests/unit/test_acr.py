"""ACR: refusals, what decides a score and what does not, and which features it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroflaw import load
from zeroflaw.detectors import make
from zeroflaw.detectors.acr import ACR
from zeroflaw.detectors.acr_training import LiveNetwork, Training, draw_tasks, train_network
from zeroflaw.errors import DetectorError, ImageError, UsageError
from zeroflaw.lab.datasets import Category, Dataset, Record, open_normals
from zeroflaw.towers.model import ImageFeatures

SHORT: dict[str, Any] = {"iterations": 2, "tasks": 3, "shots": 4, "depth": 2, "out": 6, "min_batch": 4}


def pictures(number: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(number)]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("products")
    for seed, name in enumerate(("bar", "disc")):
        (root / name).mkdir()
        for number, picture in enumerate(pictures(3, seed)):
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return open_normals(root)


@pytest.fixture(scope="module")
def fitted(products: Dataset, tiny_backbone: Path) -> ACR:
    detector = make("acr", backbone=f"local-dir:{tiny_backbone}", **SHORT).fit(auxiliary=products)
    assert isinstance(detector, ACR)
    return detector


class TestRefusals:
    def test_a_small_batch(self, fitted):
        with pytest.raises(UsageError, match=r"by the batch it comes in .* at least 4 images .* got 3"):
            list(fitted.predict(pictures(3)))
        assert len(list(fitted.predict(pictures(4)))) == 4

    def test_a_batch_that_unreadable_images_make_too_small(self, fitted):
        left_out: list[ImageError] = []
        with pytest.raises(UsageError, match="got 3"):
            list(fitted.predict([*pictures(3), b"no picture"], on_error=left_out.append))
        assert len(left_out) == 1

    def test_no_auxiliary_set(self):
        with pytest.raises(UsageError, match="--auxiliary"):
            make("acr", backbone="local-dir:nowhere").fit()

    def test_reference_images_are_of_no_use(self, products):
        with pytest.raises(UsageError, match="no use for reference"):
            make("acr").fit(auxiliary=products, reference=pictures(1))

    def test_a_product_without_good_images_before_any_work(self, products):
        bare = Category("shop", "bolt", products.categories[0].train[:1], ())
        both = Dataset("shop", (bare, *products.categories))
        with pytest.raises(UsageError, match=r"at least 2 each, .* too few of bolt \(1\)"):
            make("acr", backbone="local-dir:nowhere").fit(auxiliary=both)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("layer", -1),
            ("layer", 1.5),
            ("standardize", "batch"),
            ("depth", 0),
            ("out", 0),
            ("noise", 0.0),
            ("shots", 1),
            ("tasks", 0),
            ("iterations", 0),
            ("learning_rate", 2.0),
            ("max_images", 1),
            ("sigma", -0.1),
            ("min_batch", 1),
        ],
    )
    def test_parameters_out_of_range(self, name, value, products):
        with pytest.raises(UsageError, match=name):
            make("acr", **{name: value}).fit(auxiliary=products)

    def test_a_block_that_the_backbone_does_not_have(self, products, tiny_backbone):
        with pytest.raises(UsageError, match="from 1 to 2, or 0 for the default, got 3"):
            make("acr", backbone=f"local-dir:{tiny_backbone}", layer=3).fit(auxiliary=products)

    def test_an_image_that_cannot_be_read_is_named(self, tmp_path, tiny_backbone):
        (tmp_path / "bar").mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / "bar" / name).write_bytes(b"no picture")
        with pytest.raises(ImageError, match=r"a\.png"):
            make("acr", backbone=f"local-dir:{tiny_backbone}", **SHORT).fit(auxiliary=open_normals(tmp_path))

    def test_a_loss_that_is_no_number(self):
        features = [torch.full((3, 2, 8), float("nan"))]
        how = Training(iterations=2, tasks=1, shots=3, noise=0.1, learning_rate=1e-3, seed=9)
        with pytest.raises(UsageError, match=r"stopped at step 0: .*normal nan.*seed 9"):
            train_network(LiveNetwork((8, 4, 4)), features, how)

    def test_tensors_of_other_shapes(self, fitted):
        tensors = {name: value for name, value in fitted._state().items() if name != "centre"}
        with pytest.raises(DetectorError, match="centre"):
            fitted._restore(tensors)


class TestPrediction:
    def test_order_and_batch_size_do_not_matter(self, fitted):
        images = pictures(10)
        first = [prediction.logit for prediction in fitted.predict(images)]
        order = [7, 2, 9, 0, 4, 1, 8, 3, 6, 5]
        for batch_size in (1, 3, 16):
            again = [p.logit for p in fitted.predict([images[i] for i in order], batch_size=batch_size)]
            np.testing.assert_allclose(again, [first[i] for i in order], atol=1e-4)

    def test_the_batch_does_matter(self, fitted):
        images, others = pictures(5), pictures(5, seed=9)
        alone = [prediction.logit for prediction in fitted.predict(images)]
        among = [prediction.logit for prediction in fitted.predict([*images, *others])][:5]
        assert max(abs(a - b) for a, b in zip(alone, among, strict=True)) > 0.01

    def test_log_odds_are_those_of_the_largest_value_of_the_map(self, fitted):
        for prediction in fitted.predict(pictures(6), maps=True):
            assert prediction.map is not None
            assert float(prediction.map.max()) == pytest.approx(prediction.score, abs=1e-6)
            assert prediction.scores == {"distance": prediction.score}

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_an_odd_patch_among_equal_ones_is_found_where_it_is(self, seed, products, tiny_backbone):
        detector = make("acr", backbone=f"local-dir:{tiny_backbone}", seed=seed).fit(auxiliary=products)
        assert isinstance(detector, ACR)
        generator = torch.Generator().manual_seed(seed)
        places = torch.randn(36, 32, generator=generator)
        tokens = places + 0.3 * torch.randn(20, 36, 32, generator=generator)
        tokens[3, 6 * 4 + 1] = 3 * torch.randn(32, generator=generator)
        tokens = tokens * detector.scale_ + detector.mean_
        features = ImageFeatures(torch.zeros(20, 24), (6, 6), layers={2: tokens})
        found = detector.predict_features(features, detector.request(True), [(20, 20)] * 20, maps=True)
        assert max(range(20), key=lambda image: found[image].logit) == 3
        odd = found[3].map
        assert odd is not None
        assert np.unravel_index(odd.argmax(), odd.shape) == (4, 1)

    def test_only_the_needed_block_is_kept(self, fitted):
        request = fitted.request(maps=True)
        assert (request.layers, request.patches, request.windows) == ((2,), False, ())
        features = fitted.backbone_.embed_images(pictures(2), layers=(1, 2), patches=True)
        kept = fitted.keep(features)
        assert (set(kept.layers), kept.patches) == ({2}, None)

    def test_positions_that_do_not_fit_into_memory_at_once(self, fitted, monkeypatch):
        images = pictures(6)
        first = [prediction.logit for prediction in fitted.predict(images)]
        monkeypatch.setattr("zeroflaw.detectors.acr._NUMBERS", 2 * 6 * 32 * 5)
        again = [prediction.logit for prediction in fitted.predict(images)]
        # Chunks of a multiple of 16 numbers get the same noise from the generator as all at once.
        np.testing.assert_allclose(again, first, atol=1e-4)

    def test_a_batch_without_any_difference(self, fitted):
        same = [np.full((20, 20, 3), 77, dtype=np.uint8)] * 4
        logits = [prediction.logit for prediction in fitted.predict(same)]
        assert np.isfinite(logits).all()
        assert max(logits) - min(logits) < 1e-5


class TestFit:
    def test_loaded_with_other_numbers_it_is_the_same(self, fitted, tmp_path):
        fitted.save(tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        for name, tensor in fitted._state().items():
            assert torch.equal(loaded._state()[name], tensor)
        card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
        assert "at least 4 of them in one batch" in " ".join(card.split())
        assert "(bar, disc)" in card

    def test_the_model_card_counts_the_photos_it_learned_from(self, products, tiny_backbone):
        whole = sum(len(category.train) for category in products)
        backbone = f"local-dir:{tiny_backbone}"
        for most, count in ((100, whole), (2, 2 * len(products.categories))):
            detector = ACR(backbone=backbone, iterations=1, max_images=most).fit(auxiliary=products)
            assert (
                f"- Learned from: {count} good photos of {len(products.categories)} products\n"
                in detector.model_card()
            )

    def test_global_randomness_is_left_alone(self, products, tiny_backbone):
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        detector = make("acr", backbone=f"local-dir:{tiny_backbone}", **SHORT).fit(auxiliary=products)
        list(detector.predict(pictures(4)))
        assert torch.equal(before, torch.random.get_rng_state())

    def test_progress_tells_both_stages_to_their_end(self, products, tiny_backbone):
        told: list[tuple[str, int, int]] = []
        make("acr", backbone=f"local-dir:{tiny_backbone}", **SHORT).fit(
            auxiliary=products, progress=lambda *step: told.append(step)
        )
        assert ("embedding", 6, 6) in told
        assert told[-1] == ("training", 2, 2)

    def test_at_most_so_many_images_of_a_product(self):
        records = tuple(
            Record("shop", "nut", "train", 0, "good", None, Path(f"{n}.png"), None) for n in range(9)
        )
        category = Category("shop", "nut", records, ())

        def chosen(seed: int) -> list[Path]:
            return ACR(max_images=4)._choose(category, torch.Generator().manual_seed(seed))

        assert len(chosen(0)) == 4
        assert chosen(0) == sorted(set(chosen(0)))
        assert chosen(0) == chosen(0) != chosen(1)

    def test_tasks_are_one_position_of_one_product(self):
        # The number of product, image and position is written into each feature.
        parts = [
            torch.tensor([[[p, i, at] for at in range(3)] for i in range(images)], dtype=torch.float32)
            for p, images in enumerate((8, 2))
        ]
        tasks = list(draw_tasks(parts, 40, 5, torch.Generator().manual_seed(0)))
        seen = set()
        for task in tasks:
            assert task.shape == (5, 3)
            product, images, position = task.T
            assert len(set(product.tolist())) == len(set(position.tolist())) == 1
            seen.add((float(product[0]), float(position[0])))
            if product[0] == 0:
                assert len(set(images.tolist())) == 5  # enough images: none twice
        assert len(seen) == 6

    def test_training_draws_normal_rows_to_the_centre_and_noisy_ones_away(self):
        generator = torch.Generator().manual_seed(0)
        features = [torch.randn(20, 4, 1, generator=generator) @ torch.ones(1, 8) for _ in range(3)]
        how = Training(iterations=60, tasks=8, shots=15, noise=1.0, learning_rate=1e-2, seed=0)
        network = LiveNetwork((8, 8, 8, 8))
        train_network(network, features, how)
        fresh = torch.randn(30, 1, 1, generator=generator) @ torch.ones(1, 8)
        noisy = fresh + torch.randn(fresh.shape, generator=generator)
        with torch.no_grad():
            distances = network.distances(torch.cat([fresh, noisy]).transpose(0, 1))[0]
        assert distances[30:].mean() > 2 * distances[:30].mean()
