"""ACR: refusals, what decides a score and what does not, and what is saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroflaw.detectors import make
from zeroflaw.detectors.acr import ACR, ACRScorer, LiveNetwork, draw_tasks
from zeroflaw.errors import DetectorError, ImageError, UsageError
from zeroflaw.records import Category, Dataset, Record
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.folder import SavedDetector, read_folder

SHORT: dict[str, Any] = {"iterations": 2, "tasks": 3, "shots": 4, "depth": 2, "out": 6, "min_batch": 4}


def pictures(number: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(number)]


def category(name: str, paths: list[Path]) -> Category:
    train = tuple(Record("shop", name, "train", 0, "good", None, path, None) for path in paths)
    return Category("shop", name, train, ())


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three pictures of each of two products."""
    root, found = tmp_path_factory.mktemp("products"), []
    for seed, name in enumerate(("bar", "disc")):
        paths = [root / f"{name}-{number}.png" for number in range(3)]
        for path, picture in zip(paths, pictures(3, seed), strict=True):
            Image.fromarray(picture).save(path)
        found.append(category(name, paths))
    return Dataset("shop", tuple(found))


def fit(backbone: Path, auxiliary: Dataset, **settings: Any) -> ACR:
    return ACR(backbone=f"local-dir:{backbone}", **{**SHORT, **settings}).fit(auxiliary=auxiliary)


def scorer(detector: ACR) -> ACRScorer:
    assert isinstance(detector.scorer_, ACRScorer)
    return detector.scorer_


@pytest.fixture(scope="module")
def fitted(products: Dataset, tiny_backbone: Path) -> ACR:
    return fit(tiny_backbone, products)


# --- refusals


def test_a_small_batch_is_refused(fitted: ACR) -> None:
    with pytest.raises(UsageError, match=r"by the batch it comes in .* at least 4 images .* got 3"):
        list(fitted.predict(pictures(3)))
    left_out: list[ImageError] = []
    with pytest.raises(UsageError, match="got 3"):
        list(fitted.predict([*pictures(3), b"no picture"], on_error=left_out.append))
    assert len(left_out) == 1
    assert len(list(fitted.predict(pictures(4)))) == 4


def test_what_cannot_be_learned_from_is_refused_before_any_work(products: Dataset, tmp_path: Path) -> None:
    detector = ACR(backbone="local-dir:nowhere")
    with pytest.raises(UsageError, match="--auxiliary"):
        detector.fit()
    with pytest.raises(UsageError, match="does not use reference"):
        detector.fit(auxiliary=products, reference=pictures(1))
    bare = Dataset("shop", (category("bolt", [tmp_path / "a.png"]), *products))
    with pytest.raises(UsageError, match=r"at least 2 each, .* too few of bolt \(1\)"):
        detector.fit(auxiliary=bare)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer", 1.5),
        ("standardize", "batch"),
        ("last_gain", "zero"),
        ("noise", 0.0),
        ("shots", 1),
        ("max_images", 1),
        ("min_batch", 1),
    ],
)
def test_parameters_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be"):
        make("acr", **{name: value})


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, tiny_backbone: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        fit(tiny_backbone, Dataset("shop", (category("bar", paths),)))


def test_a_loss_that_is_no_number() -> None:
    features = [torch.full((3, 2, 8), float("nan"))]
    with pytest.raises(UsageError, match=r"stopped at step 1: .*normal nan.*seed 9"):
        ACR(seed=9, **SHORT)._train(features, (8, 4, 4), None)


# --- prediction


def test_order_and_batch_size_do_not_matter(fitted: ACR) -> None:
    images = pictures(10)
    first = [prediction.logit for prediction in fitted.predict(images)]
    order = [7, 2, 9, 0, 4, 1, 8, 3, 6, 5]
    for batch_size in (1, 3, 16):
        again = [p.logit for p in fitted.predict([images[i] for i in order], batch_size=batch_size)]
        np.testing.assert_allclose(again, [first[i] for i in order], atol=1e-4)


def test_the_batch_does_matter(fitted: ACR) -> None:
    images, others = pictures(5), pictures(5, seed=9)
    alone = [prediction.logit for prediction in fitted.predict(images)]
    among = [prediction.logit for prediction in fitted.predict([*images, *others])][:5]
    assert max(abs(a - b) for a, b in zip(alone, among, strict=True)) > 0.01


@pytest.mark.parametrize("last_gain", ["one", "uniform"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_odd_patch_among_equal_ones_is_found_where_it_is(
    seed: int, last_gain: str, products: Dataset, tiny_backbone: Path
) -> None:
    usual = {name: getattr(ACR(), name) for name in SHORT}
    detector = fit(tiny_backbone, products, **usual, seed=seed, last_gain=last_gain)
    network = scorer(detector).network
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(36, 32, generator=generator) + 0.3 * torch.randn(20, 36, 32, generator=generator)
    tokens[3, 6 * 4 + 1] = 3 * torch.randn(32, generator=generator)
    tokens = tokens * network.scale + network.mean
    features = ImageFeatures(np.zeros((20, 24), np.float32), (6, 6), layers={2: tokens.numpy()})
    found = detector.judge(features, [(20, 20)] * 20, maps=True)
    assert max(range(20), key=lambda image: found[image].logit) == 3
    odd = found[3].map
    assert odd is not None
    assert np.unravel_index(odd.argmax(), odd.shape) == (4, 1)


def test_only_the_needed_block_is_asked_for(fitted: ACR, tiny_backbone: Path, products: Dataset) -> None:
    assert fitted.request(maps=True) == fitted.request(maps=False) == FeatureRequest(layers=(2,))
    assert fit(tiny_backbone, products, layer=1).request(True) == FeatureRequest(layers=(1,))


def test_positions_that_do_not_fit_into_memory_at_once(fitted: ACR, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(6)
    first = [prediction.logit for prediction in fitted.predict(images)]
    monkeypatch.setattr("zeroflaw.detectors.acr._NUMBERS", 2 * 6 * 32 * 5)
    again = [prediction.logit for prediction in fitted.predict(images)]
    # Chunks of a multiple of 16 numbers get the same noise from the generator as all at once.
    np.testing.assert_allclose(again, first, atol=1e-4)


# --- fit


def test_progress_and_global_randomness(products: Dataset, tiny_backbone: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    told: list[tuple[str, int, int]] = []
    detector = ACR(backbone=f"local-dir:{tiny_backbone}", **SHORT)
    detector.fit(auxiliary=products, progress=lambda *step: told.append(step))
    list(detector.predict(pictures(4)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert ("embedding", 6, 6) in told
    assert told[-1] == ("training", 2, 2)


def test_at_most_so_many_images_of_a_product() -> None:
    nuts = category("nut", [Path(f"{number}.png") for number in range(9)])

    def chosen(seed: int) -> list[Path]:
        return ACR(max_images=4)._choose(nuts, torch.Generator().manual_seed(seed))

    assert len(chosen(0)) == 4
    assert chosen(0) == sorted(set(chosen(0)))
    assert chosen(0) == chosen(0) != chosen(1)


def test_the_model_card_counts_the_photos_it_learned_from(products: Dataset, tiny_backbone: Path) -> None:
    for most, count in ((100, 6), (2, 4)):
        card = fit(tiny_backbone, products, max_images=most).card_
        assert f"- Learned from: {count} good photos of 2 products\n" in card
        assert "at least 4 of them in one batch" in card
        assert "(bar, disc)" in card


def test_tasks_are_one_position_of_one_product() -> None:
    # The number of product, image and position is written into each feature.
    parts = [
        torch.tensor([[[p, i, at] for at in range(3)] for i in range(images)], dtype=torch.float32)
        for p, images in enumerate((8, 2))
    ]
    seen = set()
    for task in draw_tasks(parts, 40, 5, torch.Generator().manual_seed(0)):
        assert task.shape == (5, 3)
        product, images, position = task.T
        assert len(set(product.tolist())) == len(set(position.tolist())) == 1
        seen.add((float(product[0]), float(position[0])))
        if product[0] == 0:
            assert len(set(images.tolist())) == 5  # enough images: none twice
    assert len(seen) == 6


def test_the_last_gain_may_be_drawn_as_the_authors_do() -> None:
    networks = [LiveNetwork((8, 6, 200)), LiveNetwork((8, 6, 200))]
    for network, last_gain in zip(networks, ("one", "uniform"), strict=True):
        network.draw(torch.Generator().manual_seed(0), last_gain)  # type: ignore[arg-type]
    one, drawn = networks
    assert torch.equal(one.linears[1], drawn.linears[1])
    assert torch.equal(one.centre, drawn.centre)
    assert torch.equal(one.gains[1], torch.ones(200))
    assert torch.equal(drawn.gains[0], torch.ones(6))
    gain = drawn.gains[1].detach()
    assert 0 <= float(gain.min()) < 0.1 < 0.9 < float(gain.max()) <= 1


# --- saving


@pytest.fixture
def saved(fitted: ACR, tmp_path: Path) -> SavedDetector:
    fitted.save(tmp_path / "saved")
    return read_folder(tmp_path / "saved")


def test_a_loaded_detector_has_the_same_numbers(fitted: ACR, saved: SavedDetector) -> None:
    loaded = ACR.from_saved(saved)
    assert scorer(loaded).choices == scorer(fitted).choices
    for name, array in scorer(fitted).arrays().items():
        np.testing.assert_array_equal(scorer(loaded).arrays()[name], array)


@pytest.mark.parametrize("damage", ["missing", "more", "shape", "type"])
def test_arrays_of_another_network_are_refused(damage: str, saved: SavedDetector) -> None:
    arrays = saved.arrays
    if damage == "missing":
        del arrays["centre"]
    elif damage == "more":
        arrays["gains.9"] = np.ones(6, np.float32)
    else:
        arrays["centre"] = np.ones(5, np.float32) if damage == "shape" else np.ones(6, np.int64)
    with pytest.raises(DetectorError, match="does not hold the network that"):
        ACR.from_saved(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"widths": [10**6] * 7}, "does not hold the network that"),
        ({"widths": [32]}, "widths must be"),
        ({"block": 1}, "does not fit the parameters and"),
        ({"noise": 0.0}, "noise must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_choices_that_do_not_fit_are_refused(change: dict[str, Any], says: str, saved: SavedDetector) -> None:
    with pytest.raises(DetectorError, match=says):
        ACR.from_saved(dataclasses.replace(saved, scorer={**saved.scorer, **change}))
