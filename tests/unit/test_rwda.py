"""The random-word detector: its words, its parameters, its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroflaw import RWDA, ClipPair, UsageError, WordsError, load
from zeroflaw.detectors.heads import FNN

FAST: dict[str, Any] = {"n_pairs": 20, "epochs": 1, "hidden": (8,)}


def fitted(backbone: Path, **parameters: Any) -> RWDA:
    return RWDA(backbone=f"local-dir:{backbone}", **{**FAST, **parameters}).fit()


def pictures(count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(count)]


def test_the_network_has_the_papers_four_layers() -> None:
    layers = [layer for layer in FNN(24).layers if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (24, 512),
        (512, 256),
        (256, 128),
        (128, 1),
    ]


def test_pairs_share_their_random_words(tiny_backbone: Path) -> None:
    words = fitted(tiny_backbone).words_
    assert words is not None
    assert len(words["pairs"]) == len(set(words["pairs"])) == 20
    first = words["pairs"][0]
    assert words["example"] == {
        "normal": f"a photo of a normal {first}",
        "anomalous": f"a photo of an anomalous {first}",
    }
    assert words["prompt"] == {
        "normal": ["a photo of a normal object"],
        "anomalous": ["a photo of an anomalous object"],
    }


def test_a_known_object_is_in_every_prompt(tiny_backbone: Path) -> None:
    words = fitted(tiny_backbone, object="metal_nut").words_
    assert words is not None
    assert words["example"]["normal"] == f"a photo of a normal {words['pairs'][0]} metal nut"
    assert words["prompt"]["normal"] == ["a photo of a normal metal nut"]


def test_readings_of_the_fusion(tiny_backbone: Path) -> None:
    (a,) = fitted(tiny_backbone).predict(pictures(1))
    assert set(a.scores) == {"prompt", "fnn"}
    assert a.score == pytest.approx((a.scores["prompt"] + a.scores["fnn"]) / 2)
    (b,) = fitted(tiny_backbone, fusion="B").predict(pictures(1))
    assert b.score == pytest.approx((b.scores["prompt"] + b.scores["prompt_part"] + b.scores["fnn"]) / 3)
    (weighted,) = fitted(tiny_backbone, fusion="prompt=1,fnn=3").predict(pictures(1))
    assert weighted.score == pytest.approx(0.25 * a.scores["prompt"] + 0.75 * a.scores["fnn"], abs=1e-6)


def test_a_part_score_is_the_highest_value_of_its_map(tiny_backbone: Path) -> None:
    detector = fitted(tiny_backbone, fusion="head_part", image_in_map=False)
    (found,) = detector.predict(pictures(1), maps=True)
    assert found.map is not None
    assert found.score == pytest.approx(float(found.map.max()), abs=1e-6)


def test_temperature_changes_probabilities_and_no_order(tiny_backbone: Path) -> None:
    one, other = (
        list(fitted(tiny_backbone, fusion="fnn", temperature=t).predict(pictures(5))) for t in (1.0, 0.01)
    )
    assert [a.logit * 100 for a in one] == pytest.approx([b.logit for b in other], rel=1e-4)


def test_fitting_and_loading_leave_the_global_generator_alone(tiny_backbone: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    fitted(tiny_backbone, dropout=0.2, normalization="batch").save(tmp_path / "saved")
    load(tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"hidden": 512}, "hidden must be several of"),
        ({"window_sizes": 2}, "window_sizes must be several of"),
        ({"fusion": None}, "fusion must be text"),
        ({"backbone": Path("x")}, "backbone must be text"),
        ({"seed": True}, "seed must be a whole number"),
        ({"head": "fnm"}, "did you mean 'fnn'"),
        ({"articles": "some"}, "articles must be one of"),
        ({"trailing_object": True, "object": "nut"}, "give only one"),
        ({"learning_rate": -1.0}, "learning_rate must be a number from"),
        ({"dropout": 1.0}, "dropout"),
        ({"window_stride": 5}, "window_stride"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_touched(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        RWDA(**{"backbone": "local-dir:nowhere", **parameters}).fit()


def test_a_learning_rate_that_blows_up_is_reported(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="smaller learning_rate"):
        fitted(tiny_backbone, learning_rate=1000.0, hidden=(64,) * 16, epochs=60, batch_size=2)


def test_lists_are_as_good_as_tuples(tiny_backbone: Path, tmp_path: Path) -> None:
    detector = fitted(tiny_backbone, normal=["fine"], hidden=[8])
    detector.save(tmp_path / "saved")
    assert load(tmp_path / "saved").get_params() == detector.get_params()


def test_one_picture_is_no_list_of_images(tiny_backbone: Path) -> None:
    detector = ClipPair(backbone=f"local-dir:{tiny_backbone}").fit()
    image = pictures(1)[0]
    for one in ("a.png", b"", Path("a.png"), image, Image.fromarray(image)):
        with pytest.raises(UsageError, match="list of images"):
            detector.predict(one)
    with pytest.raises(UsageError, match="batch_size"):
        detector.predict([image], batch_size=1.5)  # type: ignore[arg-type]
    assert len(list(detector.predict(np.stack([image, image])))) == 2


def test_the_same_phrase_on_both_sides_is_refused() -> None:
    with pytest.raises(WordsError, match="both"):
        ClipPair(normal=("fine",), anomalous=("Fine",)).fit()


def test_a_kind_that_is_not_ready_cannot_be_loaded() -> None:
    with pytest.raises(UsageError, match="fit and save it"):
        load("clip")
