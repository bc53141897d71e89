"""What holds of the fits of several detectors: interrupted ones end the same, saved ones are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from short_fits import Workshop, noise
from zeroflaw import load
from zeroflaw.detectors.anomalyclip.learning import digest
from zeroflaw.errors import DetectorError, InputError, UsageError
from zeroflaw.lab.datasets import Dataset
from zeroflaw.runtime.folder import SavedDetector, read_folder, write_folder

RESUMABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "promptstyler": ("styles", {}),
    "shift-words": ("learned words", {"compared": 3}),
    "shift-words-k3": ("learned words", {"descriptions": ("bright", "dark"), "compared": 3}),
    "anomalyclip": ("epochs", {"epochs": 3}),
}


def saved_bytes(detector: Any, folder: Path) -> dict[str, bytes]:
    detector.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("name", "stop", "left"),
    [
        ("promptstyler", ("styles", 1), [2, 3]),
        ("promptstyler", ("classifier", 1), []),
        ("shift-words", ("learned words", 1), [1, 2, 3, 4, 5, 6]),  # nothing was kept yet
        ("shift-words-k3", ("learned words", 3), [3, 4, 5, 6]),
        ("shift-words", ("learned words", 6), []),
        ("anomalyclip", ("epochs", 1), [2, 3]),
        ("anomalyclip", ("epochs", 3), []),
    ],
)
def test_an_interrupted_fit_ends_with_the_same_bytes(
    name: str, stop: tuple[str, int], left: list[int], workshop: Workshop, tmp_path: Path
) -> None:
    stage, settings = RESUMABLE[name]
    whole = saved_bytes(workshop.fit(name, **settings), tmp_path / "whole")
    given = {"checkpoint": tmp_path / "kept", **workshop.given(name)}
    seen: list[tuple[str, int]] = []

    def interrupt(*step: Any) -> None:
        if step[:2] == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workshop.make(name, **settings).fit(progress=interrupt, **given)
    resumed = workshop.make(name, **settings).fit(progress=lambda *step: seen.append(step[:2]), **given)
    assert [done for what, done in seen if what == stage] == left
    assert saved_bytes(resumed, tmp_path / "resumed") == whole
    assert whole["head.safetensors"] != saved_bytes(
        workshop.fit(name, **{**settings, "seed": 1}), tmp_path / "other"
    ).get("head.safetensors")


@pytest.mark.parametrize("name", ["promptstyler", "shift-words", "anomalyclip"])
def test_a_checkpoint_of_another_fit_is_refused_before_any_work(
    name: str, workshop: Workshop, tmp_path: Path
) -> None:
    given, seen = {"checkpoint": tmp_path / "kept", **workshop.given(name)}, list[str]()
    workshop.make(name).fit(**given)
    with pytest.raises(UsageError, match="other values of seed, temperature;"):
        workshop.make(name, seed=1, temperature=0.5).fit(
            progress=lambda stage, *_: seen.append(stage), **given
        )
    assert seen == []
    link = tmp_path / "elsewhere"
    link.symlink_to(workshop.tiny)  # a backbone counts by its content
    assert workshop.make(name, backbone=f"local-dir:{link}").fit(**given).is_fitted


def test_which_parameters_and_data_a_checkpoint_belongs_to(workshop: Workshop, tmp_path: Path) -> None:
    kept = tmp_path / "words"
    workshop.make("shift-words").fit(checkpoint=kept)
    workshop.make("shift-words", most_alike=0.9999).fit(checkpoint=kept)  # no learned word depends on it
    data: Dataset = workshop.given("anomalyclip")["auxiliary"]
    less = dataclasses.replace(data, categories=data.categories[:1])
    workshop.make("anomalyclip").fit(auxiliary=data, checkpoint=tmp_path / "prompts")
    with pytest.raises(UsageError, match="other values of data;"):
        workshop.make("anomalyclip").fit(auxiliary=less, checkpoint=tmp_path / "prompts")
    gone = tuple(dataclasses.replace(record, image=Path("gone.png")) for record in data.categories[0].test)
    with pytest.raises(InputError, match=r"file 'gone\.png' does not exist"):
        digest(gone)
    folders = [dataclasses.replace(record, mask=tmp_path / "masks") for record in data.categories[0].test]
    (tmp_path / "masks").mkdir()
    before = digest(folders)
    (tmp_path / "masks" / "0.png").write_bytes(b"a mask")
    assert digest(folders) != before
    with pytest.raises(UsageError, match="keeps no checkpoint"):
        workshop.make("rwda").fit(checkpoint=kept)


# --- saved scorers

Change = Callable[[dict[str, Any], dict[str, Any]], object]  # of the arrays and of the specification


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda arrays, spec: arrays.update({name: np.ascontiguousarray(change(arrays[name]))})


def spec(**changed: Any) -> Change:
    def update(arrays: dict[str, Any], said: dict[str, Any]) -> None:
        inner = said if changed.keys() <= said.keys() else said["choices"]
        inner.update(changed)

    return update


DAMAGE: dict[str, list[Change]] = {
    "acr": [
        lambda arrays, _: arrays.pop("centre"),
        lambda arrays, _: arrays.update({"gains.9": np.ones(6, np.float32)}),
        array("centre", lambda centre: centre[:-1]),
        array("centre", lambda centre: centre.astype(np.int64)),
        spec(widths=[10**6] * 7),
        spec(widths=[32]),
        spec(block=1),
        spec(seed=-1),
    ],
    "anomalyclip": [
        spec(sigma=1.0),
        lambda arrays, _: arrays.update({"head.weight": arrays.pop("prompt.weight")}),
        array("prompt.weight", lambda weight: weight[:-1]),
    ],
    "maeday": [
        lambda arrays, _: arrays.pop("visible"),
        lambda arrays, _: arrays.update(hidden=arrays["visible"]),
        array("visible", lambda visible: visible.astype(np.float32)),
        array("visible", lambda visible: visible * 0),
        array("visible", lambda visible: visible - visible.min() - 1),
        array("visible", lambda visible: visible - visible.max() + 36),
        array("visible", lambda visible: visible[:, :8]),
        array("visible", lambda visible: visible[0]),
        spec(blur_sigma=-1.0),
        spec(blur_sigma=1.5),
    ],
    "memory": [
        array("memory.48", lambda memory: memory[:, :-1]),
        array("memory.48", np.ravel),
        lambda arrays, _: arrays.pop("owner.80"),
        lambda arrays, _: arrays.update(inside=np.ones(7, np.int64)),
        lambda arrays, _: arrays.update(inside=np.ones(9, np.int64)),
        array("words.prompt.weight", lambda weight: weight[:-1]),
        spec(sizes=[48, 4096]),
        spec(scale=[0.0, 1.0]),
        spec(words_weight=3.0),
        lambda _, said: said.pop("choices"),
    ],
    "mutual": [spec(most_partners=7), spec(most_partners="30"), spec(seed=-1), spec(share=2.0)],
    "rwda": [
        lambda arrays, _: arrays.update(
            {name: np.ascontiguousarray(arrays[name][..., :23]) for name in ("prompt.weight", "fnn.0.weight")}
        )
    ],
    "winclip-plus": [
        lambda arrays, _: arrays.pop("memory.window_3"),
        lambda arrays, _: arrays.update({"memory.window_4": arrays["memory.window_2"]}),
        array("memory.tokens", lambda tokens: tokens[:-1]),
        array("memory.tokens", lambda tokens: tokens.astype(np.int64)),
        array("memory.window_2", lambda window: window[:, :-1]),
    ],
}


@pytest.fixture(scope="module")
def saved(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SavedDetector]:
    """The content of the folder of each detector, fitted once."""
    folders = {name: tmp_path_factory.mktemp("saved") / name for name in DAMAGE}
    for name, folder in folders.items():
        workshop.fit(name).save(folder)
    return lambda name: read_folder(folders[name])


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, changes in DAMAGE.items() for number in range(len(changes))]
)
def test_saved_scorers_that_do_not_fit_are_refused(
    name: str, number: int, saved: Callable[[str], SavedDetector], tmp_path: Path
) -> None:
    content = saved(name)
    DAMAGE[name][number](content.arrays, content.scorer)
    write_folder(tmp_path / "damaged", content)
    with pytest.raises(
        DetectorError, match=r"save the detector again$|'scorer' in config\.json|'visible'"
    ) as e:
        load(tmp_path / "damaged")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_learned_is_saved(name: str, saved: Callable[[str], SavedDetector], tmp_path: Path) -> None:
    content = saved(name)
    write_folder(tmp_path / "whole", content)
    loaded: Any = load(tmp_path / "whole")
    loaded.save(tmp_path / "again")
    again = read_folder(tmp_path / "again")
    for key, value in content.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], value)
    assert (again.scorer, again.words, again.card) == (content.scorer, content.words, content.card)


# --- refusals and progress


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("rwda", {"fusion": "prompt+lda"}, "fusion wants A, B or scores out of prompt, fnn"),
        ("rwda", {"trailing_object": True, "object": "nut"}, "give only one"),
        ("rwda", {"window_stride": 3}, "window_stride must be a whole number from 1 to 2, the smallest of"),
        ("rwda", {"random_kind": "dictionary", "random_count": (3, 1)}, "count"),
        ("rwda", {"n_pear": 3}, "did you mean 'n_pairs'"),
        ("rwda", {"map_from": "patches"}, "use map_from='windows'"),
        ("rwda", {"window_sizes": (7,)}, "6 x 6 grid, got size 7"),
        ("rwda", {"learning_rate": 1000.0, "hidden": (64,) * 16, "epochs": 60}, "smaller learning_rate"),
        ("clip", {"normal": ("fine",), "anomalous": ("Fine",)}, "in both"),
        ("winclip", {"templates": ("a photo",)}, r"must hold \{\} exactly once"),
        ("promptstyler", {"fusion": "fnn"}, "fusion wants A, B or scores out of prompt, style"),
        ("promptstyler", {"style_length": 74 - 4, "object": "a " * 20 + "nut"}, "77 tokens"),
        ("shift-words", {"losses": ()}, "no loss is left"),
        ("shift-words", {"losses": ("knowledge",), "reading": "mixtures"}, "no loss is left"),
        ("shift-words", {"losses": ("knowledge",), "mixture_weight": 0}, "use steps=0"),
        (
            "shift-words",
            {"reading": "descriptions", "n_distribution": 3},
            "more than n_distribution=3, got 7",
        ),
        ("shift-words", {"reading": "mixtures", "descriptions": ("bright",)}, "at least 2 descriptions"),
        ("shift-words", {"reading": "descriptions", "descriptions": ("a", " ")}, "a description must not be"),
        ("shift-words", {"semantic_anomalous": ("{}.",)}, "share a phrase"),
        ("shift-words", {"objects": ("metal_nut", "Metal nut")}, "each entry once"),
        ("shift-words", {"prefix": "a {} of"}, "exactly once"),
        ("shift-words", {"n_diversity": 50_000, "n_distribution": 50}, "may make 1,000,000 pairs"),
        ("anomalyclip", {"image_size": 50}, "multiple of 8"),
        ("anomalyclip", {"value_blocks": 3}, "may have 1 to 2 blocks, got 3"),
        ("anomalyclip", {"map_layers": (1,), "value_blocks": 1}, "runs through the blocks 2 to 2"),
        ("anomalyclip", {"deep_depth": 3}, "deep tokens for at most 1 blocks"),
        ("anomalyclip", {"deep_tokens": 13}, "deep_tokens must be at most 12"),
        ("anomalyclip", {"n_ctx": 100}, "a prompt may have 77 tokens"),
        ("anomalyclip", {"image_loss": False, "map_weight": 0.0}, "at least one of image_loss"),
        ("anomalyclip", {"feature_memory": 0.001, "image_size": 4096}, "would take .* GiB.*feature_memory"),
        ("maeday", {"blur_kernel": 4}, "blur_kernel must be odd"),
        ("maeday", {"masks": 1}, "use more masks"),
        ("maeday", {"backbone": "mini"}, r"weights with a decoder are needed.*local-dir:FOLDER"),
        ("memory", {"sizes": (24,)}, "at least 4 x 4 patches"),
        ("memory", {"words": "winclip"}, "must be a detector that scores embeddings by words"),
        ("memory", {"shifts": ("fog:2",)}, "there is no corruption 'fog'"),
        ("memory", {"roi": "0,0 9,0 9,9", "ignore": "0,0 60,0 60,60 0,60"}, "leave nothing of the photos"),
    ],
)
def test_parameters_that_cannot_do_are_refused(
    name: str, settings: dict[str, Any], says: str, workshop: Workshop
) -> None:
    with pytest.raises(UsageError, match=says):
        workshop.fit(name, **settings)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("rwda", [("text embeddings", 80, 80), ("network", 2, 2)]),
        ("promptstyler", [("styles", 3, 3), ("classifier", 2, 2)]),
        ("shift-words", [("learned words", 6, 6), ("text embeddings", 56, 56), ("network", 2, 2)]),
        ("anomalyclip", [("image features", 12, 12), ("epochs", 2, 2)]),
        ("acr", [("embedding", 6, 6), ("training", 2, 2)]),
        ("winclip-plus", [("reference images", 5, 5)]),
        ("memory", [("good photos", 5, 5)]),
    ],
)
def test_progress_tells_all_stages_to_their_ends(
    name: str, ends: list[tuple[str, int, int]], workshop: Workshop
) -> None:
    told: list[tuple[str, int, int]] = []
    workshop.make(name, seed=77).fit(progress=lambda *step: told.append(step), **workshop.given(name))
    assert [step for step in told if step[1] == step[2]] == ends


def test_features_are_shared_only_where_they_are_the_same(workshop: Workshop) -> None:
    changes: dict[str, dict[str, Any]] = {
        "anomalyclip": {
            "image_size": 64,
            "value_blocks": 1,
            "map_layers": (2,),
            "class_norm": True,
            "interpolation": "bicubic",
            "dtype": "bfloat16",
        },
        "maeday": {
            "seed": 1,
            "masks": 31,
            "mask_ratio": 0.7,
            "mask_drawing": "balanced",
            "error": "all",
            "targets": "pixels",
            "dtype": "bfloat16",
        },
    }
    same = {"anomalyclip": {"sigma": 1.0, "seed": 4, "n_ctx": 4}, "maeday": {"blur_sigma": 0.0}}
    for name, changed in changes.items():
        plain = workshop.make(name).feature_key
        keys = {workshop.make(name, **{key: value}).feature_key for key, value in changed.items()}
        assert len(keys | {plain}) == 1 + len(changed)
        assert workshop.make(name, **same[name]).feature_key == plain
    tiled = workshop.fit("winclip", non_square="tile")
    assert tiled.feature_key != workshop.fit("winclip").feature_key == workshop.fit("rwda").feature_key
    assert tiled.feature_key == workshop.fit("winclip-plus", non_square="tile").feature_key
    assert len(tiled.embed(noise(2, (20, 50)), tiled.request(False)).image) == 2 * 3
