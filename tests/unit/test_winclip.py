"""WinCLIP and WinCLIP+: words, switches, tiles, memories and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import random_model, tiny_config
from zeroflaw import UsageError, load, load_backbone
from zeroflaw.detectors import make
from zeroflaw.detectors.winclip import WinCLIP, WinCLIPPlus, prototype_head
from zeroflaw.errors import DetectorError
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.folder import read_folder, write_folder
from zeroflaw.runtime.tiles import MOST, Tiles
from zeroflaw.runtime.winclip import WinCLIPScorer, distances
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21


def pictures(count: int = 3, size: tuple[int, int] = (40, 56), seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def zero_shot(backbone: Path, **parameters: Any) -> WinCLIP:
    return WinCLIP(backbone=f"local-dir:{backbone}", **parameters).fit()


def few_shot(backbone: Path, count: int = 2, **parameters: Any) -> WinCLIPPlus:
    detector = WinCLIPPlus(backbone=f"local-dir:{backbone}", **parameters)
    return detector.fit(reference=pictures(count, seed=9))


def scorer(detector: Any) -> WinCLIPScorer:
    assert isinstance(detector.scorer_, WinCLIPScorer)
    return detector.scorer_


def differ(one: Any, other: Any) -> float:
    """Return how far log-odds or maps of two detectors lie apart, a changed shape being far."""
    far = 0.0
    for a, b in zip(*(list(d.predict(pictures(), maps=True)) for d in (one, other)), strict=True):
        if a.map.shape != b.map.shape:
            return 1.0
        far = max(far, abs(a.logit - b.logit), float(np.abs(a.map - b.map).max()))
    return far


# --- words


@pytest.mark.parametrize(
    ("name", "counts", "sentence"),
    [
        ("winclip", (154, 88), "a close-up photo of a metal nut with flaw"),
        ("winclip-anomalib", (147, 84), "a close-up photo of a metal_nut with flaw."),
        ("winclip-zqhang", (147, 84), "a close-up photo of a metal_nut with flaw."),
        ("winclip-caoyunkang", (154, 88), "a close-up photo of a metal_nut with flaw"),
        ("winclip-mala", (154, 88), "a close-up photo of a metal nut with flaw"),
    ],
)
def test_sentences_of_the_presets(
    name: str, counts: tuple[int, int], sentence: str, tiny_backbone: Path
) -> None:
    words: Any = make(name, backbone=f"local-dir:{tiny_backbone}", object="metal_nut").fit().words_  # type: ignore[attr-defined]
    assert (len(words["prompt"]["normal"]), len(words["prompt"]["anomalous"])) == counts
    assert sentence in words["prompt"]["anomalous"]


def test_prototypes_by_the_mean_of_sentences(tiny_backbone: Path) -> None:
    """What each of the three means is, one of the sentences counting twice."""
    backbone = load_backbone(f"local-dir:{tiny_backbone}")
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


# --- presets: what the public versions do


@pytest.mark.parametrize("name", ["winclip-caoyunkang", "winclip-plus-caoyunkang"])
def test_caoyunkangs_prototypes_are_raw_means_of_length_one(name: str, tiny_backbone: Path) -> None:
    """Its build_text_feature_gallery normalises the means of raw features in the end."""
    detector: Any = make(name, backbone=f"local-dir:{tiny_backbone}")
    given = {"reference": pictures(1)} if detector.needs.reference_images else {}
    prompt = detector.fit(**given).words_["prompt"]
    texts = prompt["anomalous"], prompt["normal"]
    means = [detector.backbone_.embed_texts(side, normalise=False).mean(0) for side in texts]
    one, other = (mean / mean.norm() for mean in means)
    np.testing.assert_allclose(scorer(detector).head.weight, (one - other) / 0.01, atol=1e-3)


@pytest.mark.parametrize(("name", "block"), [("winclip-plus", 1), ("winclip-plus-anomalib", 2)])
def test_which_block_is_remembered(name: str, block: int, tiny_backbone: Path) -> None:
    """The last but one of two in the paper; anomalib and zqhang remember the last."""
    detector: Any = make(name, backbone=f"local-dir:{tiny_backbone}").fit(reference=pictures(1))
    features = detector.backbone_.embed_images(pictures(1), layers=(1, 2))
    tokens = scorer(detector).memories["tokens"]
    np.testing.assert_allclose(tokens, features.layers[block][0], atol=1e-5)
    assert detector.request(True).layers == (block,)


# --- switches


@pytest.mark.parametrize(
    "switch",
    [
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
    ],
)
def test_every_switch_changes_what_is_said(switch: dict[str, Any], tiny_backbone: Path) -> None:
    base = {"object": switch["object"]} if len(switch) > 1 else {}
    for fit in (zero_shot, few_shot):
        assert differ(fit(tiny_backbone, **base), fit(tiny_backbone, **switch)) > 1e-4


@pytest.mark.parametrize(
    "switch", [{"reference_spread": "mean"}, {"map_fusion": "harmonic"}, {"token_block": "last"}]
)
def test_every_switch_of_the_few_shot_detector_changes_what_is_said(
    switch: dict[str, Any], tiny_backbone: Path
) -> None:
    assert differ(few_shot(tiny_backbone), few_shot(tiny_backbone, **switch)) > 1e-5


def test_the_hottest_scores_are_finite_and_keep_their_order(tiny_backbone: Path) -> None:
    found = [
        [p.logit for p in zero_shot(tiny_backbone, temperature=t, object="nut").predict(pictures(6))]
        for t in (0.07, 0.001)
    ]
    assert [70 * x for x in found[0]] == pytest.approx(found[1], rel=1e-3, abs=1e-3)
    assert max(map(abs, found[1])) > 40  # where probabilities in float64 are 0 or 1


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"temperature": 0.0}, "temperature must be a number from 0.001 to 100"),
        ({"sentence_mean": "raws"}, "did you mean 'raw'"),
        ({"non_square": "tiles"}, "did you mean 'tile'"),
        ({"window_sizes": ()}, "window_sizes must be several of"),
        ({"templates": ("a photo",)}, r"must hold \{\} exactly once"),
        ({"normal": ("bent",), "anomalous": ("bent",)}, "both"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], says: str) -> None:
    for detector in (WinCLIP, WinCLIPPlus):
        with pytest.raises(UsageError, match=says):
            detector(**parameters)
    for wrong in ({"map_fusion": "sum"}, {"reference_spread": "max"}, {"token_block": "first"}):
        with pytest.raises(UsageError, match="must be one of"):
            WinCLIPPlus(**wrong)  # type: ignore[arg-type]


# --- references


def test_what_is_remembered_and_recorded(tiny_backbone: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    detector = WinCLIPPlus(backbone=f"local-dir:{tiny_backbone}")
    detector.fit(reference=pictures(9), progress=lambda *step: steps.append(step))
    shapes = {name: memory.shape for name, memory in scorer(detector).memories.items()}
    assert shapes == {"window_2": (9 * 25, 24), "window_3": (9 * 16, 24), "tokens": (9 * 36, 32)}
    assert steps == [("reference images", 8, 9), ("reference images", 9, 9)]
    detector.save(tmp_path / "saved")
    seen = read_folder(tmp_path / "saved").seen.reference
    assert seen is not None
    assert seen.images == len(set(seen.sha256_of_pixels)) == 9
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "9 photos of good products" in card
    assert "324 of `tokens`" in card


def test_aligned_patches_may_take_the_place_of_windows(tiny_aligned_backbone: Path) -> None:
    detector = few_shot(tiny_aligned_backbone, map_from="patches")
    assert set(scorer(detector).memories) == {"patches", "tokens"}
    assert detector.request(True) == FeatureRequest(patches=True, layers=(1,))
    windows = few_shot(tiny_aligned_backbone)
    assert windows.request(False) == FeatureRequest(((2, 1), (3, 1)), layers=(1,))
    assert differ(detector, windows) > 1e-4


def test_more_references_than_a_folder_may_hold_are_refused(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = 4 * (25 * 24 + 16 * 24 + 36 * 32)
    monkeypatch.setattr("zeroflaw.detectors.winclip.LARGEST_HEAD", 2**20 + 3 * each)
    few_shot(tiny_backbone, 3)
    with pytest.raises(UsageError, match=r"of 4 reference images, .* give it 3 or fewer"):
        few_shot(tiny_backbone, 4)


def test_a_tower_of_one_block_is_refused(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    vision = dataclasses.replace(config.vision, layers=1)
    shallow = dataclasses.replace(
        load_backbone(f"local-dir:{tiny_backbone}"),
        model=random_model(dataclasses.replace(config, vision=vision)),
    )
    monkeypatch.setattr(WinCLIPPlus, "_load_backbone", lambda self: shallow)
    with pytest.raises(UsageError, match="has a single block"):
        few_shot(tiny_backbone)
    assert few_shot(tiny_backbone, token_block="last").is_fitted


@pytest.mark.parametrize("damage", ["missing", "short", "width", "type", "more"])
def test_memories_that_do_not_fit_are_refused(damage: str, tiny_backbone: Path, tmp_path: Path) -> None:
    few_shot(tiny_backbone).save(tmp_path / "saved")
    saved = read_folder(tmp_path / "saved")
    arrays = saved.arrays
    if damage == "missing":
        del arrays["memory.window_3"]
    elif damage == "short":
        arrays["memory.tokens"] = arrays["memory.tokens"][:-1]
    elif damage == "width":
        arrays["memory.window_2"] = arrays["memory.window_2"][:, :-1]
    elif damage == "type":
        arrays["memory.tokens"] = arrays["memory.tokens"].astype(np.int64)
    else:
        arrays["memory.window_4"] = arrays["memory.window_2"]
    write_folder(tmp_path / "damaged", saved)
    with pytest.raises(DetectorError, match=r"(memories|scorer does not fit) .*; save the detector again$"):
        load(tmp_path / "damaged")


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


def test_detectors_share_features(tiny_backbone: Path) -> None:
    detectors: list[Any] = [
        zero_shot(tiny_backbone),
        few_shot(tiny_backbone),
        make("winclip-caoyunkang", backbone=f"local-dir:{tiny_backbone}").fit(),
    ]
    assert len({detector.feature_key for detector in detectors}) == 1
    images, sizes = pictures(), [(40, 56)] * 3
    request = FeatureRequest(((1, 1), (3, 2)), patches=True, layers=(1, 2))
    for detector in detectors:
        request = request | detector.request(True)
    features = detectors[0].embed(images, request)
    for detector in detectors:
        shared = detector.judge(features.only(detector.request(True)), sizes, maps=True)
        for one, other in zip(shared, detector.predict(images, maps=True), strict=True):
            assert one.logit == pytest.approx(other.logit, abs=1e-4)
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)


def test_tiles_are_shared_with_nobody_who_sees_whole_photos(tiny_backbone: Path) -> None:
    tiled = zero_shot(tiny_backbone, non_square="tile")
    assert tiled.feature_key != zero_shot(tiny_backbone).feature_key
    assert tiled.feature_key == few_shot(tiny_backbone, non_square="tile").feature_key
    assert len(tiled.embed(pictures(2, (20, 50)), tiled.request(False)).image) == 2 * 3


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
