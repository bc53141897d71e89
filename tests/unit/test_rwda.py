"""The random-word detector: its words, its parameters, its scores; and what all detectors take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroflaw import RWDA, ClipPair, NotFittedError, UsageError, WordsError, load
from zeroflaw.runtime.heads import FNNHead
from zeroflaw.runtime.scorer import TextScorer

FAST: dict[str, Any] = {"n_pairs": 20, "epochs": 1, "hidden": (8,)}


def fitted(backbone: Path, **parameters: Any) -> RWDA:
    return RWDA(backbone=f"local-dir:{backbone}", **{**FAST, **parameters}).fit()


def pictures(count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(count)]


def test_the_network_has_the_papers_four_layers(tiny_backbone: Path) -> None:
    scorer = fitted(tiny_backbone, hidden=RWDA().hidden).scorer_
    assert isinstance(scorer, TextScorer)
    network = scorer.heads["fnn"]
    assert isinstance(network, FNNHead)
    assert [layer.weight.shape for layer in network.layers] == [(512, 24), (256, 512), (128, 256), (1, 128)]


def test_pairs_share_their_random_words(tiny_backbone: Path) -> None:
    words = fitted(tiny_backbone).words_
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


@pytest.mark.parametrize("head", ["fnn", "mean-difference", "logistic", "lda"])
def test_temperature_changes_probabilities_and_no_order(head: str, tiny_backbone: Path) -> None:
    one, other = (
        list(fitted(tiny_backbone, head=head, fusion="head", temperature=t).predict(pictures(5)))
        for t in (1.0, 0.1)
    )
    assert [a.logit * 10 for a in one] == pytest.approx([b.logit for b in other], rel=1e-2, abs=1e-3)
    assert set(one[0].scores) == {"prompt", head}


def test_fitting_and_loading_leave_the_global_generator_alone(tiny_backbone: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    fitted(tiny_backbone, dropout=0.2, normalization="batch").save(tmp_path / "saved")
    load(tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_tells_both_stages_to_their_end(tiny_backbone: Path) -> None:
    told: list[tuple[str, int, int]] = []
    RWDA(backbone=f"local-dir:{tiny_backbone}", seed=77, **FAST).fit(progress=lambda *step: told.append(step))
    assert told[-2:] == [("text embeddings", 40, 40), ("network", 1, 1)]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"hidden": 512}, "hidden must be several of"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda, mps, got 'gpu'"),
        ({"head": "fnm"}, "did you mean 'fnn'"),
        ({"fusion": "prompt+lda"}, "fusion wants"),
        ({"articles": "some"}, "articles must be one of"),
        ({"trailing_object": True, "object": "nut"}, "give only one"),
        ({"dropout": 1.0}, "dropout must be a number from 0 to 0.99, got 1.0"),
        ({"window_stride": 3}, "window_stride must be a whole number from 1 to 2, the smallest of"),
        ({"random_kind": "dictionary", "random_count": (3, 1)}, "count"),
        ({"n_pear": 3}, "did you mean 'n_pairs'"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_touched(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        RWDA(**{"backbone": "local-dir:nowhere", **parameters})


def test_windows_larger_than_the_grid_are_refused(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="6 x 6 grid, got size 7"):
        fitted(tiny_backbone, window_sizes=(7,), map_from="windows")
    with pytest.raises(UsageError, match="use map_from='windows'"):
        fitted(tiny_backbone, map_from="patches")


def test_a_learning_rate_that_blows_up_is_reported(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="smaller learning_rate"):
        fitted(tiny_backbone, learning_rate=1000.0, hidden=(64,) * 16, epochs=60, batch_size=2)


def test_lists_are_as_good_as_tuples(tiny_backbone: Path, tmp_path: Path) -> None:
    detector = fitted(tiny_backbone, normal=["fine"], hidden=[8])
    detector.save(tmp_path / "saved")
    assert load(tmp_path / "saved").get_params() == detector.get_params()


def test_one_picture_is_no_list_of_images(tiny_backbone: Path) -> None:
    detector = ClipPair(backbone=f"local-dir:{tiny_backbone}")
    image = pictures(1)[0]
    with pytest.raises(NotFittedError, match=r"must be fitted before this; call fit\(\)"):
        detector.predict([image])
    detector.fit()
    for one in ("a.png", b"", Path("a.png"), image, Image.fromarray(image)):
        with pytest.raises(UsageError, match="list of images"):
            detector.predict(one)
    with pytest.raises(UsageError, match="batch_size"):
        detector.predict([image], batch_size=1.5)  # type: ignore[arg-type]
    assert [p.source for p in detector.predict(np.stack([image, image]))] == ["image 0", "image 1"]


def test_what_a_detector_does_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rwda does not use reference images; drop --reference, or take"):
        RWDA().fit(reference=pictures(1))
    with pytest.raises(UsageError, match="keeps no checkpoint"):
        RWDA().fit(checkpoint=tmp_path / "kept")
    with pytest.raises(WordsError, match="both"):
        ClipPair(normal=("fine",), anomalous=("Fine",))
