"""WinCLIP and WinCLIP+: words, switches, tiles, memories and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from conftest import random_model, tiny_config
from short_fits import Workshop, noise
from zeroflaw.detectors.winclip import WinCLIPPlus, prototype_head
from zeroflaw.errors import UsageError
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.tiles import MOST, Tiles
from zeroflaw.runtime.winclip import distances
from zeroflaw.towers.weights import load_backbone
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21


def differ(one: Any, other: Any) -> float:
    """Return how far log-odds or maps of two detectors lie apart, a changed shape being far."""
    far = 0.0
    for a, b in zip(*(list(d.predict(noise(3, (40, 56)), maps=True)) for d in (one, other)), strict=True):
        if a.map.shape != b.map.shape:
            return 1.0
        far = max(far, abs(a.logit - b.logit), float(np.abs(a.map - b.map).max()))
    return far


# --- words and presets


def test_prototypes_by_the_mean_of_sentences(workshop: Workshop) -> None:
    """What each of the three means is, one of the sentences counting twice."""
    backbone = load_backbone(f"local-dir:{workshop.tiny}")
    normal = ["a photo of a nut", "nut", "nut"]
    anomalous = ["a jpeg corrupted photo of the metal nut without damage."]
    raw = [backbone.embed_texts(texts, normalise=False).double() for texts in (normal, anomalous)]
    unit = torch.nn.functional.normalize
    np.testing.assert_allclose(unit(raw[0], dim=-1), backbone.embed_texts(normal), atol=1e-5)
    assert float((torch.cat(raw).norm(dim=-1) - 1).abs().min()) > 0.1
    means = {
        "normalised": [unit(unit(side, dim=-1).mean(0), dim=0) for side in raw],
        "raw": [unit(side.mean(0), dim=0) for side in raw],
        "unnormalised": [side.mean(0) for side in raw],
    }
    for mean, (n, a) in means.items():
        head = prototype_head(backbone, normal, anomalous, mean, 0.5)  # type: ignore[arg-type]
        np.testing.assert_allclose(head.weight, (a - n) / 0.5, rtol=1e-3, atol=1e-4)
    found = [np.concatenate(list(pair)) for pair in means.values()]
    assert min(np.abs(found[i] - found[j]).max() for i, j in ((0, 1), (1, 2), (0, 2))) > 1e-3


@pytest.mark.parametrize(("name", "block"), [("winclip-plus", 1), ("winclip-plus-anomalib", 2)])
def test_which_block_is_remembered(name: str, block: int, workshop: Workshop) -> None:
    """The last but one of two in the paper; anomalib and zqhang remember the last."""
    detector = workshop.make(name).fit(reference=noise(1))
    features = detector.backbone_.embed_images(noise(1), layers=(1, 2))
    np.testing.assert_allclose(detector.scorer_.memories["tokens"], features.layers[block][0], atol=1e-5)
    assert detector.request(True).layers == (block,)


# --- switches

SWITCHES: list[dict[str, Any]] = [
    {"temperature": 0.01},
    {"sentence_mean": "raw"},
    {"templates": ENSEMBLE_TEMPLATES_21},
    {"non_square": "tile"},
    {"harmonic_over": "normal"},
    {"image_in_map": False},
    {"image_score": "map"},
    {"object": "metal_nut"},
    {"object": "metal_nut", "keep_underscores": True},
    {"articles": "agree", "object": "apple"},
    {"window_sizes": (2,)},
]
FEW_SHOT: list[dict[str, Any]] = [
    {"reference_spread": "mean"},
    {"map_fusion": "harmonic"},
    {"token_block": "last"},
]


@pytest.mark.parametrize(
    ("name", "switch"),
    [*(("winclip", s) for s in SWITCHES), *(("winclip-plus", s) for s in [*SWITCHES, *FEW_SHOT])],
)
def test_every_switch_changes_what_is_said(name: str, switch: dict[str, Any], workshop: Workshop) -> None:
    base = {"object": switch["object"]} if len(switch) > 1 else {}
    assert differ(workshop.fit(name, **base), workshop.fit(name, **switch)) > 1e-5


def test_the_hottest_scores_are_finite_and_keep_their_order(workshop: Workshop) -> None:
    found = [
        [p.logit for p in workshop.fit("winclip", temperature=t, object="nut").predict(noise(6, (40, 56)))]
        for t in (0.07, 0.001)
    ]
    assert [70 * x for x in found[0]] == pytest.approx(found[1], rel=1e-3, abs=1e-3)
    assert max(map(abs, found[1])) > 40  # where probabilities in float64 are 0 or 1


# --- references


def test_what_is_remembered_and_recorded(workshop: Workshop) -> None:
    steps: list[tuple[str, int, int]] = []
    detector = workshop.make("winclip-plus")
    detector.fit(reference=noise(9), progress=lambda *step: steps.append(step))
    shapes = {name: memory.shape for name, memory in detector.scorer_.memories.items()}
    assert shapes == {"window_2": (9 * 25, 24), "window_3": (9 * 16, 24), "tokens": (9 * 36, 32)}
    assert steps == [("reference images", 8, 9), ("reference images", 9, 9)]
    assert detector.seen_.reference.images == len(set(detector.seen_.reference.sha256_of_pixels)) == 9
    assert "9 photos of good products" in detector.card_
    assert "324 of `tokens`" in detector.card_


def test_aligned_patches_may_take_the_place_of_windows(workshop: Workshop) -> None:
    detector = workshop.fit("winclip-plus", map_from="patches", aligned=True)
    assert set(detector.scorer_.memories) == {"patches", "tokens"}
    assert detector.request(True) == FeatureRequest(patches=True, layers=(1,))
    windows = workshop.fit("winclip-plus", aligned=True)
    assert windows.request(False) == FeatureRequest(((2, 1), (3, 1)), layers=(1,))
    assert differ(detector, windows) > 1e-4


def test_more_references_than_a_folder_may_hold_are_refused(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = 4 * (25 * 24 + 16 * 24 + 36 * 32)
    monkeypatch.setattr("zeroflaw.detectors.winclip.LARGEST_HEAD", 2**20 + 3 * each)
    workshop.make("winclip-plus").fit(reference=noise(3))
    with pytest.raises(UsageError, match=r"of 4 reference images, .* give it 3 or fewer"):
        workshop.make("winclip-plus").fit(reference=noise(4))


def test_a_tower_of_one_block_is_refused(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    one_block = dataclasses.replace(config, vision=dataclasses.replace(config.vision, layers=1))
    loaded = load_backbone(f"local-dir:{workshop.tiny}")
    shallow = dataclasses.replace(loaded, model=random_model(one_block))
    monkeypatch.setattr(WinCLIPPlus, "_load_backbone", lambda self: shallow)
    with pytest.raises(UsageError, match="has a single block"):
        workshop.fit("winclip-plus")
    assert workshop.fit("winclip-plus", token_block="last").is_fitted


def test_distances_of_near_copies_are_told_apart() -> None:
    random = np.random.default_rng(0)
    memory = random.normal(size=(5000, 16))
    queries = np.stack([memory[3], memory[4999] + 1e-4 * random.normal(size=16), -7 * memory[3]])[None]
    exact, close, far = distances(queries, memory)[0]
    assert exact == pytest.approx(1e-12)
    assert 1e-11 < close < 1e-8
    assert far < 0.5
    assert distances(queries[:, 2:], memory[3:4])[0] == pytest.approx(1 - 1e-12)


def test_distances_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries, memory = random.normal(size=(3, 5, 8)), random.normal(size=(11, 8))
    cosines = queries @ memory.T / np.linalg.norm(queries, axis=2)[..., None] / np.linalg.norm(memory, axis=1)
    expected = ((1 - cosines) / 2).min(2)
    np.testing.assert_allclose(distances(queries, memory), expected, atol=1e-12)
    monkeypatch.setattr("zeroflaw.runtime.winclip._AT_ONCE", 4)
    np.testing.assert_allclose(distances(queries, memory), expected, atol=1e-12)


# --- sharing


def test_detectors_share_features(workshop: Workshop) -> None:
    detectors = [workshop.fit(name) for name in ("winclip", "winclip-plus", "winclip-caoyunkang")]
    images, sizes = noise(3, (40, 56)), [(40, 56)] * 3
    request = FeatureRequest(((1, 1), (3, 2)), patches=True, layers=(1, 2))
    for detector in detectors:
        request = request | detector.request(True)
    features = detectors[0].embed(images, request)
    for detector in detectors:
        shared = detector.judge(features.only(detector.request(True)), sizes, maps=True)
        for one, other in zip(shared, detector.predict(images, maps=True), strict=True):
            assert one.logit == pytest.approx(other.logit, abs=1e-4)
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)


# --- tiles


@pytest.mark.parametrize(
    ("size", "length", "starts"),
    [
        ((100, 100), 100, (0,)),
        ((100, 101), 100, (0, 1)),
        ((100, 180), 100, (0, 80)),
        ((181, 100), 100, (0, 80, 81)),
        ((100, 300), 100, (0, 80, 160, 200)),
        ((1, 1), 1, (0,)),
        ((3, 1), 1, (0, 1, 2)),
    ],
)
def test_where_tiles_lie(size: tuple[int, int], length: int, starts: tuple[int, ...]) -> None:
    tiles = Tiles.of(size, tile=True)
    assert (tiles.length, tiles.starts) == (length, starts)


@pytest.mark.parametrize("size", [(1, 1), (7, 400), (16384, 3), (100, 5141), (64, 65), (2, 4096)])
def test_tiles_cover_every_pixel_and_are_few(size: tuple[int, int]) -> None:
    tiles = Tiles.of(size, tile=True)
    assert 1 <= len(tiles) <= MOST
    seen = np.zeros(size, dtype=int)
    image = np.arange(size[0] * size[1], dtype=np.int64).reshape(*size, 1)
    for tile in tiles.cut(image):
        seen.reshape(-1)[tile.reshape(-1)] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize("size", [(48, 110), (110, 48), (3, 5000), (10, 11)])
def test_equal_tiles_make_an_equal_photo(size: tuple[int, int]) -> None:
    tiles = Tiles.of(size, tile=True)
    logits = np.full((len(tiles), 4, 6), -60.0)
    merged = tiles.merge(logits)
    np.testing.assert_allclose(merged, -60.0, rtol=1e-9)
    along, across = (0, 1) if size[0] > size[1] else (1, 0)
    assert merged.shape[across] == (4, 6)[across]
    assert merged.shape[along] == round((4, 6)[along] * max(size) / tiles.length)
    assert float(tiles.mean(logits[:, 0, 0])) == pytest.approx(-60)


def test_a_photo_that_is_one_tile_stays_as_it_is() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 4, 6))
    tiles = Tiles.of((30, 90), tile=False)
    np.testing.assert_array_equal(tiles.merge(logits), logits[0])
    assert tiles.mean(logits[:, 0, 0]) == logits[0, 0, 0]
    assert [tile.shape for tile in tiles.cut(np.zeros((30, 90, 3)))] == [(30, 90, 3)]
