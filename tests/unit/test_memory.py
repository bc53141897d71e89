"""Good photos as a memory: rankings, verdicts, what is remembered, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw import DetectorError, Memory, UsageError, corrupt, load
from zeroflaw.lab.metrics import image_auroc
from zeroflaw.lab.samples import PRODUCTS, render
from zeroflaw.runtime.folder import read_folder, write_folder
from zeroflaw.runtime.memory import MemoryScorer, PatchSpec, coreset, nearest
from zeroflaw.towers.patches import feature_width

Pictures = list[np.ndarray]


def good(product: str, count: int, seed: int = 0) -> Pictures:
    return [render(product, seed=seed, index=index)[0] for index in range(count)]


def flawed(product: str) -> Pictures:
    return [render(product, flaw)[0] for flaw in PRODUCTS[product].flaws]


def noise(count: int, seed: int = 0) -> Pictures:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 40, 44, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path) -> dict[str, Any]:
    """A tiny random CLIP, with words that need no training."""
    return {"backbone": f"local-dir:{tiny_backbone}", "words": "clip"}


def scorer(detector: Memory) -> MemoryScorer:
    assert isinstance(detector.scorer_, MemoryScorer)
    return detector.scorer_


def logits(detector: Memory, images: Pictures) -> np.ndarray:
    return np.array([prediction.logit for prediction in detector.predict(images)])


def auroc(detector: Memory, normal: Pictures, anomalous: Pictures) -> float:
    labels = [0] * len(normal) + [1] * len(anomalous)
    return image_auroc(labels, logits(detector, [*normal, *anomalous])).value or 0.0


# Rendered samples and the bundled model


@pytest.mark.parametrize("product", ["gear", "cloth"])
def test_eight_good_photos_tell_flawed_parts_from_good_ones(product: str) -> None:
    detector = Memory().fit(reference=good(product, 8))
    normal, anomalous = good(product, 6, seed=1), flawed(product)
    assert auroc(detector, normal, anomalous) > 0.95
    found = list(detector.predict([*normal, *anomalous], maps=True))
    called = [prediction.label for prediction in found]
    assert sum(map(bool, called[:6])) <= 1
    assert all(called[6:])
    assert set(found[0].scores) == {"memory", "words"}
    assert found[-1].p_value == pytest.approx(1 / 9)
    assert found[-1].regions()
    assert "Threshold from 8 good photos" in (found[0].threshold_from or "")


@pytest.mark.parametrize(("count", "verdicts"), [(1, False), (3, False), (4, True)])
def test_verdicts_begin_with_four_photos(count: int, verdicts: bool) -> None:
    detector = Memory().fit(reference=good("cloth", count))
    normal, anomalous = good("cloth", 3, seed=1), flawed("cloth")
    assert auroc(detector, normal, anomalous) > 0.9
    for prediction in detector.predict([*normal, *anomalous]):
        assert (prediction.label is not None) is verdicts
        assert (prediction.p_value is not None) is verdicts


def test_a_flawed_photo_among_the_good_ones_is_named_by_its_place() -> None:
    photos = good("cloth", 7)
    detector = Memory(words_weight=0.0).fit(reference=[photos[0], photos[0], flawed("cloth")[0], *photos[1:]])
    assert detector.outliers_ == [2]
    assert detector.notes_ == ["1 of the good photos are the same as others and count once"]


def test_shown_shifts_are_good_as_well() -> None:
    photos, noisy = (
        good("washer", 6),
        [corrupt(p, "gaussian_noise", 2, key=f"{i}") for i, p in enumerate(good("washer", 4, 1))],
    )
    plain = Memory(words_weight=0.0).fit(reference=photos)
    proof = Memory(words_weight=0.0, shifts=("gaussian_noise:2",)).fit(reference=photos)
    alarms = [sum(bool(p.label) for p in detector.predict(noisy)) for detector in (plain, proof)]
    assert alarms[0] == 4
    assert alarms[1] <= 1
    assert proof.calibration_ is not None
    assert proof.calibration_.shifts == ("gaussian_noise:2",)
    assert all(p.label for p in proof.predict(flawed("washer")))


# What is remembered


def test_photos_are_judged_by_what_the_others_left() -> None:
    random = np.random.default_rng(0)

    def units(*shape: int) -> np.ndarray:
        rows = random.normal(size=shape).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    memory, owners = units(9, 5), np.array([0, 0, 1, 2, 1, 2, 2, 0, 1])
    one = MemoryScorer(PatchSpec(sizes=(48,), scale=(1.0,)), memories={48: memory}, owners={48: owners})
    features: Any = type("Features", (), {"patch_features": {48: units(3, 4, 5)}})
    found = one.leave_one_out(features, [2, 0, 1])[48]
    for row, photo in enumerate([2, 0, 1]):
        others = [m for m, owner in zip(memory, owners, strict=True) if owner != photo]
        for patch, query in enumerate(features.patch_features[48][row]):
            assert found[row, patch] == pytest.approx(min(1 - float(query @ m) for m in others), abs=1e-6)
    assert (found > one.distances(features)[48] - 1e-9).all()
    assert (nearest(memory, memory[:0]) == 1).all()


def test_copies_belong_to_their_photo(tiny: dict[str, Any]) -> None:
    detector = Memory(**tiny, copies=("mirrored", "turned", "brightened")).fit(reference=noise(4))
    owners = scorer(detector).owners[48]
    np.testing.assert_array_equal(np.bincount(owners), [7 * 36] * 4)  # itself, mirrored, 3 turns, 2 lights
    upright = noise(4)[0]
    plain = Memory(**tiny).fit(reference=noise(4))
    for same in (upright[:, ::-1], np.rot90(upright, 2)):
        assert logits(detector, [same])[0] < logits(plain, [same])[0] - 1
    assert detector.calibration_ is not None
    assert len(detector.calibration_.good) == 4


def test_equal_photos_count_once(tiny: dict[str, Any]) -> None:
    photos = noise(5)
    once = Memory(**tiny).fit(reference=photos)
    twice = Memory(**tiny).fit(reference=[*photos, photos[3], photos[0].copy()])
    np.testing.assert_allclose(logits(once, noise(3, 1)), logits(twice, noise(3, 1)), atol=1e-4)
    assert once.calibration_ is not None
    assert twice.calibration_ is not None
    assert twice.calibration_.good == pytest.approx(once.calibration_.good, abs=1e-4)
    assert "A memory of 5 good photos" in twice.card_
    alone = Memory(**tiny).fit(reference=[photos[0]] * 6)
    assert alone.calibration_ is None


def test_every_photo_has_noise_of_its_own(tiny: dict[str, Any]) -> None:
    grey = [np.full((40, 40, 3), level, np.uint8) for level in (100, 120, 140, 160)]
    detector = Memory(**tiny, words_weight=0.0, shifts=("gaussian_noise:3",)).fit(reference=grey)
    memory, owners = scorer(detector).memories[48], scorer(detector).owners[48]
    noisy = [memory[owners == photo][36:] for photo in range(2)]  # the first 36 patches are the photo's own
    assert np.abs(noisy[0] - noisy[1]).max(1).min() > 1e-2


def test_a_coreset_keeps_what_lies_far_from_the_rest() -> None:
    random = np.random.default_rng(0)
    rows = np.zeros((600, 16), np.float32)
    rows[:, 0] = 1
    rows += random.normal(0, 0.01, rows.shape).astype(np.float32)
    far = [17, 255, 599]
    rows[far] = np.eye(16, dtype=np.float32)[[3, 4, 5]]
    steps: list[tuple[int, int]] = []
    kept = coreset(rows, 6, 0, lambda done, of: steps.append((done, of)))
    assert set(far) <= set(kept.tolist())
    assert len(set(kept.tolist())) == 6
    assert steps[-1] == (6, 6)
    np.testing.assert_array_equal(kept, np.sort(coreset(rows, 6, 0)))
    np.testing.assert_array_equal(coreset(rows, 600, 0), np.arange(600))


def test_rows_bound_the_memory(tiny: dict[str, Any]) -> None:
    detector = Memory(**tiny, rows=50).fit(reference=noise(6))
    assert {size: len(memory) for size, memory in scorer(detector).memories.items()} == {48: 50, 80: 50}


# Other backbones, words and sizes


def test_a_backbone_without_a_stem_is_compared_at_sizes_of_its_own(tiny: dict[str, Any]) -> None:
    detector = Memory(**tiny).fit(reference=noise(4))
    assert scorer(detector).choices.sizes == (48, 80)
    assert {memory.shape[1] for memory in scorer(detector).memories.values()} == {
        feature_width(detector.backbone_)
    }
    (found,) = detector.predict(noise(1, 1), maps=True)
    assert found.map is not None
    assert found.map.shape == (10, 10)
    other = Memory(**{**tiny, "words": "clip-ensemble"}, sizes=(64, 40), object="nut").fit(reference=noise(4))
    assert scorer(other).choices.sizes == (40, 64)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sizes": (50,)}, "multiple"),
        ({"sizes": (24,)}, "at least 4 x 4 patches"),
        ({"words": "winclip"}, "must be a detector that scores embeddings by words"),
        ({"shifts": ("fog:2",)}, "there is no corruption 'fog'"),
        ({"copies": ("upside-down",)}, "copies"),
        ({"false_alarms": 1.0}, "false_alarms"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], says: str, tiny: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=says):
        Memory(**{**tiny, **settings}).fit(reference=noise(4))


# Saved


def test_the_threshold_is_saved_and_can_be_set_again(tiny: dict[str, Any], tmp_path: Path) -> None:
    detector = Memory(**tiny).fit(reference=noise(6))
    detector.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, Memory)
    assert detector.calibration_ is not None
    assert loaded.calibration_ == detector.calibration_.model_copy(
        update={"detector": read_folder(tmp_path / "saved").calibration.detector}  # type: ignore[union-attr]
    )
    np.testing.assert_allclose(logits(loaded, noise(4, 1)), logits(detector, noise(4, 1)), atol=1e-4)
    with pytest.raises(
        UsageError, match=r"^2 of the 6 good photos are those that the detector was made from"
    ):
        loaded.calibrate([*noise(6)[:2], *noise(4, 1)])
    loaded.calibrate(noise(20, 2))
    assert loaded.calibration_.rule == "conformal"
    assert not loaded.calibration_.left_out
    assert load(tmp_path / "saved", calibrated=False).calibration_ is None  # type: ignore[attr-defined]


def test_the_calibration_of_another_detector_is_refused_with_the_command(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    for seed in range(2):
        Memory(**tiny).fit(reference=noise(4, seed)).save(tmp_path / f"{seed}")
    (tmp_path / "0" / "calibration.json").write_bytes((tmp_path / "1" / "calibration.json").read_bytes())
    with pytest.raises(DetectorError, match=r"made with another detector .*: zeroflaw calibrate \S+0 --good"):
        load(tmp_path / "0")


DAMAGE = {
    "a narrow memory": lambda a, s: a.update({"memory.48": np.ascontiguousarray(a["memory.48"][:, :-1])}),
    "whole numbers": lambda a, s: a.update({"memory.48": a["memory.48"].astype(np.int64)}),
    "a flat memory": lambda a, s: a.update({"memory.48": a["memory.48"].ravel()}),
    "no owners": lambda a, s: a.pop("owner.80"),
    "few owners": lambda a, s: a.update({"owner.80": a["owner.80"][:-1]}),
    "a region that is no square": lambda a, s: a.update(inside=np.ones(7, np.int64)),
    "a region of another grid": lambda a, s: a.update(inside=np.ones(9, np.int64)),
    "an empty region": lambda a, s: a.update(inside=np.zeros(100, np.int64)),
    "words of another width": lambda a, s: a.update({"words.prompt.weight": np.zeros(7, np.float32)}),
    "other sizes": lambda a, s: s["choices"].update(sizes=[48, 4096]),
    "no sizes": lambda a, s: s["choices"].update(sizes=[], scale=[]),
    "a scale of nothing": lambda a, s: s["choices"].update(scale=[0.0, 1.0]),
    "one scale": lambda a, s: s["choices"].update(scale=[1.0]),
    "another weight": lambda a, s: s["choices"].update(words_weight=3.0),
    "no choices": lambda a, s: s.pop("choices"),
    "words of text": lambda a, s: s.update(words="rwda"),
    "another kind": lambda a, s: s.update(kind="mutual"),
}


@pytest.fixture(scope="module")
def saved_folder(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory") / "saved"
    Memory(**tiny).fit(reference=noise(4)).save(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_hostile_folders_are_refused(damage: str, saved_folder: Path, tmp_path: Path) -> None:
    saved = read_folder(saved_folder)
    arrays, spec = dict(saved.arrays), {**saved.scorer, "choices": dict(saved.scorer["choices"])}  # type: ignore[arg-type]
    DAMAGE[damage](arrays, spec)  # type: ignore[no-untyped-call]
    write_folder(tmp_path / "damaged", replace(saved, arrays=arrays, scorer=spec))
    with pytest.raises(DetectorError, match=r"save the detector again$|'scorer' in config.json") as caught:
        load(tmp_path / "damaged")
    assert "\n" not in str(caught.value)
