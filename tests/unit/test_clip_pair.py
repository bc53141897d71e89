"""The presets of the prompt detector: which sentences each compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw.detectors import make


def fitted(backbone: Path, name: str, **parameters: object) -> Any:
    return make(name, backbone=f"local-dir:{backbone}", device="cpu", **parameters).fit()


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [
        ("clip", "a photo of a normal metal nut", "a photo of an anomalous metal nut"),
        ("clip-ac", "normal metal nut", "anomalous metal nut"),
    ],
)
def test_presets_of_one_pair(name: str, normal: str, anomalous: str, tiny_backbone: Path) -> None:
    told = fitted(tiny_backbone, name, object="metal_nut").words_["prompt"]
    assert told == {"normal": [normal], "anomalous": [anomalous]}
    assert fitted(tiny_backbone, name).words_["prompt"] == {
        side: [text.replace("metal nut", "object") for text in texts] for side, texts in told.items()
    }


@pytest.mark.parametrize(("name", "counts"), [("clip-ac-templates", (80, 80)), ("clip-ensemble", (154, 88))])
def test_presets_of_many_sentences(name: str, counts: tuple[int, int], tiny_backbone: Path) -> None:
    found = fitted(tiny_backbone, name, object="metal_nut").words_["prompt"]
    assert (len(set(found["normal"])), len(set(found["anomalous"]))) == counts
    assert all("metal nut" in text for side in found.values() for text in side)


def test_the_template_ensemble_is_the_mean_of_its_sentences(tiny_backbone: Path) -> None:
    detector = fitted(tiny_backbone, "clip-ac-templates")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    x = detector.backbone_.embed_images([image]).image[0].astype(np.float64)
    cosines = []
    for side in ("normal", "anomalous"):
        texts = detector.words_["prompt"][side]
        total = sum(detector.backbone_.embed_texts([text])[0].double().numpy() for text in texts)
        cosines.append(float(x @ total / np.sqrt(total @ total)))
    (found,) = detector.predict([image])
    assert found.logit == pytest.approx(detector.backbone_.logit_scale * (cosines[1] - cosines[0]), abs=1e-3)


def test_the_score_may_be_that_of_the_most_anomalous_part(tiny_backbone: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (part,), (whole,) = (
        fitted(tiny_backbone, "clip", fusion=fusion).predict([image]) for fusion in ("prompt_part", "prompt")
    )
    assert part.score == pytest.approx(part.scores["prompt_part"])
    assert abs(part.logit - whole.logit) > 1
