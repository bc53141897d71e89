"""ACR: refusals, what decides a score and what does not, and what it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from short_fits import SMALL, Workshop, noise
from zeroflaw.detectors.acr import ACR, LiveNetwork, draw_tasks
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.records import Category, Dataset, Record
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures


def category(name: str, paths: list[Path]) -> Category:
    train = tuple(Record("shop", name, "train", 0, "good", None, path, None) for path in paths)
    return Category("shop", name, train, ())


@pytest.fixture(scope="module")
def fitted(workshop: Workshop) -> ACR:
    return workshop.fit("acr")


def test_a_small_batch_is_refused(fitted: ACR) -> None:
    left_out: list[ImageError] = []
    with pytest.raises(UsageError, match=r"by the batch it comes in .* at least 4 images .* got 3"):
        list(fitted.predict([*noise(3), b"no picture"], on_error=left_out.append))
    assert len(left_out) == 1
    assert len(list(fitted.predict(noise(4)))) == 4


def test_what_cannot_be_learned_from_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    bare = Dataset("shop", (category("bolt", [tmp_path / "a.png"]),))
    with pytest.raises(UsageError, match=r"at least 2 each, .* too few of bolt \(1\)"):
        ACR(backbone="local-dir:nowhere").fit(auxiliary=bare)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        workshop.make("acr").fit(auxiliary=Dataset("shop", (category("bar", paths),)))


def test_only_the_batch_decides_not_its_order_nor_how_it_is_cut(
    fitted: ACR, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = noise(10)
    first = [prediction.logit for prediction in fitted.predict(images)]
    order = [7, 2, 9, 0, 4, 1, 8, 3, 6, 5]
    for batch_size in (1, 3, 16):
        again = [p.logit for p in fitted.predict([images[i] for i in order], batch_size=batch_size)]
        np.testing.assert_allclose(again, [first[i] for i in order], atol=1e-4)
    among = [p.logit for p in fitted.predict([*images, *noise(5, seed=9)])]
    assert np.abs(np.subtract(first, among[:10])).max() > 0.01
    # Chunks of a multiple of 16 numbers get the same noise from the generator as all at once.
    monkeypatch.setattr("zeroflaw.detectors.acr._NUMBERS", 2 * 10 * 32 * 5)
    np.testing.assert_allclose([p.logit for p in fitted.predict(images)], first, atol=1e-4)


@pytest.mark.parametrize("last_gain", ["one", "uniform"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_odd_patch_among_equal_ones_is_found_where_it_is(
    seed: int, last_gain: str, workshop: Workshop
) -> None:
    usual: dict[str, Any] = {name: value for name, value in ACR().get_params().items() if name in SMALL}
    detector = workshop.fit("acr", **usual, seed=seed, last_gain=last_gain)
    network, generator = detector.scorer_.network, torch.Generator().manual_seed(seed)
    tokens = torch.randn(36, 32, generator=generator) + 0.3 * torch.randn(20, 36, 32, generator=generator)
    tokens[3, 6 * 4 + 1] = 3 * torch.randn(32, generator=generator)
    tokens = tokens * network.scale + network.mean
    features = ImageFeatures(np.zeros((20, 24), np.float32), (6, 6), layers={2: tokens.numpy()})
    found = detector.judge(features, [(20, 20)] * 20, maps=True)
    assert max(range(20), key=lambda image: found[image].logit) == 3
    assert np.unravel_index(found[3].map.argmax(), (6, 6)) == (4, 1)


def test_only_the_needed_block_is_asked_for(fitted: ACR, workshop: Workshop) -> None:
    assert fitted.request(maps=True) == fitted.request(maps=False) == FeatureRequest(layers=(2,))
    assert workshop.fit("acr", layer=1).request(True) == FeatureRequest(layers=(1,))


def test_at_most_so_many_images_of_a_product(workshop: Workshop) -> None:
    nuts = category("nut", [Path(f"{number}.png") for number in range(9)])

    def chosen(seed: int) -> list[Path]:
        return ACR(max_images=4)._choose(nuts, torch.Generator().manual_seed(seed))

    assert chosen(0) == sorted(set(chosen(0))) != chosen(1)
    assert len(chosen(0)) == 4
    for most, count in ((100, 6), (2, 4)):
        card = workshop.fit("acr", max_images=most).card_
        assert f"- Learned from: {count} good photos of 2 products\n" in card


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
    one, drawn = LiveNetwork((8, 6, 200)), LiveNetwork((8, 6, 200))
    one.draw(torch.Generator().manual_seed(0), "one")
    drawn.draw(torch.Generator().manual_seed(0), "uniform")
    assert torch.equal(one.linears[1], drawn.linears[1])
    assert torch.equal(one.centre, drawn.centre)
    assert torch.equal(one.gains[1], torch.ones(200))
    assert torch.equal(drawn.gains[0], torch.ones(6))
    gain = drawn.gains[1].detach()
    assert 0 <= float(gain.min()) < 0.1 < 0.9 < float(gain.max()) <= 1
