"""WinCLIP and WinCLIP+: words, switches, tiles, memories and what is refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zeroflaw.detectors.association import distances, spread_distances

from conftest import random_model, tiny_config
from zeroflaw import UsageError, WordsError, load, load_backbone
from zeroflaw.detectors import make
from zeroflaw.detectors.base import Request
from zeroflaw.detectors.sentence_means import prototype_head
from zeroflaw.detectors.winclip import WinCLIP
from zeroflaw.detectors.winclip_plus import WinCLIPPlus
from zeroflaw.errors import DetectorError
from zeroflaw.runtime.folder import read_folder, write_folder
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.tiles import MOST, Tiles
from zeroflaw.words import ENSEMBLE_TEMPLATES
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21


def pictures(count: int = 3, size: tuple[int, int] = (40, 56), seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def zero_shot(backbone: Path, **parameters: Any) -> WinCLIP:
    return WinCLIP(backbone=f"local-dir:{backbone}", **parameters).fit()


def few_shot(backbone: Path, count: int = 2, **parameters: Any) -> WinCLIPPlus:
    detector = WinCLIPPlus(backbone=f"local-dir:{backbone}", **parameters)
    return detector.fit(reference=pictures(count, seed=9))


def said(detector: Any) -> list[tuple[float, bytes]]:
    return [(p.logit, p.map.tobytes()) for p in detector.predict(pictures(), maps=True)]


# --- words ------------------------------------------------------------------------------------------


def test_the_two_lists_of_templates() -> None:
    assert len(ENSEMBLE_TEMPLATES) == len(set(ENSEMBLE_TEMPLATES)) == 22
    assert (len(ENSEMBLE_TEMPLATES_21), len(set(ENSEMBLE_TEMPLATES_21))) == (21, 20)
    assert all(template.endswith(".") for template in ENSEMBLE_TEMPLATES_21)
    assert set(ENSEMBLE_TEMPLATES) - {template[:-1] for template in ENSEMBLE_TEMPLATES_21} == {
        "a cropped photo of a {}",
        "a jpeg corrupted photo of a {}",
    }
    assert ENSEMBLE_TEMPLATES_21.count("a jpeg corrupted photo of the {}.") == 2


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


def test_an_unknown_object_is_called_object(tiny_backbone: Path) -> None:
    for keep in (False, True):
        words: Any = zero_shot(tiny_backbone, keep_underscores=keep).words_
        assert words["prompt"]["normal"][0] == "a cropped photo of a object"


def test_a_template_listed_twice_counts_twice(tiny_backbone: Path) -> None:
    backbone = load_backbone(f"local-dir:{tiny_backbone}")
    once, twice = ("a {}", "the {}"), ("a {}", "the {}", "the {}")
    assert said(zero_shot(tiny_backbone, templates=once)) != said(zero_shot(tiny_backbone, templates=twice))
    assert backbone.embed_texts(["a", "b", "a"], normalise=False).shape == (3, 24)


def test_the_three_means_of_sentences_differ(tiny_backbone: Path) -> None:
    backbone = load_backbone(f"local-dir:{tiny_backbone}")
    texts = ["a photo of a nut", "nut", "a jpeg corrupted photo of the metal nut without damage."]
    heads = [
        prototype_head(backbone, texts[:2], texts[2:], mean, 0.5).weight
        for mean in ("normalised", "raw", "unnormalised")
    ]
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in pairwise(heads))


# --- switches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch",
    [
        {"temperature": 0.01},
        {"sentence_mean": "raw"},
        {"sentence_mean": "unnormalised"},
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
    assert said(zero_shot(tiny_backbone, **base)) != said(zero_shot(tiny_backbone, **switch))
    assert said(few_shot(tiny_backbone, **base)) != said(few_shot(tiny_backbone, **switch))


@pytest.mark.parametrize("switch", [{"reference_spread": "mean"}, {"map_fusion": "harmonic"}])
def test_every_switch_of_the_few_shot_detector_changes_what_is_said(
    switch: dict[str, Any], tiny_backbone: Path
) -> None:
    assert said(few_shot(tiny_backbone)) != said(few_shot(tiny_backbone, **switch))


def test_the_zero_shot_temperature_does_not_change_the_order_of_images(tiny_backbone: Path) -> None:
    one, other = (
        [p.logit for p in zero_shot(tiny_backbone, temperature=t).predict(pictures(6))] for t in (0.07, 0.01)
    )
    assert [7 * x for x in one] == pytest.approx(other, rel=1e-4)


def test_a_map_score_is_the_highest_value_of_the_map(tiny_backbone: Path) -> None:
    for detector in (
        zero_shot(tiny_backbone, image_score="map"),
        few_shot(tiny_backbone, image_score="map"),
    ):
        for found in detector.predict(pictures(), maps=True):
            assert found.score == pytest.approx(float(found.map.max()), abs=1e-6)  # type: ignore[union-attr]


def test_the_hottest_scores_are_finite_and_keep_their_order(tiny_backbone: Path) -> None:
    detector = make(
        "winclip-caoyunkang", backbone=f"local-dir:{tiny_backbone}", temperature=0.001, object="metal nut"
    ).fit()
    logits = [p.logit for p in detector.predict(pictures(6))]
    assert all(np.isfinite(logits))
    assert len(set(logits)) == 6
    assert max(map(abs, logits)) > 40  # where probabilities in float64 are 0 or 1


def test_square_photos_are_not_tiled(tiny_backbone: Path) -> None:
    square = pictures(2, (40, 40))
    one, other = (
        list(few_shot(tiny_backbone, count=1, non_square=way).predict(square)) for way in ("squash", "tile")
    )
    # The references are not square: they alone differ.
    assert [p.scores["prompt"] for p in one] == pytest.approx([p.scores["prompt"] for p in other], abs=1e-6)
    assert [p.scores["reference"] for p in one] != [p.scores["reference"] for p in other]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"temperature": 0.0}, "temperature must be a number from 0.001 to 100"),
        ({"temperature": "0.07"}, "temperature must be a number"),
        ({"sentence_mean": "raws"}, "did you mean 'raw'"),
        ({"harmonic_over": "both"}, "harmonic_over must be one of anomalous, normal"),
        ({"image_score": "max"}, "image_score must be one of image, map"),
        ({"non_square": "tiles"}, "did you mean 'tile'"),
        ({"keep_underscores": 1}, "keep_underscores must be true or false"),
        ({"window_sizes": ()}, "window_sizes must list"),
        ({"window_stride": 3}, "window_stride"),
        ({"templates": "a photo of a {}"}, "templates must be several of: text"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_touched(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        WinCLIP(**{"backbone": "local-dir:nowhere", **parameters}).fit()
    with pytest.raises(UsageError, match=says):
        WinCLIPPlus(**{"backbone": "local-dir:nowhere", **parameters}).fit(reference=pictures(1))


@pytest.mark.parametrize("parameters", [{"map_fusion": "sum"}, {"reference_spread": "max"}])
def test_wrong_parameters_of_the_few_shot_detector(parameters: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be one of"):
        WinCLIPPlus(backbone="local-dir:nowhere", **parameters).fit(reference=pictures(1))


def test_words_are_refused() -> None:
    with pytest.raises(WordsError, match=r"must hold \{\} exactly once"):
        WinCLIP(backbone="local-dir:nowhere", templates=("a photo",)).fit()
    with pytest.raises(WordsError, match="both"):
        WinCLIP(backbone="local-dir:nowhere", normal=("bent",), anomalous=("bent",)).fit()


# --- references -------------------------------------------------------------------------------------


def test_references_are_needed_and_of_no_use_without(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="needs photos of good products"):
        WinCLIPPlus(backbone=f"local-dir:{tiny_backbone}").fit()
    with pytest.raises(UsageError, match="no use for reference"):
        WinCLIP(backbone=f"local-dir:{tiny_backbone}").fit(reference=pictures(1))


def test_what_is_remembered_and_recorded(tiny_backbone: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    detector = WinCLIPPlus(backbone=f"local-dir:{tiny_backbone}")
    detector.fit(reference=pictures(9), progress=lambda *step: steps.append(step))
    shapes = {name: tuple(memory.shape) for name, memory in (detector.memories_ or {}).items()}
    assert shapes == {"window_2": (9 * 25, 24), "window_3": (9 * 16, 24), "tokens": (9 * 36, 32)}
    assert [step for step in steps if step[0] == "reference images"] == [
        ("reference images", 8, 9),
        ("reference images", 9, 9),
    ]
    detector.save(tmp_path / "saved")
    saved = read_folder(tmp_path / "saved")
    assert saved.seen["reference"]["images"] == 9
    assert saved.tensors["memory.tiles"].tolist() == [1] * 9
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "9 photos of good products" in card
    assert "324 of `tokens`" in card


def test_aligned_patches_may_take_the_place_of_windows(tiny_aligned_backbone: Path) -> None:
    detector = few_shot(tiny_aligned_backbone, map_from="patches")
    assert set(detector.memories_ or {}) == {"patches", "tokens"}
    assert detector.request(True) == Request(patches=True, layers=(1,))
    assert few_shot(tiny_aligned_backbone).request(False) == Request(((2, 1), (3, 1)), layers=(1,))
    assert said(detector) != said(few_shot(tiny_aligned_backbone))


def test_aligned_patches_are_refused_where_there_are_none(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="map_from='windows'"):
        zero_shot(tiny_backbone, map_from="patches")


def test_more_references_than_a_folder_may_hold_are_refused(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = 4 * (25 * 24 + 16 * 24 + 36 * 32)
    monkeypatch.setattr("zeroflaw.detectors.winclip_plus.LARGEST_HEAD", 2**20 + 3 * each)
    few_shot(tiny_backbone, 3)
    with pytest.raises(UsageError, match=r"of 4 reference images, .* give it 3 or fewer"):
        few_shot(tiny_backbone, 4)


def test_a_tower_of_one_block_is_refused(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow = load_backbone(f"local-dir:{tiny_backbone}")
    config = tiny_config()
    shallow.model = random_model(
        dataclasses.replace(config, vision=dataclasses.replace(config.vision, layers=1))
    )
    monkeypatch.setattr(WinCLIPPlus, "_load_backbone", lambda self: shallow)
    with pytest.raises(UsageError, match="has a single block"):
        few_shot(tiny_backbone)


@pytest.mark.parametrize("damage", ["count", "missing", "short", "width"])
def test_memories_that_do_not_fit_are_refused(damage: str, tiny_backbone: Path, tmp_path: Path) -> None:
    few_shot(tiny_backbone).save(tmp_path / "saved")
    saved = read_folder(tmp_path / "saved")
    tensors = saved.tensors
    if damage == "count":
        tensors["memory.tiles"] = torch.tensor([1, 1, 1])
    elif damage == "missing":
        del tensors["memory.window_3"]
    elif damage == "short":
        tensors["memory.tokens"] = tensors["memory.tokens"][:-1]
    else:
        tensors["memory.window_2"] = tensors["memory.window_2"][:, :-1]
    write_folder(tmp_path / "damaged", saved)
    with pytest.raises(DetectorError, match=r"memory\.") as caught:
        load(tmp_path / "damaged")
    assert "\n" not in str(caught.value)


def test_distances_of_near_copies_are_told_apart() -> None:
    memory = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    near = memory[4999] + 1e-4 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    queries = torch.stack([memory[3], near, -7 * memory[3]])[None]
    exact, close, far = distances(queries, memory)[0].tolist()
    assert exact == 1e-12
    assert 1e-11 < close < 1e-8
    assert far < 0.5
    (opposite,) = distances(queries[:, 2:], memory[3:4])[0].tolist()
    assert opposite == 1 - 1e-12


def test_distances_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 5, 8, generator=generator)
    memory = torch.randn(11, 8, generator=generator)
    whole = distances(queries, memory)
    monkeypatch.setattr("zeroflaw.detectors.association._AT_ONCE", 4)
    assert whole.shape == (3, 5)
    assert torch.allclose(distances(queries, memory), whole, rtol=0, atol=1e-15)


def test_distances_of_many_tiles_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    amax = torch.Tensor.amax

    def spy(self: torch.Tensor, *arguments: Any) -> torch.Tensor:
        largest.append(self.numel())
        return amax(self, *arguments)

    monkeypatch.setattr(torch.Tensor, "amax", spy)
    distances(torch.randn(500, 36, 2), torch.randn(50, 2))
    assert max(largest) <= 4096 * 50


def test_distances_are_spread_by_either_mean() -> None:
    windows = make_windows((2, 3), 2)  # two windows; the middle column is in both
    found = torch.tensor([[0.2, 0.4]], dtype=torch.double)
    harmonic, mean = (torch.sigmoid(spread_distances(found, windows, how)) for how in ("harmonic", "mean"))
    assert harmonic[0, :3].tolist() == pytest.approx([0.2, 2 / (1 / 0.2 + 1 / 0.4), 0.4])
    assert mean[0, :3].tolist() == pytest.approx([0.2, 0.3, 0.4])


# --- sharing ----------------------------------------------------------------------------------------


def test_detectors_share_features(tiny_backbone: Path) -> None:
    detectors = [
        zero_shot(tiny_backbone),
        few_shot(tiny_backbone),
        make("winclip-caoyunkang", backbone=f"local-dir:{tiny_backbone}").fit(),
    ]
    assert len({detector.share_key for detector in detectors}) == 1
    images = pictures()
    request = Request(((1, 1), (3, 2)), patches=True, layers=(1, 2))
    for detector in detectors:
        request = request | detector.request(True)
    features = detectors[0].embed(images, request)
    sizes = [(40, 56)] * 3
    for detector in detectors:
        shared = detector.predict_features(features, request, sizes, maps=True)
        for one, other in zip(shared, detector.predict(images, maps=True), strict=True):
            assert one.logit == pytest.approx(other.logit, abs=1e-4)
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)


def test_tiles_are_shared_with_nobody_who_sees_whole_photos(tiny_backbone: Path) -> None:
    tiled = zero_shot(tiny_backbone, non_square="tile")
    assert tiled.share_key != zero_shot(tiny_backbone).share_key
    assert tiled.share_key == few_shot(tiny_backbone, non_square="tile").share_key
    assert len(tiled.embed(pictures(2, (20, 50)), Request()).image) == 2 * 3


# --- tiles ------------------------------------------------------------------------------------------


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
    tiles = Tiles.over(size)
    assert (tiles.length, tiles.starts) == (length, starts)


@pytest.mark.parametrize("size", [(1, 1), (7, 400), (16384, 3), (100, 5141), (64, 65), (2, 4096)])
def test_tiles_cover_every_pixel_and_are_few(size: tuple[int, int]) -> None:
    tiles = Tiles.over(size)
    assert 1 <= len(tiles) <= MOST
    seen = np.zeros(size, dtype=int)
    image = np.arange(size[0] * size[1], dtype=np.int64).reshape(*size, 1)
    for tile in tiles.cut(image):
        seen.reshape(-1)[tile.reshape(-1)] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize("size", [(48, 110), (110, 48), (3, 5000), (10, 11)])
def test_equal_tiles_make_an_equal_photo(size: tuple[int, int]) -> None:
    tiles = Tiles.over(size)
    logits = torch.full((len(tiles), 4, 6), -60.0, dtype=torch.double)
    merged = tiles.merge(logits)
    torch.testing.assert_close(merged, torch.full_like(merged, -60.0))
    along, across = (0, 1) if size[0] > size[1] else (1, 0)
    assert merged.shape[across] == (4, 6)[across]
    assert merged.shape[along] == round((4, 6)[along] * max(size) / tiles.length)
    torch.testing.assert_close(tiles.mean(logits[:, 0, 0]), torch.tensor(-60.0, dtype=torch.double))


def test_a_photo_that_is_one_tile_stays_as_it_is() -> None:
    logits = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    tiles = Tiles.whole((30, 90))
    assert torch.equal(tiles.merge(logits), logits[0])
    assert tiles.mean(logits[:, 0, 0]) == logits[0, 0, 0]
    image = np.zeros((30, 90, 3), dtype=np.uint8)
    assert [tile.shape for tile in tiles.cut(image)] == [image.shape]
